"""The tables that experiments/ablate.py writes and prints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ablations.inception_table import table_of as inception_table
from detector.files import write_atomically


def write_table(out: Path, whole: dict[str, Any]) -> None:
    """Write a table as ablation.json in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "ablation.json", json.dumps(whole, indent=1) + "\n")


def show_inception(whole: dict[str, Any]) -> None:
    """Print the steps from Inception-v2 to v3."""
    print(
        f"{whole['images']} images of {whole['judged']}, one central crop; errors in per cent,"
        f" mean (lowest to highest) of seeds {', '.join(map(str, whole['seeds']))};"
        " step: against the row above; paper: ILSVRC 2012"
    )
    Console(markup=False, highlight=False, width=160).print(inception_table(whole["rows"]))


def show_detection(whole: dict[str, Any]) -> None:
    """Print rows of networks and rules, each against the first."""
    print(f"{whole['images']} images of {whole['data']}; mAP by VOC2012's rule")
    rows = [
        (row["name"], f"{row['boxes']:,.0f}", f"{100 * row['mAP']:.1f}",
         interval_of(row.get("interval")), gain_of(row.get("gain")), row["paper"])
        for row in whole["rows"]
    ]  # fmt: skip
    show("row", ("boxes", "mAP", "95 %", "against the first", "paper (ILSVRC)"), rows)


def show_proposals(whole: dict[str, Any]) -> None:
    """Print ways to propose beside the paper's figures, with the bounds below each figure."""
    print(
        f"{whole['images']} images of {whole['data']}; in brackets what the paper says of ILSVRC;"
        " below, where it was resampled, the 95 % interval, and the difference from the first row"
        " (of those with a budget: from all of their kind)"
    )
    rows = []
    for row in whole["rows"]:
        said = {key: f" ({value})" for key, value in row["paper"].items()}
        coverage = [f"{row['coverage']:.1%}{said.get('coverage', '')}"]
        bounds = interval_of(row.get("coverage_interval")), gain_of(row.get("coverage_gain"))
        rows.append(
            (row["name"], f"{row['boxes']:,.0f}{said.get('boxes', '')}",
             "\n".join([*coverage, *filter(None, bounds)]), f"{row['mabo']:.3f}",
             f"{row['seconds']:.3f}")
        )  # fmt: skip
    show("regions", ("boxes", "coverage", "MABO", "s/image"), rows)


def show(head: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Without markup: names of rows are the user's, and may have brackets.
    table = Table(head, box=None, header_style="bold")
    for title in titles:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False, width=140).print(table)


def interval_of(bounds: Sequence[float] | None) -> str:
    return "{:.1f} to {:.1f}".format(*(100 * v for v in bounds)) if bounds else ""


def gain_of(gain: Sequence[float] | None) -> str:
    """A difference with its bounds."""
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * v for v in gain)) if gain else ""
