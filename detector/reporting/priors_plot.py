"""The quality of priors against their number."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.files import write_atomically


def plot_priors(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """A PNG from rows of tools/fit_priors.py: free priors as a line, those on grids as a point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.2), layout="constrained")
    panel = figure.subplots()
    free = [row for row in rows if row["kind"] == "free"]
    for key, colour, label in (
        ("mean_best_iou", "#0072b2", "mean best IoU"),
        ("recall_0.5", "#d55e00", "share of boxes with IoU 0.5"),
    ):
        numbers = [row["priors"] for row in free]
        panel.plot(numbers, [row[key] for row in free], color=colour, marker=".", label=label)
        grids = [row for row in rows if row["kind"] != "free"]
        panel.plot(
            [row["priors"] for row in grids], [row[key] for row in grids],
            color=colour, marker="s", linestyle="none", label=f"{label}, on grids",
        )  # fmt: skip
    panel.set_xscale("log")
    panel.set_ylim(0, 1)
    panel.set_xlabel("priors")
    panel.grid(linewidth=0.3, which="both")
    panel.legend(fontsize=8, loc="lower right")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    write_atomically(path, content.getvalue())
