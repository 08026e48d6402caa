"""Fit linear heads on a bundle's features: SVMs and box regression, or one class more in minutes.

    python tools/fit_heads.py --data VOC2012 --split train --out runs/with_heads
    python tools/fit_heads.py --bank runs/voc --weights runs/voc/bundle --out runs/with_heads
    python tools/fit_heads.py --add mug --data few_images/ --out runs/with_mugs
    python tools/detect.py image.jpg --weights runs/with_heads --svm --regression

The networks stay as they are. SVMs and regression keep the features that they see in OUT.features:
run the same command again to go on after an interruption.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made, exclusive_out, members_of, reject_unused, sibling
from detector.seeds import LARGEST

if TYPE_CHECKING:
    from detector.datasets import Dataset
    from detector.detection.bundle import BundleManifest


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
    data_root: Annotated[
        Path, typer.Option(help="With --bank: where that training's data paths begin.")
    ] = Path("."),
    split: option.Split = None,
    weights: option.Weights = None,
    add: Annotated[
        str | None, typer.Option(help="Add this class of the data set, from 5 to 100 boxes.")
    ] = None,
    boxes: Annotated[int, typer.Option(min=5, help="With --add: most boxes used.")] = 100,
    crops: Annotated[
        int, typer.Option(min=100, help="With --add: most regions described, about.")
    ] = 3000,
    background: Annotated[
        list[str], typer.Option(help="With --add: photographs without the class; may repeat.")
    ] = [],  # noqa: B006
    svm: Annotated[bool, typer.Option(help="Fit SVMs.")] = True,
    regression: Annotated[bool, typer.Option(help="Fit box regression.")] = True,
    enable: Annotated[
        bool, typer.Option(help="The new bundle uses them unless told not to.")
    ] = False,
    images: option.SomeImages = None,
    max_proposals: option.MaxProposals = None,
    ensemble: option.Ensemble = "1",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features and proposals. [OUT.features]")
    ] = None,
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    threads: option.Threads = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST, help="Seed of what is drawn.")] = 0,
    quiet: option.Quiet = False,
    strict: option.AllImages = False,
) -> int:
    """Fit heads on a bundle's features."""
    from detector.detection.bundle import read_manifest, save_heads
    from detector.detection.load import SHIPPED
    from detector.training.heads.fitting import fit_heads, fit_heads_on_bank, thresholds_with
    from detector.training.regions.settings import HeadsConfig

    started = time.perf_counter()
    if (data is None) == (bank is None) or (add is not None and data is None):
        raise typer.BadParameter("give --data DATA, or for SVMs and regression --bank RUN")
    if add is None and not (svm or regression):
        raise typer.BadParameter("--no-svm --no-regression leaves nothing to fit")
    for given, other in ((add, "--add"), (bank, "--bank")):
        where = f"without {other}" if given is None else f"with {other}"
        reject_unused(context, IDLE[where], where)
    bundle = weights or SHIPPED
    manifest = read_manifest(bundle)
    machine: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "threads": threads,
        "quiet": quiet,
    }
    heads = HeadsConfig(svm=svm, regression=regression, seed=seed)
    if bank is not None:
        fitted, complete = fit_heads_on_bank(
            bank, bundle, heads, data_root=data_root, members=members_of(ensemble), **machine
        )
    elif add is None:
        assert data is not None
        fitted, complete = fit_heads(
            data_of_bundle(data, split, images, manifest), bundle,
            cache or sibling(out, ".features"), heads,
            members=members_of(ensemble), max_proposals=max_proposals, **machine,
        )  # fmt: skip
    else:
        from detector.training.heads.new_class import data_of_class, fit_new_class

        assert data is not None
        dataset = data_of_class(add, data, split, boxes, background, manifest)
        fitted, complete = fit_new_class(dataset, bundle, max_proposals, crops, seed, **machine)
    save_heads(bundle, out, fitted, thresholds_with(manifest, fitted, enable))
    taken = time.perf_counter() - started
    typer.echo(f"wrote {out} in {taken:.0f} s; try: inception-rcnn detect IMAGE --weights {out}")
    return code_of_made(not complete, strict)


IDLE = {
    "with --add": ("svm", "regression", "enable", "images", "ensemble", "cache"),
    "without --add": ("boxes", "crops", "background"),
    "with --bank": ("split", "images", "max_proposals", "cache"),
    "without --bank": ("data_root",),
}
"""Options that would change nothing."""


def data_of_bundle(
    data: Path, split: str | None, images: int | None, manifest: BundleManifest
) -> Dataset:
    """The data set under the class list of the bundle's networks."""
    from detector.datasets import COCO_TO_VOC, read_dataset

    rename = {old: new for old, new in COCO_TO_VOC.items() if old not in manifest.classes}
    dataset = read_dataset(data, split).with_classes(manifest.network_classes, rename)
    return dataset if images is None else dataset.subset(images)
