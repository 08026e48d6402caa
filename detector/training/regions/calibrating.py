"""The temperatures and the threshold of a finished training, fitted on what was held out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import typer

from detector.detection.bundle import read_manifest, save_temperatures
from detector.detection.load import load_detector
from detector.errors import DatasetError, TrainingError
from detector.evaluation.diagnosis.calibration import best_threshold
from detector.evaluation.diagnosis.matching import match
from detector.evaluation.scoring.regions import region_store
from detector.progress.messages import pluralise
from detector.proposals.cache.stored import ProposalStore
from detector.training.heads.measuring import (
    AskedImages,
    asked_images,
    detections_of,
    known_regions,
)
from detector.training.heads.temperature import fit_temperature

if TYPE_CHECKING:
    from detector.datasets import Dataset
    from detector.detection.detector import Detector
    from detector.training.engine.context import RunContext

LEAST_SCORE, LEAST_IOU = 0.01, 0.5


def fit_on_held_out(held: Dataset, context: RunContext) -> None:
    """Put them into the bundle of the run: the temperature of each network, and the score of the
    best F1 of the one that is in use by itself. A sentence on stderr where that cannot be.
    """
    bundle = context.out / "bundle"
    manifest = read_manifest(bundle)

    def load(members: int | None) -> Detector:
        return load_detector(
            bundle, device=context.device, members=members, threads=context.threads,
            settings={"score_threshold": LEAST_SCORE},
        )  # fmt: skip

    detector = load(None)
    store = region_store(context.out / "held_out", detector, manifest)
    try:
        with ProposalStore(context.cache or context.out / "proposals.sqlite", "rw") as proposals:
            asked = asked_images(held, detector, store, proposals, context.quiet)
        known = known_regions(asked, LEAST_IOU)
        found = [fit_temperature(one, known.labels, known.log_odds) for one in known.logits]
    except (DatasetError, TrainingError) as error:
        typer.echo(f"{bundle} is as it was trained: {error}", err=True)
        return
    first = load(1)
    first.ensemble.temperatures = tuple(found[:1])
    first_store = region_store(context.out / "held_out", first, manifest)
    used = AskedImages(asked.dataset, first, first_store)
    score, f1 = best_threshold(match(asked.dataset, detections_of(used)))
    least = math.floor(1000 * score) / 1000 if f1 else None  # that score itself is above it
    about = {
        "data": f"{pluralise(len(asked.dataset), 'image')} held out", "least_iou": LEAST_IOU,
        "regions": len(known.labels), "best_f1": f1, "threshold": least,
    }  # fmt: skip
    save_temperatures(bundle, bundle, found, about, score=least)
    if not context.quiet:
        said = "no detection is right" if least is None else f"threshold {least:g} (F1 {f1:.2f})"
        degrees = ", ".join(f"{one:.3g}" for one in found)
        typer.echo(f"fitted on {about['data']}: temperature {degrees}, {said}", err=True)
