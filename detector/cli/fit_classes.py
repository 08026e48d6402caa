"""Learn classes from a few boxes in a minute, beside those of a detector, which forgets nothing.

inception-rcnn fit --add mug --add spoon --data few_images/ --out with_mugs
inception-rcnn fit --refine mug --data corrected/ --weights with_mugs --out with_mugs
inception-rcnn fit --remove spoon --weights with_mugs --out with_mugs
inception-rcnn detect kitchen.jpg --weights with_mugs
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made, reject_unused
from detector.progress.messages import say

SETTINGS = "detector.training.heads.settings.FitClassesSettings"


def main(
    context: typer.Context,
    out: option.NewBundle,
    add: Annotated[list[str], typer.Option(help="Class to add; may repeat.")] = [],  # noqa: B006
    refine: Annotated[
        list[str], typer.Option(help="Added class to learn from more boxes, too; may repeat.")
    ] = [],  # noqa: B006
    remove: Annotated[list[str], typer.Option(help="Added class to leave out; may repeat.")] = [],  # noqa: B006
    data: Annotated[
        Path | None, typer.Option(help="Data set with 5 to 100 boxes of each class.")
    ] = None,
    split: option.Split = None,
    weights: option.Weights = None,
    background: Annotated[
        list[str], typer.Option(help="Photographs without the classes; may repeat.")
    ] = [],  # noqa: B006
    budget: Annotated[
        str | None, typer.Option(help="Time for all of it: 90s, 10m. [4,000 regions]")
    ] = None,
    device: option.Device = "auto",
    change: Annotated[list[str], option.settings_of(SETTINGS)] = [],  # noqa: B006
    quiet: option.Quiet = False,
) -> int:
    """Learn classes from a few boxes; existing classes stay unchanged."""
    from detector.cli.detecting.loading import announce_compiling
    from detector.settings import load_config
    from detector.training.heads.fit_classes import fit_classes

    started = time.perf_counter()
    if not (add or refine or remove):
        raise typer.BadParameter("give --add, --refine or --remove with the name of a class")
    if not (add or refine):
        reject_unused(context, ("data", "split", "background", "budget"), "with --remove alone")
    elif data is None and (add or not background):
        raise typer.BadParameter("give --data DATA, with boxes of the classes")
    announce_compiling(quiet)
    chosen = load_config(None, change)
    if budget is not None:
        chosen["budget"] = budget
    strict = bool(chosen.get("strict", False))
    report = fit_classes(
        data, out, add=add, refine=refine, remove=remove, split=split, bundle=weights,
        background=background, device=device, quiet=quiet, **chosen,
    )  # fmt: skip
    for one in report.classes:
        typer.echo(one)
    for warning in (*report.warnings, *(text for one in report.classes for text in one.warnings)):
        say(f"warning: {warning}")
    taken = time.perf_counter() - started
    typer.echo(f"wrote {out} in {taken:.0f} s; try: inception-rcnn detect IMAGE --weights {out}")
    return code_of_made(not report.complete, strict)
