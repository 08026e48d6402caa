"""Fit linear heads on a bundle's features: SVMs and box regression of the networks' classes.

    inception-rcnn fit heads --data VOC2012 --split train --out runs/with_heads
    inception-rcnn fit heads --bank runs/voc --weights runs/voc/bundle --out runs/with_heads
    inception-rcnn detect image.jpg --weights runs/with_heads --set svm=true --set regression=true

The networks stay as they are. SVMs and regression keep the features that they see in OUT.features:
run the same command again to go on after an interruption.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made, exclusive_out, reject_unused, sibling

if TYPE_CHECKING:
    from detector.training.heads.settings import FitHeadsSettings

SETTINGS = "detector.training.heads.settings.FitHeadsSettings"


@exclusive_out
def main(
    context: typer.Context,
    out: option.NewBundle,
    data: Annotated[
        Path | None, typer.Option(help="Data set: folder, COCO .json or YOLO .yaml.")
    ] = None,
    bank: Annotated[
        Path | None,
        typer.Option(help="In place of --data: a training's OUT, whose maps were kept; minutes."),
    ] = None,
    split: option.Split = None,
    weights: option.Weights = None,
    enable: Annotated[
        bool, typer.Option(help="The new bundle uses them unless told not to.")
    ] = False,
    device: option.Device = "auto",
    threads: option.Threads = None,
    change: Annotated[list[str], option.settings_of(SETTINGS)] = [],  # noqa: B006
    quiet: option.Quiet = False,
) -> int:
    """Fit heads on a bundle's features."""
    from detector.cli.detecting.loading import announce_compiling
    from detector.cli.evaluating.data import read_under_networks
    from detector.detection.bundle import read_manifest, save_heads
    from detector.detection.load import SHIPPED
    from detector.training.heads.fit_heads import fit_heads, fit_heads_on_bank, thresholds_with
    from detector.training.heads.settings import FitHeadsSettings
    from detector.training.regions.settings import HeadsConfig

    started = time.perf_counter()
    announce_compiling(quiet)
    chosen = option.chosen(FitHeadsSettings, change)
    check_options(context, chosen, data, bank)
    bundle = weights or SHIPPED
    manifest = read_manifest(bundle)
    machine: dict[str, Any] = {"device": device, "threads": threads, "quiet": quiet}
    machine["precision"] = chosen.precision
    heads = HeadsConfig(svm=chosen.svm, regression=chosen.regression, seed=chosen.seed)
    if bank is not None:
        fitted, complete = fit_heads_on_bank(
            bank, bundle, heads, data_root=chosen.data_root, members=chosen.members, **machine
        )
    else:
        assert data is not None
        fitted, complete = fit_heads(
            read_under_networks(data, split, chosen.images, manifest), bundle,
            chosen.cache or sibling(out, ".features"), heads,
            members=chosen.members, max_proposals=chosen.proposal_limit, **machine,
        )  # fmt: skip
    save_heads(bundle, out, fitted, thresholds_with(manifest, fitted, enable))
    taken = time.perf_counter() - started
    typer.echo(f"wrote {out} in {taken:.0f} s; try: inception-rcnn detect IMAGE --weights {out}")
    return code_of_made(not complete, chosen.strict)


def check_options(
    context: typer.Context, chosen: FitHeadsSettings, data: Path | None, bank: Path | None
) -> None:
    """One thing is fitted, and every option that is given has something to do with it."""
    if (data is None) == (bank is None):
        raise typer.BadParameter("give --data DATA or --bank RUN")
    if not (chosen.svm or chosen.regression):
        raise typer.BadParameter("--set svm=false --set regression=false leaves nothing to fit")
    if bank is None:
        reject_unused(context, ["data_root"], "without --bank")
    else:
        reject_unused(context, ["split", "images", "max_proposals", "cache"], "with --bank")
