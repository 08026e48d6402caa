"""Halve a data set so that every class occurs about equally often: R-CNN's val1 and val2.

    python tools/split.py --data ILSVRC --split val --out lists/

Writes lists/val1.txt and lists/val2.txt (image and number in a line). `--split val1` of ILSVRC
makes the same halves by itself; put the lists into ImageSets/DET to save it the search.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from common import options as option

from detector.reporting.cli import alone_in_out, counted, run_tool
from detector.seeds import LARGEST

if TYPE_CHECKING:
    from detector.datasets import Dataset
    from detector.structures import Array


@alone_in_out
def main(
    data: option.Data,
    out: Annotated[Path, typer.Option(help="Folder of the two lists.")],
    split: option.Split = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST, help="Of the search.")] = 0,
    candidates: Annotated[int, typer.Option(min=1, help="Splits to choose from.")] = 4,
) -> None:
    """Write two balanced halves, and say how balanced they are."""
    from detector.datasets import read_dataset
    from detector.datasets.balanced_split import balanced_halves, class_counts
    from detector.files import write_atomically

    dataset = read_dataset(data, split)
    halves = balanced_halves(class_counts(dataset), seed, candidates)
    out.mkdir(parents=True, exist_ok=True)
    stem = dataset.name.rpartition("/")[2]
    for number, mine in ((1, halves.first), (2, ~halves.first)):
        write_atomically(out / f"{stem}{number}.txt", listing(dataset, mine))
    worst = dataset.classes[halves.worst]
    typer.echo(
        f"{halves.first.sum()} and {counted((~halves.first).sum(), 'image')} of {dataset.name}"
    )
    typer.echo(
        f"relative imbalance of a class: at most {100 * halves.largest:.1f} % ({worst}), "
        f"median {100 * halves.median:.1f} %"
    )


def listing(dataset: Dataset, mine: Array) -> str:
    rows = zip(dataset.samples, dataset.indices(), mine, strict=True)
    return "".join(f"{sample.image_id} {index}\n" for sample, index, here in rows if here)


if __name__ == "__main__":
    run_tool(main)
