"""Outputs of a classifier's training: an early report, and the classifier's file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from detector.datasets.labelled.images import LabelledImages
from detector.errors import ImageError
from detector.images.decoding import decode
from detector.models.weights.classifier_file import save_classifier
from detector.progress.messages import pluralise
from detector.training.classifier.inputs import TrainingSetup

CLASSIFIER = "classifier.safetensors"
# Images of a set that are decoded before the training, to see if they can be.
SAMPLE = 50


def report(setup: TrainingSetup) -> None:
    """Report on stderr what will be learnt from and for how long, before hours are spent on it."""
    settings, optimiser = setup.settings, setup.settings.optimiser
    for line in (
        *_described("learn", setup.images), *_described("judge", setup.validation)
    ):  # fmt: skip
        typer.echo(line, err=True)
    typer.echo(
        f"{settings.network.architecture} at {settings.network.input_size} pixels; recipe"
        f" {settings.recipe}, {setup.last} steps of {optimiser.batch} images",
        err=True,
    )
    if optimiser.warmup >= optimiser.epochs:
        typer.echo(
            f"  warning: the rate only rises: its warm-up has {optimiser.warmup:g} epochs, the"
            f" training {optimiser.epochs:g}; set optimiser.warmup",
            err=True,
        )


def _described(purpose: str, images: LabelledImages | None) -> Iterator[str]:
    if images is None:
        yield f"{purpose}: no images, so nothing will be measured"
        return
    counts = images.per_class()
    yield (
        f"{purpose}: {images.name}, {pluralise(len(images), 'image')} of"
        f" {pluralise(len(images.classes), 'class')}, {counts.min()} to {counts.max()} each"
    )
    for rule, n in images.skipped_by_rule().items():
        example = next(skipped for skipped in images.skipped if skipped.rule == rule)
        yield f"  left out: {n} x {rule}, such as {example}"
    for file in images.subset(SAMPLE).files:
        try:
            decode(images.read(file), file)
        except ImageError as error:
            yield f"  warning: {error}"


def say_what_to_try(folders: Sequence[Path], unfinished: str = "") -> None:
    """Name the finished classifiers, and the command that evaluates them together.

    unfinished  how far a training came that was stopped
    """
    files = [folder / CLASSIFIER for folder in folders]
    given = " ".join(f"--weights {file}" for file in files)
    wrote = str(files[0]) if len(files) == 1 else f"{len(files)} members"
    at = f" of {unfinished}" if unfinished else ""
    typer.echo(
        f"wrote {wrote}{at}; try: inception-rcnn evaluate classifier {given} --data VAL", err=True
    )


def write_classifier(
    out: Path, setup: TrainingSetup, state: Any, network: Any, reached: int
) -> None:
    """Write the averaged weights with their description."""
    chosen = setup.settings.network
    unfinished = f"step {reached} of {setup.last}" if reached < setup.last else ""
    save_classifier(
        out / CLASSIFIER, state, architecture=chosen.architecture, options=chosen.options,
        input_size=chosen.input_size, classes=setup.images.classes,
        normalisation=network.normalisation, pixel_scale=chosen.pixel_scale, unfinished=unfinished,
    )  # fmt: skip
