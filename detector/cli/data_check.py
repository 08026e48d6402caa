"""Look for defects in annotated images: VOC folders, COCO JSON, YOLO data.yaml.

    inception-rcnn data check VOC2012
    inception-rcnn data check data.yaml --fast
    inception-rcnn data check annotations/ --json > lint.json

A defect cannot be true or cannot be used; a note is worth a look. Nothing of the data set is
written. Exit codes: 0 no defect, 1 defects, 2 a wrong option, 3 no data set.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import options as option
from detector.progress.messages import pluralise

if TYPE_CHECKING:
    from detector.datasets.check import Report


def main(
    data: Annotated[Path, typer.Argument(help="Data set: folder or annotation file.")],
    format: Annotated[
        str | None,
        typer.Option(help="voc, coco, yolo, labelme, label-studio, cvat. [told by itself]"),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="All but COCO: the class list, separated by commas. [told by itself]"),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="COCO, tools: folder of the images. [looked for]"),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Open no image: only what the annotations tell.")
    ] = False,
    most: Annotated[int, typer.Option(min=0, help="Findings shown of each rule.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all findings as JSON, no table.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there, too.")] = None,
    quiet: option.Quiet = False,
) -> int:
    """Look for defects in annotated images."""
    from detector.datasets.check import FORMATS, lint
    from detector.files import write_atomically
    from detector.progress.bar import progress

    if format is not None and format not in FORMATS:
        raise typer.BadParameter(f"--format {format}: choose {', '.join(FORMATS)}")
    if images is not None and not images.is_dir():
        raise typer.BadParameter(f"--images {images}: no such folder")
    report = lint(
        data,
        format,
        classes=[name.strip() for name in classes.split(",")] if classes else None,
        images_root=images,
        fast=fast,
        watch=lambda items, label: progress(items, label, quiet=quiet),
    )
    text = json.dumps(report.describe(), indent=1) + "\n"
    if out is not None:
        write_atomically(out, text)
    if as_json:
        typer.echo(text, nl=False)
    else:
        show(report, most)
    return int(bool(report.defects))  # notes fail nothing


def show(report: Report, most: int) -> None:
    from detector.errors import cut
    from detector.progress.messages import escape_controls

    for name, rule, times in report.by_rule():
        typer.echo(f"{rule.level} {name}: {times} x {rule.meaning}")
        typer.echo(f"  cure: {rule.cure}")
        shown = [one for one in report.findings if one.rule == name][:most]
        for one in shown:
            typer.echo(escape_controls(f"  {cut(one.file, 300)}: {cut(one.id, 300)}: {one.why}"))
        if times > len(shown):
            typer.echo(f"  ... and {times - len(shown)} more (--most, --json)")
    notes = len(report.findings) - len(report.defects)
    typer.echo(
        f"{report.path}: {report.format}, {pluralise(report.images, 'image')},"
        f" {pluralise(report.objects, 'object')}, {pluralise(len(report.classes), 'class')}:"
        f" {pluralise(len(report.defects), 'defect')}, {pluralise(notes, 'note')}"
        + (" (images not opened)" if report.fast else "")
    )
