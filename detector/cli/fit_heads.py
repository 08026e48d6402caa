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
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made, exclusive_out, members_of, reject_unused, sibling
from detector.progress.messages import pluralise
from detector.seeds import LARGEST

if TYPE_CHECKING:
    from detector.datasets import Dataset
    from detector.detection.bundle import BundleManifest
    from detector.models.inference.prepare import Precision
    from detector.training.heads.fitting import Fitted
    from detector.training.regions.settings import HeadsConfig


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
    from detector.training.heads.fitting import thresholds_with
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
    machine = Machine(device, precision, threads, quiet)
    heads = HeadsConfig(svm=svm, regression=regression, seed=seed)
    if data is None:
        assert bank is not None
        fitted, complete = fit_on_bank(bank, data_root, bundle, ensemble, heads, machine)
    elif add is None:
        dataset = data_of_bundle(data, split, images, manifest)
        kept = cache or sibling(out, ".features")
        fitted, complete = fit_on_data(
            dataset, bundle, ensemble, max_proposals, kept, heads, machine
        )
    else:
        from detector.training.heads.new_class import data_of_class, fit_new_class

        dataset = data_of_class(add, data, split, boxes, background, manifest)
        fitted, complete = fit_new_class(dataset, bundle, max_proposals, crops, seed, *machine)
    save_heads(bundle, out, fitted, thresholds_with(manifest, fitted, enable))
    taken = time.perf_counter() - started
    typer.echo(f"wrote {out} in {taken:.0f} s; try: inception-rcnn detect IMAGE --weights {out}")
    return code_of_made(not complete, strict)


class Machine(NamedTuple):
    """How the networks run."""

    device: str
    precision: str
    threads: int | None
    quiet: bool


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


def fit_on_data(
    dataset: Dataset, bundle: Path, ensemble: str, max_proposals: int | None, cache: Path,
    heads: HeadsConfig, machine: Machine,
) -> tuple[Fitted, bool]:  # fmt: skip
    """SVMs and regression from images, and whether all of them could be read."""
    from detector.detection.bundle import read_manifest
    from detector.heads.fit import need_every_class
    from detector.training.heads.data_features import DataFeatures, load, proposals_of
    from detector.training.heads.fitting import fit_all

    if heads.svm:
        need_every_class((sample.annotations for sample in dataset.samples), dataset.classes)
    detector = load(bundle, members_of(ensemble), max_proposals, *machine)
    cache.mkdir(parents=True, exist_ok=True)
    samples = proposals_of(dataset, detector, cache / "proposals.sqlite", machine.quiet)
    members = read_manifest(bundle).members[: len(detector.ensemble.members)]
    networks = [member.sha256 for member in members]
    described = DataFeatures(samples, detector, cache, networks, machine.precision, machine.quiet)
    data = f"{pluralise(len(dataset), 'image')} of {dataset.name}"
    return fit_all(described, dataset.classes, heads, data), len(samples) == len(dataset)


def fit_on_bank(
    run: Path, data_root: Path, bundle: Path, ensemble: str, heads: HeadsConfig, machine: Machine
) -> tuple[Fitted, bool]:
    """SVMs and regression from the maps that a training kept."""
    from detector.detection.bundle import load_bundle
    from detector.hardware import use_device, use_threads
    from detector.models.inference.prepare import fastest_precision
    from detector.training.engine.context import RunContext
    from detector.training.heads.bank_features import features_of_run
    from detector.training.heads.fitting import fit_all

    device, precision = use_device(machine.device), machine.precision
    if precision == "auto":
        precision = fastest_precision(device)
    if precision not in ("float32", "bfloat16"):
        raise typer.BadParameter(f"--precision {precision}: with --bank auto, float32 or bfloat16")
    context = RunContext(run, data_root, device, use_threads(machine.threads), machine.quiet)
    loaded = load_bundle(bundle, members_of(ensemble))
    kept, unread = features_of_run(
        loaded.manifest.network_classes, loaded.models, context, cast("Precision", precision),
        every_class=heads.svm,
    )  # fmt: skip
    if unread:
        typer.echo(
            f"left out: {pluralise(unread, 'image')} that cannot be read; inception-rcnn data check"
            " tells which",
            err=True,
        )
    data = f"{pluralise(len(kept.dataset), 'image')} of the bank of {run.name}"
    return fit_all(kept, kept.dataset.classes, heads, data), not unread
