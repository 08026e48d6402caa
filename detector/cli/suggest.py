"""Suggest which unlabelled photographs to label next: uncertain ones, different from each other.

    inception-rcnn suggest photos/ --weights with_mugs --out todo --labelled few_images/
    inception-rcnn fit --refine mug --data corrected/ --weights with_mugs --out with_mugs

OUT gets suggested.txt, the paths with the most useful one first, and what the detector finds there
as detections.json (COCO's layout). Labels from which a tool begins:

    inception-rcnn detect - --format cvat --weights with_mugs --out todo < todo/suggested.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out

LIST = "suggested.txt"


@exclusive_out
def main(
    images: Annotated[list[str], typer.Argument(help="Photographs, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the list and the detections.")],
    weights: option.Weights = None,
    count: Annotated[int, typer.Option(min=1, help="Number of photographs.")] = 20,
    classes: Annotated[
        list[str], typer.Option("--class", help="Class that is learnt; may repeat. [added ones]")
    ] = [],  # noqa: B006
    labelled: Annotated[
        list[str], typer.Option(help="Photographs with labels, or their folder; may repeat.")
    ] = [],  # noqa: B006
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    threads: option.Threads = None,
    quiet: option.Quiet = False,
) -> None:
    """Suggest which photographs to label next."""
    from detector.cli.detecting.loading import announce_compiling
    from detector.detection.bundle import read_manifest
    from detector.detection.load import SHIPPED
    from detector.files import write_atomically
    from detector.images.paths import short_names
    from detector.results.coco_json import FILE, detection_rows, write_detections
    from detector.training.heads.suggest import suggest

    announce_compiling(quiet)
    out.mkdir(parents=True, exist_ok=True)
    chosen = suggest(
        images, out / "cache", count=count, classes=classes, labelled=labelled, bundle=weights,
        device=device, precision=precision, threads=threads, quiet=quiet,
    )  # fmt: skip
    least = read_manifest(weights or SHIPPED).thresholds.score_threshold
    names = short_names([one.path for one in chosen])
    rows = []
    for number, (one, name) in enumerate(zip(chosen, names, strict=True), start=1):
        found = one.detections.filter(score=least)
        rows += detection_rows(number, name, found, found.classes)
        if not quiet:
            typer.echo(f"{one.uncertainty:7.2f}  {one.path}")
    write_detections(out / FILE, rows)
    write_atomically(out / LIST, "".join(f"{one.path}\n" for one in chosen))
    typer.echo(f"wrote {out / LIST} and {out / FILE}")
