"""Suggest which unlabelled photographs to label next: uncertain ones, different from each other.

    inception-rcnn suggest photos/ --weights with_mugs --out todo --labelled few_images/
    inception-rcnn fit --refine mug --data corrected/ --weights with_mugs --out with_mugs

OUT gets suggested.txt, the paths with the most useful one first, and what the detector finds there
as detections.json (COCO's layout) and, with --format, as labels for a tool to begin from.
"""

from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out
from detector.files import write_atomically
from detector.progress.messages import say

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
    format: Annotated[
        str | None, typer.Option(help="Label files: yolo, voc, coco, labelme, label-studio, cvat.")
    ] = None,
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    threads: option.Threads = None,
    quiet: option.Quiet = False,
) -> None:
    """Suggest which photographs to label next."""
    from detector.cli.detecting.loading import announce_compiling
    from detector.datasets.dataset import Dataset, Sample
    from detector.detection.bundle import read_manifest
    from detector.detection.load import SHIPPED
    from detector.images.paths import short_names
    from detector.results.coco_json import FILE, write_results
    from detector.results.label_files import label_formats, refuse_written, write_label_files
    from detector.structures import Annotations
    from detector.training.heads.suggest import suggest

    announce_compiling(quiet)
    try:
        formats = label_formats(format.split(",") if format else [])
    except ValueError as error:
        raise typer.BadParameter(f"--format: {error}") from None
    for name in formats:
        refuse_written(out / name)
    out.mkdir(parents=True, exist_ok=True)
    chosen = suggest(
        images, out / "cache", count=count, classes=classes, labelled=labelled, bundle=weights,
        device=device, precision=precision, threads=threads, quiet=quiet,
    )  # fmt: skip
    manifest = read_manifest(weights or SHIPPED)
    ids = short_names([one.path for one in chosen])
    named = dict(zip(ids, chosen, strict=True))
    samples = [Sample(id, one.path, None, Annotations.empty()) for id, one in named.items()]
    dataset = Dataset(out.name, manifest.classes, tuple(samples))
    # To correct: only what the detector would show.
    threshold = manifest.thresholds.score_threshold
    results = {id: one.detections.filter(score=threshold) for id, one in named.items()}
    write_results(out / FILE, dataset, results)
    write_atomically(out / LIST, "".join(f"{one.path}\n" for one in chosen))
    for name in formats:
        for sentence in write_label_files(out / name, dataset, results, name):
            say(f"warning: no label file: {sentence}")
    for one in () if quiet else chosen:
        typer.echo(f"{one.uncertainty:7.2f}  {one.path}")
    typer.echo(f"wrote {', '.join(str(out / name) for name in (LIST, FILE, *formats))}")
