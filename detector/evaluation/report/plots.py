"""Plots of results: precision against recall, and what proposals cover."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.evaluation.result import CURVE_POINTS, ClassResult, Evaluation
from detector.files import write_atomically
from detector.images.lettering import file_for, runs_from_the_right

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Wong's palette (Nature Methods 2011): distinguishable with any colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_COLUMNS = 5
_MAX_PANELS = 40  # beyond, panels are too small to read: the classes with the most objects stay


def plot_precision_recall(evaluation: Evaluation, path: str | Path) -> None:
    """One small panel a class, best first: the curve as measured and its envelope, as a PNG."""
    from matplotlib.figure import Figure

    shown = _shown(evaluation.per_class)
    columns = min(_COLUMNS, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    width, height = 2.6 * columns, 2.4 * rows + 0.6
    figure = Figure(figsize=(width, height))
    # Margins in inches; letting the layout engine find them takes seconds with many panels.
    figure.subplots_adjust(
        left=0.7 / width,
        right=1 - 0.15 / width,
        bottom=0.6 / height,
        top=1 - 0.65 / height,
        wspace=0.12,
        hspace=0.22,
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    number = {one.name: place for place, one in enumerate(evaluation.per_class, 1)}
    for panel, one in zip(panels.flat, shown, strict=False):
        _draw(panel, one, number[one.name])
    for position, panel in enumerate(panels.flat):
        if position >= len(shown):
            panel.set_axis_off()
        elif position + columns >= len(shown):  # the lowest of its column
            panel.tick_params(labelbottom=True)
    figure.supxlabel("recall", y=0.12 / height)
    figure.supylabel("precision", x=0.12 / width)
    figure.suptitle(f"mAP {100 * evaluation.mean_ap:.1f} ({evaluation.protocol})", fontsize=11)
    _save(figure, path)


def _shown(classes: tuple[ClassResult, ...]) -> list[ClassResult]:
    with_objects = [one for one in classes if one.positives]
    most = sorted(with_objects, key=lambda one: -one.positives)[:_MAX_PANELS]
    return sorted(most, key=lambda one: -one.ap)


def _draw(panel: Axes, one: ClassResult, number: int) -> None:
    from matplotlib.font_manager import FontProperties

    panel.plot(one.recall, one.precision, linewidth=0.8, color="#9aa7b8")
    panel.plot(CURVE_POINTS, one.curve(), linewidth=1.6, color="#1f4e8c")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1.03)
    panel.grid(linewidth=0.3)
    # Matplotlib orders and joins no letters by itself, so what runs from the right is a number.
    file = None if runs_from_the_right(one.name) else file_for(one.name)
    name = f"#{number}" if file is None else one.name
    font = FontProperties(fname=file or None, size=9)
    panel.set_title(f"{name}  {100 * one.ap:.1f}", fontproperties=font, parse_math=False)


def plot_coverage(summaries: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Draw Coverage summaries by engine name as a PNG: recall at 0.5 and 0.7 left, MABO right."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for position, (name, summary) in enumerate(summaries.items()):
        colour = _COLOURS[position % len(_COLOURS)]
        boxes = summary["boxes_per_image"]
        label = name if len(name) <= 60 else name[:57] + "..."
        left.plot(boxes, summary["recall_0.5"], color=colour, marker=".", label=label)
        left.plot(boxes, summary["recall_0.7"], color=colour, marker=".", linestyle="--")
        right.plot(boxes, summary["mabo"], color=colour, marker=".", label=label)
    for panel, title in (
        (left, "recall at IoU 0.5 (solid) and 0.7 (dashed)"),
        (right, "mean average best overlap"),
    ):
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))  # 1,000, not a power of ten
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_ylim(0, 1)
        panel.set_xlabel("boxes an image")
        panel.set_title(title, fontsize=10)
        panel.grid(linewidth=0.3, which="both")
    right.legend(fontsize=8, loc="lower right")
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks: names come from anywhere
        figure.savefig(content, format="png", dpi=100)
    write_atomically(path, content.getvalue())
