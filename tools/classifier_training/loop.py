"""The training of one classifier, from its start or its checkpoint to its last step."""

from __future__ import annotations

import copy
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import torch
import typer

from classifier_training.inputs import Learning, Places, fingerprint, learning_of, network_of
from classifier_training.outputs import Logs, report, save_settings, write_classifier
from classifier_training.step import Step
from detector.hardware import choose_precision
from detector.reporting.live import TrainingDisplay
from detector.training.batches import prefetched
from detector.training.loss_scale import LossScale
from detector.training.optimisers import build_optimiser, rate_by_step
from detector.training.state import TrainingState, freeze
from detector.training.validation import Accuracy, validate

if TYPE_CHECKING:
    from detector.datasets.labelled import LabelledImages
    from detector.reporting.cli import Stop
    from detector.training.classifier_settings import ClassifierTrainingConfig
    from detector.training.distributed import Group


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    finished  whether it reached its last step: the averaged weights are in classifier.safetensors
    readable  whether every image that was asked for could be read, by any process
    """

    finished: bool
    readable: bool


def train(
    settings: ClassifierTrainingConfig,
    images: LabelledImages,
    judged: LabelledImages | None,
    places: Places,
    group: Group,
    stop: Stop,
) -> Trained:
    """Train until the last step or until `stop`, going on from the checkpoint in `places.out`."""
    cv2.setNumThreads(1)
    learning = learning_of(settings, images, judged, group)
    places.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.optimiser.seed)
    network = network_of(settings, len(images.classes), places.data_root, places.device)
    freeze(network, []) if settings.network.frozen_norm else network.train()
    group.same_weights(network)
    run, scale, first = _resumed(learning, network, places)
    if group.is_first:
        save_settings(places.out, settings)
        if not places.quiet:
            report(learning, first)
    step_of = Step(
        torch.compile(network) if places.compiled else network, network.normalisation,
        settings.network, places.device,
        choose_precision(settings.optimiser.precision, places.device),
        settings.optimiser, run, scale, group,
    )  # fmt: skip
    with ExitStack() as stack:
        logs = Logs(
            places.out, first,
            silent=not group.is_first, tensorboard=places.tensorboard, stack=stack,
        )  # fmt: skip
        reached = _steps(learning, network, step_of, places, logs, stop, first)
    broken = learning.batches.broken
    for _, message in sorted(broken.items()):
        typer.echo(f"left out: {message}", err=True)
    finished = reached == learning.last
    if finished and group.is_first:
        write_classifier(places.out, learning, run.averaged(), network)
    readable = not group.any(bool(broken), places.device)  # which waits for the first to write
    return Trained(finished, readable)


def _resumed(
    learning: Learning, network: Any, places: Places
) -> tuple[TrainingState, LossScale, int]:
    """The state of a run, of its loss scale, and the step to begin with."""
    how = learning.settings.optimiser
    run = TrainingState(
        network, how, fingerprint(learning.settings, learning.images),
        build_optimiser(network, how), rate_by_step(how, learning.last, learning.steps_per_epoch),
    )  # fmt: skip
    scale = LossScale(how.precision == "float16")
    run.extra["progress"] = scale.state()
    first = run.resume(places.out)
    scale.load(run.extra["progress"])
    return run, scale, first


def _steps(
    learning: Learning,
    network: Any,
    step_of: Step,
    places: Places,
    logs: Logs,
    stop: Stop,
    first: int,
) -> int:
    """The loop; the step that it reached."""
    how, make, last = learning.settings.optimiser, learning.batches, learning.last
    run, group, threads = step_of.run, step_of.group, places.threads
    bad_in_a_row, reached = 0, first
    display = TrainingDisplay(last, first, how.batch, places.quiet, items="images", right="right")
    before = time.perf_counter()
    batches = prefetched(make, first, last, threads=threads, ahead=threads + 1)
    for step, batch in enumerate(batches, start=first):
        waited, reached = time.perf_counter() - before, step + 1
        torch.manual_seed((how.seed * 1_000_003 + step) * 1009 + group.rank)
        rate = run.set_rate(step)
        found = step_of(step, batch)
        if found.taken:
            bad_in_a_row = 0
        elif not found.harmless:
            bad_in_a_row += 1
            run.skip(step, make.replay(step), places.out, bad_in_a_row)
        seconds = time.perf_counter() - before
        logs.step(step, reached / learning.steps_per_epoch, rate, found, seconds, waited)
        display.step(step, found.loss, rate, found.right, waited)
        stopping = group.any(bool(stop), places.device)
        if stopping or reached == last or reached % how.save_every == 0:
            if group.is_first:
                run.extra["progress"] = step_of.scale.state()
                run.save(places.out, reached)
            group.wait()
        if stopping:
            stop.with_the_others()
            break
        if learning.judged is not None and _validates(learning, reached):
            accuracy = _validated(learning.judged, network, step_of, threads)
            display.say(f"validation: top-1 {accuracy.top1:.2%}, top-5 {accuracy.top5:.2%}")
            logs.validation(step, accuracy)
        before = time.perf_counter()
    display.close()
    return reached


def _validates(learning: Learning, reached: int) -> bool:
    """Whether the validation images are due after so many steps."""
    every = learning.settings.optimiser.validate_every
    turns = [int(s / learning.steps_per_epoch / every) for s in (reached - 1, reached)]
    return turns[0] < turns[1] or reached == learning.last


def _validated(judged: LabelledImages, network: Any, step_of: Step, threads: int) -> Accuracy:
    """The accuracy of the averaged weights."""
    average = copy.deepcopy(network).eval()
    average.load_state_dict(step_of.run.averaged())
    step_of.group.same_weights(average)  # running statistics are each process's own
    return validate(
        average, judged, step_of.seen.input_size, step_of.feed, group=step_of.group, threads=threads
    )
