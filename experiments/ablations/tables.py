"""What experiments/ablate.py writes and prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ablations.inception_table import table_of as inception_table
from detector.files import write_atomically


def write_table(out: Path, whole: dict[str, Any]) -> None:
    """Leave a table as ablation.json in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "ablation.json", json.dumps(whole, indent=1) + "\n")


def show_inception(whole: dict[str, Any]) -> None:
    """The steps from Inception-v2 to v3."""
    print(
        f"{whole['images']} images of {whole['judged']}, one central crop; errors in per cent,"
        f" mean (lowest to highest) of seeds {', '.join(map(str, whole['seeds']))};"
        " step: against the row above; paper: ILSVRC 2012"
    )
    Console(markup=False, highlight=False, width=160).print(inception_table(whole["rows"]))


def show_detection(whole: dict[str, Any]) -> None:
    """Rows of networks and rules, each against the first."""
    print(f"{whole['images']} images of {whole['data']}; mAP by VOC2012's rule")
    table = Table("row", box=None, header_style="bold")
    for title in ("boxes", "mAP", "95 %", "against the first", "paper (ILSVRC)"):
        table.add_column(title, justify="right")
    for row in whole["rows"]:
        low_high, gain = row.get("interval"), row.get("gain")
        table.add_row(
            row["name"],
            f"{row['boxes']:,.0f}",
            f"{100 * row['mAP']:.1f}",
            f"{100 * low_high[0]:.1f} to {100 * low_high[1]:.1f}" if low_high else "",
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * v for v in gain)) if gain else "",
            row["paper"],
        )
    Console(markup=False, highlight=False, width=140).print(table)


def show_proposals(whole: dict[str, Any]) -> None:
    """Ways to propose, beside the paper's figures."""
    print(
        f"{whole['images']} images of {whole['data']}; in brackets what the paper says of ILSVRC;"
        " below, where it was resampled, the 95 % interval, and the difference from the first row"
        " (of those with a budget: from all of their kind)"
    )
    Console(markup=False, highlight=False, width=120).print(proposals_table(whole["rows"]))


def proposals_table(rows: list[dict[str, Any]]) -> Table:
    """A line for each figure, and below it the bounds that it has."""
    table = Table("regions", box=None, header_style="bold")
    titles = ["boxes", "coverage", "MABO", "s/image"] + (["mAP"] if "mAP" in rows[0] else [])
    for title in titles:
        table.add_column(title, justify="right")
    for row in rows:
        said = {key: f" ({value})" for key, value in row["paper"].items()}
        cells = [
            f"{row['boxes']:,.0f}{said.get('boxes', '')}",
            f"{row['coverage']:.1%}{said.get('coverage', '')}{bounds_of(row, 'coverage')}",
            f"{row['mabo']:.3f}",
            f"{row['seconds']:.3f}",
        ]
        if "mAP" in row:
            cells.append(f"{100 * row['mAP']:.1f}{said.get('mAP', '')}{bounds_of(row, 'mAP')}")
        table.add_row(row["name"], *cells)
    return table


def bounds_of(row: dict[str, Any], what: str) -> str:
    """The interval of a row's figure, and on another line what it has over the first row's."""
    interval, gain = row.get(f"{what}_interval"), row.get(f"{what}_gain")
    text = "\n{:.1f} to {:.1f}".format(*(100 * v for v in interval)) if interval else ""
    if gain:
        text += "\n{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * v for v in gain))
    return text
