"""The training of one classifier, from its start or its checkpoint to its last step."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import torch
import typer

from detector.hardware import choose_precision
from detector.progress.journal import read_journal
from detector.progress.live import TrainingDisplay
from detector.settings import save_config
from detector.training.classifier.inputs import (
    NOT_OF_THE_WEIGHTS,
    Learning,
    fingerprint,
    learning_of,
    network_of,
)
from detector.training.classifier.outputs import report, write_classifier
from detector.training.classifier.step import Step, Sums
from detector.training.classifier.validation import Accuracy, validate
from detector.training.engine.left_out import SkippedFiles
from detector.training.engine.logs import JOURNAL, Logs
from detector.training.engine.loop import TrainingLoop
from detector.training.engine.optimisers import build_optimiser, rate_by_step
from detector.training.engine.run_folder import CONFIG, naming_what_differs
from detector.training.engine.state import TrainingState, freeze

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from detector.datasets.labelled.images import LabelledImages
    from detector.progress.interruption import Stop
    from detector.training.classifier.settings import ClassifierTrainingConfig
    from detector.training.engine.context import RunContext
    from detector.training.engine.distributed import Group


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    reached   steps that are done; with one or more the averaged weights are in
              classifier.safetensors
    last      steps that it is to have
    readable  whether every image that was asked for could be read, by any process
    """

    reached: int
    last: int
    readable: bool

    @property
    def finished(self) -> bool:
        return self.reached == self.last


def train(
    settings: ClassifierTrainingConfig,
    images: LabelledImages,
    judged: LabelledImages | None,
    context: RunContext,
    group: Group,
    stop: Stop,
) -> Trained:
    """Train until the last step or until `stop`, going on from the checkpoint in `context.out`."""
    cv2.setNumThreads(1)
    learning = learning_of(settings, images, judged, group)
    context.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.optimiser.seed)
    network = network_of(settings, len(images.classes), context.data_root, context.device)
    freeze(network, []) if settings.network.frozen_norm else network.train()
    group.broadcast_weights(network)
    how = settings.optimiser
    run = TrainingState(
        network, how, fingerprint(settings, images),
        build_optimiser(network, how), rate_by_step(how, learning.last, learning.steps_per_epoch),
    )  # fmt: skip
    with naming_what_differs(context.out, settings, NOT_OF_THE_WEIGHTS):
        loop = TrainingLoop(
            run, how, context, group, stop, last=learning.last, seed=settings.sampling_seed,
            clip=how.clip,
        )  # fmt: skip
    if group.is_main:
        save_config(context.out / CONFIG, settings)
        if not context.quiet:
            report(learning)
    step_of = Step(
        torch.compile(network) if context.compiled else network, network.normalisation,
        settings.network, context.device, choose_precision(how.precision, context.device), how,
    )  # fmt: skip
    left_out = SkippedFiles(context.out, group, resumed=loop.first > 0)
    reached = _steps(learning, network, loop, step_of, context, left_out)
    for message in left_out.messages():
        typer.echo(f"left out: {message}", err=True)
    if reached and group.is_main:  # of one that was stopped, too: something to try
        write_classifier(context.out, learning, run.averaged(), network, reached)
    readable = not group.any(bool(left_out), context.device)  # which waits for the first to write
    return Trained(reached, learning.last, readable)


def _steps(
    learning: Learning,
    network: nn.Module,
    loop: TrainingLoop,
    step_of: Step,
    context: RunContext,
    left_out: SkippedFiles,
) -> int:
    """All steps; how many are done in the end."""
    make, threads, group = learning.batches, context.threads, loop.group
    display = TrainingDisplay(
        loop.last, loop.first, learning.settings.optimiser.batch, context.quiet,
        items="images", right="right",
    )  # fmt: skip
    with ExitStack() as stack:
        logs = Logs(context, loop.first, silent=not group.is_main, stack=stack)

        def validated(done: int) -> bool:
            if learning.judged is None or not _validates(learning, done):
                return False
            accuracy = _validated(learning, learning.judged, network, loop, step_of, threads)
            display.say(f"validation: {accuracy}")
            logs.note(done - 1, "validation", accuracy._asdict())
            left_out.record(learning.unjudged, "judged: ")
            return True

        reached = loop.first
        if group.any(group.is_main and _was_cut(context.out, reached), context.device):
            validated(reached)
        for current in loop.steps(make, threads=threads, ahead=threads + 1, after=validated):
            left_out.record(make.broken)
            sums = step_of(current.batch, loop.factor)
            result = loop.update(current.step, sums, _mean_loss, partial(make.replay, current.step))
            total, reached = Sums(*result.sums), current.step + 1
            right = total.right / max(total.images, 1)
            logs.step(
                current, result, {"right": round(right, 4)}, images=int(total.images),
                epoch=round(reached / learning.steps_per_epoch, 3),
            )  # fmt: skip
            display.step(current.step, result.loss, current.rate, right, current.waited)
    display.close()
    return reached


def _mean_loss(sums: Sequence[float]) -> float:
    total = Sums(*sums)
    return total.loss / total.images if total.images else math.nan


def _validates(learning: Learning, reached: int) -> bool:
    """Whether the validation images are due after so many steps."""
    every = learning.settings.optimiser.validate_every
    turns = [int(s / learning.steps_per_epoch / every) for s in (reached - 1, reached)]
    return turns[0] < turns[1] or reached == learning.last


def _was_cut(out: Path, reached: int) -> bool:
    """Whether a run ended between the checkpoint of so many steps and their validation."""
    journal = read_journal(out / JOURNAL)
    judged = any(one.get("step") == reached - 1 and "validation" in one for one in journal)
    return reached > 0 and not judged


def _validated(
    learning: Learning, judged: LabelledImages, network: nn.Module, loop: TrainingLoop,
    step_of: Step, threads: int,
) -> Accuracy:  # fmt: skip
    """The accuracy of the averaged weights."""
    average = copy.deepcopy(network).eval()
    average.load_state_dict(loop.state.averaged())
    loop.group.broadcast_weights(average)  # running statistics are each process's own
    return validate(
        average, judged, step_of.seen.input_size, step_of.feed, group=loop.group,
        broken=learning.unjudged, threads=threads,
    )  # fmt: skip
