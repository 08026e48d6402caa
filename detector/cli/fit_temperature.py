"""Fit the temperature of each network of a bundle, so that its scores mean what they say.

    inception-rcnn fit temperature --weights BUNDLE --data MORE --split held_out --out CALIBRATED
    inception-rcnn evaluate detections --weights CALIBRATED --data VOC2012 --split val --report

A network's softmax becomes softmax(logits / T). T is the one at which the annotated classes of the
regions are likeliest (detector/training/heads/temperature.py); the bundle given is not changed.
The images must be other ones than those of the training, which flatter the network, and than those
that it is evaluated on. What networks said of regions is kept: the same command goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made, exclusive_out, sibling
from detector.errors import BundleError
from detector.progress.messages import pluralise

if TYPE_CHECKING:
    from detector.detection.detector import Detector
    from detector.training.heads.score_calibration import Calibrated, KnownRegions


@exclusive_out
def main(
    data: Annotated[
        Path, typer.Option(help="Annotated images, neither of training nor of evaluation.")
    ],
    out: option.NewBundle,
    split: option.Split = None,
    weights: option.Weights = None,
    images: option.SomeImages = None,
    iou: Annotated[
        float, typer.Option(min=0.1, max=1, help="Least IoU of a region that is an object.")
    ] = 0.5,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of regions and what is said of them. [OUT.regions]")
    ] = None,
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    threads: option.Threads = None,
    quiet: option.Quiet = False,
    strict: option.AllImages = False,
) -> int:
    """Fit temperatures on annotated images that neither trained the bundle nor will judge it."""
    from detector.cli.evaluating.data import read_under_networks
    from detector.cli.evaluating.running import warn_of_training
    from detector.detection.bundle import read_manifest, save_temperatures
    from detector.detection.load import SHIPPED
    from detector.evaluation.scoring.regions import region_store
    from detector.proposals.cache.stored import ProposalStore
    from detector.training.heads.score_calibration import (
        known_regions,
        measure_calibration,
        score_images,
    )
    from detector.training.heads.temperature import fit_temperature

    bundle = weights or SHIPPED
    manifest = read_manifest(bundle)
    if out.resolve() == bundle.resolve():
        raise BundleError(f"--out {out}: is the bundle itself, which is not changed; name another")
    dataset = read_under_networks(data, split, images, manifest, every=True)
    warn_of_training(manifest, dataset)
    detector = load(bundle, device, precision, threads, quiet)
    folder = cache or sibling(out, ".regions")
    store = region_store(folder, detector, manifest)
    with ProposalStore(folder / "proposals.sqlite", "rw") as proposals:
        asked = score_images(dataset, detector, store, proposals, quiet)
    known = known_regions(asked, iou)
    before = [member.temperature for member in manifest.members]
    after = [fit_temperature(one, known.labels, known.log_odds) for one in known.logits]
    rows = [measure_calibration(asked, known, found) for found in (before, after)]
    about = {
        "data": f"{pluralise(len(asked.dataset), 'image')} of {dataset.name}",
        "least_iou": iou,
    }
    save_temperatures(bundle, out, after, {**about, "regions": len(known.labels)})
    print(f"{pluralise(len(asked.dataset), 'image')} of {dataset.name}, {counts_of(known)}")
    show(before, after, rows)
    print(f"wrote {out}; these images have tuned it, so judge it on others")
    return code_of_made(len(asked.dataset) < len(dataset), strict)


# All members with their softmax in use, and detections as `evaluate` makes them.
def load(bundle: Path, device: str, precision: str, threads: int | None, quiet: bool) -> Detector:
    from detector.cli.detecting.loading import announce_compiling
    from detector.detection.load import load_detector
    from detector.hardware import use_device, use_threads

    announce_compiling(quiet)
    threads = use_threads(threads)
    how: dict[str, Any] = {
        "svm": False, "score_threshold": 0.01, "max_detections": 300, "cascade": None,
    }  # fmt: skip
    return load_detector(
        bundle,
        device=use_device(device),
        precision=precision,
        members=None,
        settings=how,
        threads=threads,
    )


def counts_of(known: KnownRegions) -> str:
    objects = int((known.labels < known.logits[0].shape[1] - 1).sum())  # background is last
    return f"{pluralise(len(known.labels), 'region')}, {objects:,} of them on objects"


def show(before: list[float], after: list[float], rows: list[Calibrated]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "before", "after", box=None, header_style="bold")
    for place, pair in enumerate(zip(before, after, strict=True)):
        table.add_row(f"temperature of network {place}", *(f"{value:.4g}" for value in pair))
    names = (
        "negative log likelihood of a region", "calibration error of regions",
        "calibration error of detections",
    )  # fmt: skip
    for name, pair in zip(names, zip(*rows, strict=True), strict=True):
        table.add_row(name, *(f"{value:.4f}" for value in pair))
    Console(markup=False, highlight=False).print(table)
