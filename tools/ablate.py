"""The paper's comparisons as tables, on any data set.

    python tools/ablate.py proposals --data VOC2012 --split val --multibox multibox.safetensors
    python tools/ablate.py proposals --data VOC2012 --images 60 --weights runs/voc/bundle

`proposals` is section 8 of arXiv 1409.4842: selective search, superpixels doubled, 200 regions of
MultiBox added back. With --weights the mAP too; scores of regions are kept under --out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.reporting.cli import new_app, run_tool

if TYPE_CHECKING:
    from rich.table import Table


def proposals(
    data: Annotated[Path, typer.Option(help="Data set: folder, COCO .json or YOLO .yaml.")],
    split: Annotated[str | None, typer.Option(help="Which part, such as val.")] = None,
    multibox: Annotated[
        Path | None, typer.Option(help="MultiBox weights. [those of the package, if any]")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, evenly spaced.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Bundle, for the mAP. [no mAP]")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for ablation.json.")] = Path("out"),
) -> int:
    """Boxes, coverage and MABO with and without doubled superpixels and MultiBox."""
    from ablations.proposals import mean_precision, measured, propose_all, rows_of

    from detector.datasets import read_dataset
    from detector.errors import ImageError
    from detector.files import write_atomically
    from detector.proposals.engines import warm_up
    from detector.proposals.multibox.predict import SHIPPED
    from detector.reporting.progress import progress

    dataset = read_dataset(data, split)
    dataset = dataset if images is None else dataset.subset(images)
    if multibox is None and not SHIPPED.is_file():
        print("no MultiBox weights: its rows are left out; give --multibox FILE", file=sys.stderr)
    named = str(multibox) if multibox else "" if SHIPPED.is_file() else None
    rows = rows_of(named, threads)
    warm_up("selective-search", lambda said: print(said, file=sys.stderr))
    read = list(progress(propose_all(dataset, rows), "propose", len(dataset), quiet))
    if not any(read):
        raise ImageError(f"{dataset.name}: none of its {len(read)} images could be read")
    judged = dataset.subset(rows[0].found)
    results = [measured(judged, row) for row in rows]
    if weights is not None:
        for row, result in zip(rows, results, strict=True):
            label = f"score: {row.name}"
            result["mAP"] = mean_precision(
                judged, row, weights, threads, out,
                lambda scored, label=label: progress(scored, label, len(judged), quiet),  # type: ignore[misc]
            )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    whole = {"data": dataset.name, "images": len(judged), "rows": results}
    write_atomically(out / "ablation.json", json.dumps(whole, indent=1) + "\n")
    show(whole)
    return int(not all(read))


def show(whole: dict[str, Any]) -> None:
    from rich.console import Console

    print(f"{whole['images']} images of {whole['data']}; in brackets what the paper says of ILSVRC")
    Console(markup=False, highlight=False).print(table_of(whole["rows"]))


def table_of(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("regions", box=None, header_style="bold")
    titles = ["boxes", "coverage", "MABO", "s/image"] + (["mAP"] if "mAP" in rows[0] else [])
    for title in titles:
        table.add_column(title, justify="right")
    for row in rows:
        said = {key: f" ({value})" for key, value in row["paper"].items()}
        cells = [
            f"{row['boxes']:,.0f}{said.get('boxes', '')}",
            f"{row['coverage']:.1%}{said.get('coverage', '')}",
            f"{row['mabo']:.3f}",
            f"{row['seconds']:.3f}",
        ]
        if "mAP" in row:
            cells.append(f"{100 * row['mAP']:.1f}{said.get('mAP', '')}")
        table.add_row(row["name"], *cells)
    return table


def command_line() -> typer.Typer:
    app = new_app("The paper's comparisons as tables.")
    app.callback()(lambda: None)
    app.command("proposals")(proposals)
    return app


if __name__ == "__main__":
    run_tool(command_line())
