"""What a training says and leaves: an early report, a journal, its settings, the classifier."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml

from detector.files import write_atomically
from detector.models.classifier_file import save_classifier
from detector.reporting.journal import Journal
from detector.reporting.labelled_report import describe_images
from detector.reporting.track import Tracker

if TYPE_CHECKING:
    from classifier_training.inputs import Learning
    from classifier_training.step import Moved
    from detector.training.classifier_settings import ClassifierTrainingConfig
    from detector.training.validation import Accuracy

CLASSIFIER = "classifier.safetensors"


class Logs:
    """The journal of a run, and its curves if asked for; silent in all processes but the first."""

    def __init__(
        self, out: Path, first: int, *, silent: bool, tensorboard: bool, stack: ExitStack
    ) -> None:
        self._journal: Journal | None = None
        self._tracker: Tracker | None = None
        if tensorboard and not silent:
            curves = Tracker(out / "tensorboard", resume_at=first)
            self._tracker = stack.enter_context(closing(curves))
        if not silent:
            entries = Journal(out / "journal.jsonl", resume_at=first)
            self._journal = stack.enter_context(closing(entries))

    def step(
        self, step: int, epoch: float, rate: float, found: Moved, seconds: float, waited: float
    ) -> None:
        if self._journal is not None:
            self._journal.write(
                step=step, epoch=round(epoch, 3), loss=round(found.loss, 5), rate=rate,
                gradient=round(found.norm, 4), right=round(found.right, 4), images=found.images,
                seconds=round(seconds, 3), waited=round(waited, 3),
            )  # fmt: skip
        if self._tracker is not None:
            self._tracker.write(step, loss=found.loss, rate=rate, gradient=found.norm)

    def validation(self, step: int, found: Accuracy) -> None:
        if self._journal is not None:
            self._journal.write(step=step, validation=found._asdict())
        if self._tracker is not None:
            self._tracker.write(step, top1=found.top1, top5=found.top5)


def report(learning: Learning, first: int) -> None:
    """What will be learnt from and for how long, before hours are spent on it."""
    settings = learning.settings
    for line in (
        *describe_images("learn", learning.images), *describe_images("judge", learning.judged)
    ):  # fmt: skip
        typer.echo(line, err=True)
    typer.echo(
        f"{settings.network.architecture} at {settings.network.input_size} pixels; recipe"
        f" {settings.recipe}, {learning.last} steps of {settings.optimiser.batch} images"
        + (f", resumed at step {first}" if first else ""),
        err=True,
    )


def save_settings(out: Path, settings: ClassifierTrainingConfig) -> None:
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
    write_atomically(out / "config.yaml", text)


def write_classifier(out: Path, learning: Learning, state: Any, network: Any) -> None:
    """The averaged weights with what they are."""
    seen = learning.settings.network
    save_classifier(
        out / CLASSIFIER, state, architecture=seen.architecture, options=seen.options,
        input_size=seen.input_size, classes=learning.images.classes,
        normalisation=network.normalisation, pixel_scale=seen.pixel_scale,
    )  # fmt: skip
