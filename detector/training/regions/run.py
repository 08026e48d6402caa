"""Train region classifiers, from annotated images to a bundle and what is fitted on it: heads, and
temperatures and a threshold on held-out images.
"""

import gc
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import typer
from torch import Tensor, nn

from detector.datasets import Dataset
from detector.detection.bundle import read_manifest, save_temperatures
from detector.detection.detector import Detector
from detector.detection.load import load_detector
from detector.errors import DatasetError, TrainingError
from detector.evaluation.diagnosis.calibration_error import best_threshold
from detector.evaluation.protocols.rules import match_voc
from detector.evaluation.scoring.regions import region_store
from detector.progress.messages import pluralise
from detector.proposals.cache.stored import ProposalStore
from detector.training.engine.context import RunContext
from detector.training.engine.loop import TrainingLoop
from detector.training.heads.fit_heads import fit_heads_of_run
from detector.training.heads.score_calibration import (
    ScoredImages,
    detections_of,
    known_regions,
    score_images,
)
from detector.training.heads.temperature import fit_temperature
from detector.training.regions.bank import RegionBank
from detector.training.regions.data import RegionData, load_regions
from detector.training.regions.member import build_member
from detector.training.regions.outputs import write_bundle
from detector.training.regions.settings import NOT_OF_THE_WEIGHTS, RegionTrainingConfig
from detector.training.regions.trainer import computing_threads, train_member

# A score far below any threshold that may be best, and VOC's least overlap.
MIN_SCORE, MIN_IOU = 0.01, 0.5


class Trained(NamedTuple):
    """The outcome of a training whose bundle is written.

    readable  True if all processes could read all their images
    bank      the maps that were learnt from, if the settings ask for a bank
    """

    data: RegionData
    readable: bool
    bank: RegionBank | None


def train_regions(settings: RegionTrainingConfig, context: RunContext, members: int = 1) -> bool:
    """Train a detector's networks on annotated images, as `inception-rcnn train regions` does: the
    folder `context.out` gets journal, checkpoints and the bundle, with the heads, temperatures and
    threshold that the settings ask for. Run again to resume.

    Returns False where there was too little to fit heads on. A training that was asked to stop ends
    before the heads.
    """
    trained = learn(settings, context, members)
    if context.stop or not context.group.is_main:  # one process writes
        return True
    return finish(settings, trained, context)


def learn(
    settings: RegionTrainingConfig, context: RunContext, members: int = 1,
    data: RegionData | None = None,
) -> Trained:  # fmt: skip
    """Train networks of one start and schedule on different samples, as the paper's ensemble was,
    and write them as `context.out/bundle`.

    data  the settings' own, where it is loaded already

    Where it is asked to stop, it ends after the step, with a bundle of what there is.
    """
    out, group = context.out, context.group
    trained: list[tuple[nn.Module, Mapping[str, Tensor]]] = []
    broken: dict[Path, str] = {}
    unfinished = ""
    try:
        data = data or load_regions(settings, context)
        for number in range(members):
            if members > 1 and not context.quiet:
                typer.echo(f"member {number + 1} of {members}", err=True)
            own = replace(context, out=out if members == 1 else out / f"member-{number}")
            # In `context`, not `own`: members share a bank.
            member = build_member(settings.of_member(number), data, context)
            loop = TrainingLoop.begin(member.state, own, settings, NOT_OF_THE_WEIGHTS, folder=out)
            with computing_threads(settings.optimiser.threads):
                reached = train_member(loop, member.examples, member.step, own, member.watch)
            broken |= member.crops.broken
            stopping = context.stops()
            if reached:
                trained.append((member.whole, member.averaged()))
            bank = member.bank
            if stopping:
                of = f", network {number + 1} of {members}" if members > 1 else ""
                unfinished = f"step {reached} of {settings.optimiser.steps}{of}"
                break
            del member, loop  # its images, before the next member takes their place;
            gc.collect()  # torch's first optimiser has made a cycle that holds them
        readable = not group.any(bool(broken), context.device)
    finally:
        group.close()
    for _, message in sorted(broken.items()):
        typer.echo(f"left out: {message}", err=True)
    if group.is_main and trained:  # torchrun ends all processes when one of them fails
        write_bundle(settings, data, trained, context, unfinished)
    return Trained(data, readable and not data.unread, bank)


def finish(settings: RegionTrainingConfig, trained: Trained, context: RunContext) -> bool:
    """Fit the heads that the settings ask for, and temperatures and threshold on the held-out
    images, and write them into the bundle. Returns False where there is too little for heads.
    """
    data, fitted = trained.data, True
    if trained.bank is not None:
        fitted = fit_heads_of_run(settings, data.dataset, trained.bank, context)
    if data.held is not None:
        fit_on_held_out(data.held, context)
    return fitted


def fit_on_held_out(held: Dataset, context: RunContext) -> None:
    """Fit each network's temperature, and the threshold with the best F1 for the first network
    alone, and write them into the run's bundle. Where that is impossible, a sentence on stderr.
    """
    bundle = context.out / "bundle"
    manifest = read_manifest(bundle)

    def load(members: int | None) -> Detector:
        return load_detector(
            bundle, device=context.device, members=members, threads=context.threads,
            settings={"score_threshold": MIN_SCORE, "cascade": None},
        )  # fmt: skip

    detector = load(None)
    store = region_store(context.out / "held_out", detector, manifest)
    try:
        with ProposalStore(context.cache or context.out / "proposals.sqlite", "rw") as proposals:
            images = score_images(held, detector, store, proposals, context.quiet)
        known = known_regions(images, MIN_IOU)
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
        "data": f"{pluralise(len(images.dataset), 'image')} held out", "least_iou": MIN_IOU,
        "regions": len(known.labels), "best_f1": f1, "threshold": least,
    }  # fmt: skip
    save_temperatures(bundle, bundle, temperatures, about, score=least)
    if not context.quiet:
        said = "no detection is right" if least is None else f"threshold {least:g} (F1 {f1:.2f})"
        degrees = ", ".join(f"{t:.3g}" for t in temperatures)
        typer.echo(f"fitted on {about['data']}: temperature {degrees}, {said}", err=True)
