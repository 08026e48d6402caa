"""The training loop of one classifier."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import torch
import typer
from torch import nn

from detector.datasets.labelled.images import LabelledImages
from detector.hardware import choose_precision
from detector.progress.journal import read_journal
from detector.training.classifier.inputs import (
    NOT_OF_THE_WEIGHTS,
    TrainingSetup,
    build_setup,
    build_start,
    fingerprint,
)
from detector.training.classifier.outputs import report, write_classifier
from detector.training.classifier.settings import ClassifierTrainingConfig
from detector.training.classifier.step import ClassifierStep, ClassifierSums
from detector.training.classifier.validation import Accuracy, validate
from detector.training.engine.context import RunContext
from detector.training.engine.left_out import SkippedFiles
from detector.training.engine.logs import JOURNAL, Logs
from detector.training.engine.loop import TrainingLoop
from detector.training.engine.state import TrainingState, freeze


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    reached   finished steps; with one or more the averaged weights are in classifier.safetensors
    last      planned steps
    readable  True if all processes could read all their images
    """

    reached: int
    last: int
    readable: bool

    @property
    def finished(self) -> bool:
        return self.reached == self.last


def train_members(
    settings: ClassifierTrainingConfig,
    images: LabelledImages,
    validation: LabelledImages | None,
    context: RunContext,
    members: int,
) -> tuple[list[Path], bool, str]:
    """Train the members of an ensemble, one after the other, each in a folder of `context.out`.

    Returns the folders with a classifier, False if some image could not be read, and how far the
    training came if it was stopped.
    """
    folders, readable = [], True
    for number in range(members):
        folder = context.out if members == 1 else context.out / f"member-{number}"
        if members > 1 and not context.quiet:
            typer.echo(f"member {number + 1} of {members}", err=True)
        own = settings.of_member(number)
        trained = train(own, images, validation, replace(context, out=folder))
        readable &= trained.readable
        if trained.reached:
            folders.append(folder)
        if not trained.finished:
            of = f", network {number + 1} of {members}" if members > 1 else ""
            return folders, readable, f"step {trained.reached} of {trained.last}{of}"
    return folders, readable, ""


def train(
    settings: ClassifierTrainingConfig,
    images: LabelledImages,
    validation: LabelledImages | None,
    context: RunContext,
) -> Trained:
    """Train in `context.out` until the last step or `context.stop`; resumes what is there."""
    cv2.setNumThreads(1)  # our own threads make the patches; OpenCV's would fight them for cores
    group, optimiser = context.group, settings.optimiser
    setup = build_setup(settings, images, validation, context)
    context.out.mkdir(parents=True, exist_ok=True)
    # Not sampling_seed: the members of an ensemble begin alike (arXiv 1409.4842, section 7).
    torch.manual_seed(settings.optimiser.seed)
    network = build_start(settings, len(images.classes), context.data_root, context.device)
    # No layer by name: of batch normalisation the statistics alone.
    freeze(network, []) if settings.network.frozen_norm else network.train()
    group.broadcast_weights(network)
    state = TrainingState(
        network, optimiser, fingerprint(settings, images), setup.last, setup.steps_per_epoch
    )
    loop = TrainingLoop.begin(state, context, settings, NOT_OF_THE_WEIGHTS)
    if group.is_main and not context.quiet:
        report(setup)
    training_step = ClassifierStep(
        torch.compile(network) if context.compiled else network,
        network.normalisation,
        settings.network,
        context.device,
        choose_precision(optimiser.precision, context.device),
        optimiser,
    )
    left_out = SkippedFiles(context.out, group, resumed=loop.first > 0)
    reached = _run_steps(setup, network, loop, training_step, context, left_out)
    for message in left_out.messages():
        typer.echo(f"left out: {message}", err=True)
    if reached and group.is_main:  # of one that was stopped, too: something to try
        write_classifier(context.out, setup, state.averaged(), network, reached)
    # A collective, so that all processes wait until the main one has written.
    readable = not group.any(bool(left_out), context.device)
    return Trained(reached, setup.last, readable)


def _run_steps(
    setup: TrainingSetup,
    network: nn.Module,
    loop: TrainingLoop,
    training_step: ClassifierStep,
    context: RunContext,
    left_out: SkippedFiles,
) -> int:
    """Take all steps; returns how many are finished."""
    make, threads, group = setup.batches, context.threads, context.group
    batch_size = setup.settings.optimiser.batch
    with Logs(context, loop, batch_size, items="images", right="right") as logs:

        def validate_if_due(done: int) -> bool:
            if setup.validation is None or not _validation_is_due(setup, done):
                return False
            accuracy = _validate(setup, setup.validation, network, loop, training_step, context)
            logs.note(done - 1, "validation", accuracy._asdict(), str(accuracy))
            left_out.record(setup.unread_validation, "judged: ")
            return True

        reached = loop.first
        # Only the main process keeps a journal, so it alone knows.
        if group.any(
            group.is_main and _validation_is_missing(context.out, reached), context.device
        ):
            validate_if_due(reached)
        for current in loop.steps(make, threads=threads, ahead=threads + 1, after=validate_if_due):
            left_out.record(make.broken)
            sums = training_step(current.batch, loop.factor)
            result = loop.update(current.step, sums, _mean_loss, partial(make.replay, current.step))
            total, reached = ClassifierSums(*result.sums), current.step + 1
            right = total.right / max(total.images, 1)
            logs.step(
                current, result, {"right": round(right, 4)}, images=int(total.images),
                epoch=round(reached / setup.steps_per_epoch, 3), shown=right,
            )  # fmt: skip
    return reached


def _mean_loss(sums: Sequence[float]) -> float:
    total = ClassifierSums(*sums)
    return total.loss / total.images if total.images else math.nan


def _validation_is_due(setup: TrainingSetup, reached: int) -> bool:
    every = setup.settings.optimiser.validate_every
    turns = [int(s / setup.steps_per_epoch / every) for s in (reached - 1, reached)]
    return turns[0] < turns[1] or reached == setup.last


# A run may end between the checkpoint of `reached` steps and their validation.
def _validation_is_missing(out: Path, reached: int) -> bool:
    journal = read_journal(out / JOURNAL)
    was_judged = any(
        entry.get("step") == reached - 1 and "validation" in entry for entry in journal
    )
    return reached > 0 and not was_judged


def _validate(
    setup: TrainingSetup, validation: LabelledImages, network: nn.Module, loop: TrainingLoop,
    training_step: ClassifierStep, context: RunContext,
) -> Accuracy:  # fmt: skip
    # A copy: the network stays as it is trained, and in training mode.
    average = copy.deepcopy(network).eval()
    average.load_state_dict(loop.state.averaged())
    context.group.broadcast_weights(average)  # running statistics are each process's own
    return validate(
        average,
        validation,
        training_step.network_settings.input_size,
        training_step.feed,
        group=context.group,
        broken=setup.unread_validation,
        threads=context.threads,
    )
