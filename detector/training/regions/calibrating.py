"""Fitting of temperatures and threshold on held-out images, at the end of a training."""

import math
from dataclasses import replace

import typer

from detector.datasets import Dataset
from detector.detection.bundle import read_manifest, save_temperatures
from detector.detection.detector import Detector
from detector.detection.load import load_detector
from detector.errors import DatasetError, TrainingError
from detector.evaluation.diagnosis.calibration import best_threshold
from detector.evaluation.protocols.rules import match_voc
from detector.evaluation.scoring.regions import region_store
from detector.progress.messages import pluralise
from detector.proposals.cache.stored import ProposalStore
from detector.training.engine.context import RunContext
from detector.training.heads.measuring import (
    ScoredImages,
    detections_of,
    known_regions,
    score_images,
)
from detector.training.heads.temperature import fit_temperature

# A score far below any threshold that may be best, and VOC's least overlap.
LEAST_SCORE, LEAST_IOU = 0.01, 0.5


def fit_on_held_out(held: Dataset, context: RunContext) -> None:
    """Fit each network's temperature, and the threshold with the best F1 for the first network
    alone, and write them into the run's bundle. Where that is impossible, a sentence on stderr.
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
            images = score_images(held, detector, store, proposals, context.quiet)
        known = known_regions(images, LEAST_IOU)
        temperatures = [
            fit_temperature(logits, known.labels, known.log_odds) for logits in known.logits
        ]
    except (DatasetError, TrainingError) as error:
        typer.echo(f"{bundle} is as it was trained: {error}", err=True)
        return
    # For one network, which is what a detector runs unless it is asked for more.
    first = replace(load(1), temperatures=tuple(temperatures[:1]))
    first_store = region_store(context.out / "held_out", first, manifest)
    first_images = ScoredImages(images.dataset, first, first_store)
    score, f1 = best_threshold(match_voc(images.dataset, detections_of(first_images)))
    # Rounded down: the detection with the best score itself still counts.
    least = math.floor(1000 * score) / 1000 if f1 else None
    about = {
        "data": f"{pluralise(len(images.dataset), 'image')} held out", "least_iou": LEAST_IOU,
        "regions": len(known.labels), "best_f1": f1, "threshold": least,
    }  # fmt: skip
    save_temperatures(bundle, bundle, temperatures, about, score=least)
    if not context.quiet:
        said = "no detection is right" if least is None else f"threshold {least:g} (F1 {f1:.2f})"
        degrees = ", ".join(f"{t:.3g}" for t in temperatures)
        typer.echo(f"fitted on {about['data']}: temperature {degrees}, {said}", err=True)
