"""A plot of recall and MABO against the number of proposals, for several engines."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.files import write_atomically

# Wong's palette (Nature Methods 2011): distinguishable with any colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


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
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks: names come from anywhere
        figure.savefig(content, format="png", dpi=100)
    write_atomically(path, content.getvalue())
