"""Convert saved detections from one layout to another, or to label files for a labelling tool.

    inception-rcnn data convert out/detections.json --data VOC2012 --split val --to voc --out voc
    inception-rcnn data convert voc --data VOC2012 --split val --to csv --out found.csv
    inception-rcnn data convert out --data VOC2012 --split val --to cvat --out to_correct

The layout of the input is told from its files. The data set gives the images' numbers and the
classes' ids.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option
from detector.progress.messages import pluralise, say


def main(
    detections: Annotated[
        Path, typer.Argument(help="Saved: .json or its folder, .csv, ILSVRC's .txt, VOC's folder.")
    ],
    data: Annotated[Path, typer.Option(help="Data set that was detected on.")],
    to: Annotated[
        str,
        typer.Option(
            help="Results: coco, voc, ilsvrc, csv. Labels: yolo, voc-xml, coco-instances, labelme,"
            " label-studio, cvat."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write; voc and labels: a folder.")],
    split: option.Split = None,
    classes: option.Classes = "own",
) -> None:
    """Convert saved detections to another layout."""
    from detector.cli.evaluating.data import read_detections, read_judged
    from detector.files import exclusive_lock
    from detector.results.results import check_layout, write_results

    layout = check_layout(to)
    dataset = read_judged(data, split, classes)
    results, _ = read_detections(detections, dataset, classes, "left out")
    out.parent.mkdir(parents=True, exist_ok=True)
    # VOC's folder of many files needs a lock; a single file is written in one step.
    with exclusive_lock(out) if layout == "voc" and not out.is_file() else nullcontext():
        left_out = write_results(out, dataset, results, layout)
    for sentence in left_out:
        say(f"warning: left out: {sentence}")
    count = sum(map(len, results.values()))
    typer.echo(
        f"wrote {out}: {pluralise(count, 'detection')} in"
        f" {pluralise(len(results), 'image')} ({layout})"
    )
