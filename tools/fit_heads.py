"""Fit linear heads on a bundle's features: SVMs and box regression, or one class more in minutes.

    python tools/fit_heads.py --data VOC2012 --split train --out runs/with_heads
    python tools/fit_heads.py --bank runs/voc --weights runs/voc/bundle --out runs/with_heads
    python tools/fit_heads.py --add mug --data few_images/ --out runs/with_mugs
    python tools/detect.py image.jpg --weights runs/with_heads --svm --regression

The networks stay as they are. SVMs and regression keep the features that they see in OUT.features:
run the same command again to go on after an interruption.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from detector.reporting.cli import beside, members_of, run_tool

if TYPE_CHECKING:
    from head_fitting.bank_features import BankFeatures

    from detector.models.inference import Precision


def main(
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
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
    split: Annotated[str | None, typer.Option(help="Which part, such as train.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Bundle to fit on. [the one that ships with the package]")
    ] = None,
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
    images: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, evenly spaced.")
    ] = None,
    max_proposals: Annotated[
        int | None,
        typer.Option(min=0, help="Most regions of one image; 0 is all. [the bundle's]"),
    ] = None,
    ensemble: Annotated[str, typer.Option(help="Number of members to fit on, or all.")] = "1",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features and proposals. [OUT.features]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [all cores]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is drawn.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> int:
    """Fit heads on a bundle's features."""
    from head_fitting.data_features import DataFeatures, feature_store, load, proposals_of
    from head_fitting.fitting import fit_all, thresholds_with
    from head_fitting.new_class import check_new_class, few_images, learn_class, with_background

    from detector.build import SHIPPED
    from detector.bundle import read_manifest, save_heads
    from detector.datasets import COCO_TO_VOC, read_dataset

    started = time.perf_counter()
    bundle = weights or SHIPPED
    manifest = read_manifest(bundle)
    if (data is None) == (bank is None) or (add is not None and data is None):
        raise typer.BadParameter("give --data DATA, or for SVMs and regression --bank RUN")
    if add is None and not (svm or regression):
        raise typer.BadParameter("--no-svm --no-regression leaves nothing to fit")
    if bank is not None:
        kept = features_of_bank(
            bank, bundle, data_root, ensemble, device, precision, threads, quiet
        )
        recipe = {"data": f"{len(kept.dataset)} images of the bank of {bank.name}", "seed": seed}
        fitted = fit_all(kept, kept.classes, svm, regression, seed, recipe)
        save_heads(bundle, out, fitted, thresholds_with(manifest, fitted, enable))
        return say_written(out, started)
    assert data is not None
    dataset = read_dataset(data, split)
    if add is not None:
        check_new_class(add, manifest.classes, dataset)
        dataset = few_images(dataset.with_classes((add,)), boxes)
        dataset = with_background(dataset, background) if background else dataset
    else:
        rename = {old: new for old, new in COCO_TO_VOC.items() if old not in manifest.classes}
        dataset = dataset.with_classes(manifest.network_classes, rename)
        dataset = dataset if images is None else dataset.subset(images)
    detector = load(bundle, ensemble, device, precision, threads, max_proposals, quiet)
    recipe = {"data": f"{len(dataset)} images of {dataset.name}", "seed": seed}
    thresholds = manifest.thresholds
    if add is not None:
        samples = proposals_of(dataset, detector, None, quiet)
        fitted = [learn_class(add, samples, detector, crops, seed, recipe, quiet)]
    else:
        folder = cache or beside(out, ".features")
        folder.mkdir(parents=True, exist_ok=True)
        samples = proposals_of(dataset, detector, folder / "proposals.sqlite", quiet)
        hashes = [member.sha256 for member in manifest.members][: len(detector.ensemble.members)]
        store = feature_store(folder, detector, hashes, precision)
        described = DataFeatures(samples, detector, store, quiet)
        fitted = fit_all(described, dataset.classes, svm, regression, seed, recipe)
        thresholds = thresholds_with(manifest, fitted, enable)
    save_heads(bundle, out, fitted, thresholds)
    say_written(out, started)
    return 1 if len(samples) < len(dataset) else 0


def say_written(out: Path, started: float) -> int:
    taken = time.perf_counter() - started
    typer.echo(f"wrote {out} in {taken:.0f} s; try: python tools/detect.py IMAGE --weights {out}")
    return 0


def features_of_bank(
    run: Path, bundle: Path, data_root: Path, ensemble: str, device: str, precision: str,
    threads: int | None, quiet: bool,
) -> BankFeatures:  # fmt: skip
    """What SVMs and regression are fitted on where a training kept its maps."""
    import torch
    from head_fitting.bank_features import BankFeatures

    from detector.bundle import load_bundle
    from detector.hardware import choose_device
    from detector.models.inference import fastest_precision
    from detector.training.places import Places

    if precision == "auto":
        precision = fastest_precision(choose_device(device))
    if precision not in ("float32", "bfloat16"):
        raise typer.BadParameter(f"--precision {precision}: with --bank auto, float32 or bfloat16")
    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    loaded = load_bundle(bundle, members_of(ensemble))
    places = Places(run, data_root, choose_device(device), threads, quiet)
    return BankFeatures(loaded, places, cast("Precision", precision))


if __name__ == "__main__":
    run_tool(main)
