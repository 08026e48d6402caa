"""How well priors alone cover annotated boxes, by their number: k-means of corners, and grids.

    python tools/fit_priors.py --data VOC2012 --split train --out out
    python tools/fit_priors.py --boxes voc2007.txt --boxes voc2012.txt --data VOC2012 --out out

Half of the images give the priors and the other half judges them: the mean over its boxes of the
best IoU with any prior, and the share of boxes with at least 0.5. Prints a table and writes
priors.json and priors.png. Lists of boxes (`name x1 y1 x2 y2 class ...`) do not know how large
their images are: sizes come from --data where it has the image, else from common frames.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.reporting.cli import alone_in_out, counted, run_tool
from detector.seeds import LARGEST

if TYPE_CHECKING:
    from detector.structures import Array


@alone_in_out
def main(
    data: Annotated[list[Path], typer.Option(help="Data set; may repeat.")] = [],  # noqa: B006
    split: Annotated[str | None, typer.Option(help="Split of every --data.")] = None,
    boxes: Annotated[list[Path], typer.Option(help="List of boxes; may repeat.")] = [],  # noqa: B006
    counts: Annotated[str, typer.Option(help="Numbers of free priors.")] = (
        "50,100,200,400,800,1420"
    ),
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST, help="Of k-means and of the halves.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for priors.json and priors.png.")] = Path("out"),
) -> int:
    """Report the quality of priors against their number."""
    import numpy as np

    from detector.files import write_atomically
    from detector.proposals.multibox.priors import best_overlaps, free_priors, grid_priors
    from detector.reporting.priors_plot import plot_priors
    from detector.reporting.progress import progress

    if not data and not boxes:
        raise typer.BadParameter("give --data FOLDER or --boxes FILE")
    numbers = numbers_of(counts)
    groups, known = all_boxes(data, split, boxes)
    order = np.random.default_rng(seed).permutation(len(groups))
    learn, judge = (
        np.concatenate([np.zeros((0, 4)), *(groups[i] for i in half)])
        for half in (order[::2], order[1::2])
    )
    judge = judge if len(judge) else learn
    rows: list[dict[str, Any]] = []
    for count in progress([*numbers, None], "k-means", quiet=quiet):
        made = grid_priors(learn, seed=seed) if count is None else free_priors(
            learn, count, seed=seed
        )  # fmt: skip
        best = best_overlaps(judge, made.boxes)
        kind = "on grids" if count is None else "free"
        rows.append(
            {"kind": kind, "priors": len(made), "mean_best_iou": float(best.mean()),
             "recall_0.5": float((best >= 0.5).mean())}
        )  # fmt: skip
    about = {"images": len(groups), "sizes_known": known, "learnt_from": len(learn),
             "judged_by": len(judge)}  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "priors.json", json.dumps({**about, "priors": rows}, indent=1) + "\n")
    plot_priors(rows, out / "priors.png")
    show(about, rows)
    return 0


def numbers_of(counts: str) -> list[int]:
    try:
        numbers = [int(one) for one in counts.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise typer.BadParameter(f"--counts {counts}: expected numbers of at least 1")
    return numbers


def all_boxes(data: list[Path], split: str | None, lists: list[Path]) -> tuple[list[Array], int]:
    """Boxes as fractions, image by image, and of how many images the size is known. Of an image of
    a data set that is listed, too, the boxes are the list's.
    """
    from detector.datasets import read_dataset
    from detector.datasets.box_lists import fractions, read_box_list
    from detector.images import read_image
    from detector.training.view_batches import object_fractions

    samples = [one for path in data for one in read_dataset(path, split).samples]
    sizes = [one.size or read_image(one.path).shape[:2] for one in samples]
    size_of = {one.path.stem: size for one, size in zip(samples, sizes, strict=True)}
    boxes = {name: found for path in lists for name, found in read_box_list(path).items()}
    listed = {name: fractions({name: found}, size_of) for name, found in boxes.items()}
    groups = [
        listed.pop(one.path.stem) if one.path.stem in listed else object_fractions(one, size)
        for one, size in zip(samples, sizes, strict=True)
    ]
    return [*groups, *listed.values()], len(samples)


def show(about: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    print(
        f"{counted(about['images'], 'image')} ({about['sizes_known']} of known size): priors from"
        f" {counted(about['learnt_from'], 'box')}, judged by {counted(about['judged_by'], 'other')}"
    )
    table = Table("priors", box=None, header_style="bold")
    for title in ("number", "mean best IoU", "boxes with IoU 0.5"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row["kind"], f"{row['priors']:,}", f"{row['mean_best_iou']:.3f}",
            f"{row['recall_0.5']:.1%}",
        )  # fmt: skip
    Console(markup=False, highlight=False).print(table)


if __name__ == "__main__":
    run_tool(main)
