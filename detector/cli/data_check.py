"""Look for defects in annotated images: VOC folders, COCO JSON, YOLO data.yaml.

    inception-rcnn data check VOC2012
    inception-rcnn data check data.yaml --fast
    inception-rcnn data check annotations/ --json > lint.json
    inception-rcnn data check VOC2012 --weights shipped --split train --out out

A defect cannot be true or cannot be used; a note is worth a look. With --weights a detector looks
at the pictures instead, and ranks the labels that may be wrong; interrupted, the same command goes
on. Nothing of the data set is written. Exit codes: 0 no defect, 1 defects (or images that cannot be
read), 2 a wrong option, 3 no data set.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import options as option
from detector.cli.app import reject_unused
from detector.errors import cut
from detector.files import write_atomically
from detector.progress.messages import escape_controls, pluralise

if TYPE_CHECKING:
    from detector.datasets.check import Report


SETTINGS = "detector.cli.checking.settings.WrongLabelSettings"


def main(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Data set: folder or annotation file.")],
    format: Annotated[
        str | None, typer.Option(help="voc, coco, yolo, labelme, label-studio, cvat. [recognised]")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="All but COCO: the class list, separated by commas. [recognised]"),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="COCO, tools: folder of the images. [looked for]")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Check the annotations only; open no image.")
    ] = False,
    most: Annotated[
        int | None,
        typer.Option(min=0, help="Findings shown of each rule [5]; --weights: labels shown [10]."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all findings as JSON, no table.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the JSON there, too; --weights: folder of the results. [out]"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Find wrong labels with this bundle: a folder, or shipped.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="--weights: which part, such as train. [all]")
    ] = None,
    change: Annotated[list[str], option.settings_of(SETTINGS)] = [],  # noqa: B006
    quiet: option.Quiet = False,
) -> int:
    """Look for defects in annotated images; with --weights, for wrong labels."""
    names = [name.strip() for name in classes.split(",")] if classes else None
    if images is not None and not images.is_dir():
        raise typer.BadParameter(f"--images {images}: no such folder")
    if weights is not None:
        reject_unused(context, ["format", "fast", "as_json"], "with --weights")
        from detector.cli.checking.labels import check_labels
        from detector.cli.checking.settings import WrongLabelSettings

        return check_labels(
            data, weights, split, option.chosen(WrongLabelSettings, change),
            out=out or Path("out"), quiet=quiet, command=context.obj,
            most=10 if most is None else most, classes=names, images_root=images,
        )  # fmt: skip
    reject_unused(context, ["split", "change"], "without --weights")
    from detector.datasets.check import FORMATS, lint
    from detector.progress.bar import progress

    if format is not None and format not in FORMATS:
        raise typer.BadParameter(f"--format {format}: choose {', '.join(FORMATS)}")
    report = lint(
        data, format, classes=names, images_root=images, fast=fast,
        watch=lambda items, label: progress(items, label, quiet=quiet),
    )  # fmt: skip
    write(report, out, as_json, 5 if most is None else most)
    return int(bool(report.defects))  # notes fail nothing


def write(report: Report, out: Path | None, as_json: bool, most: int) -> None:
    """Write the report to a file, and print all of it as JSON or the most of each rule as text."""
    text = json.dumps(report.describe(), indent=1) + "\n"
    if out is not None:
        write_atomically(out, text)
    if as_json:
        typer.echo(text, nl=False)
    else:
        show(report, most)


def show(report: Report, most: int) -> None:
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
