"""Training and evaluation of the rows of an ablation with each seed; finished runs are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import typer
from pydantic import ValidationError

from ablations.inception_rows import Row
from detector.errors import EvaluationError
from detector.files import write_atomically
from detector.models.weights.classifier_file import load_classifier
from detector.progress.bar import duration
from detector.settings import Settings
from detector.training.classifier.inputs import fingerprint, listing_of
from detector.training.classifier.outputs import CLASSIFIER
from detector.training.classifier.settings import ClassifierTrainingConfig
from detector.training.classifier.trainer import train
from detector.training.classifier.validation import validate
from detector.training.engine.checkpoint import CURRENT, NEW, PREVIOUS
from detector.training.engine.left_out import SkippedFiles

if TYPE_CHECKING:
    from torch import Tensor

    from detector.datasets.labelled.images import LabelledImages
    from detector.training.engine.context import RunContext

RESULT = "result.json"


@dataclass(frozen=True)
class Run:
    """One row with one seed; its folder is named by all that decides its weights."""

    row: Row
    seed: int
    settings: ClassifierTrainingConfig
    folder: Path


class Result(Settings):
    """Accuracy of a run, as shares of the validation images, and a hash of which those are."""

    top1: float
    top5: float
    images: int
    judged: str
    readable: bool
    """True where every image that was asked for could be read."""


def runs_of(
    rows: Sequence[Row], seeds: Sequence[int], images: LabelledImages, out: Path
) -> list[Run]:
    """All rows with the first seed, then all with the next: a whole table comes first."""
    made = []
    for seed in seeds:
        for row in rows:
            how = row.settings.optimiser.model_copy(update={"seed": seed})
            settings = row.settings.model_copy(update={"optimiser": how})
            # A row whose settings changed is another run; one that only moved is the same.
            folder = out / "runs" / fingerprint(settings, images)
            made.append(Run(row, seed, settings, folder))
    return made


def kept(run: Run, judged: LabelledImages) -> Result | None:
    """The result of a finished run on these validation images; None where there is none."""
    try:
        tree: Any = json.loads((run.folder / RESULT).read_text(encoding="utf-8"))
        found = Result.model_validate(tree)
    except (OSError, ValueError, ValidationError):
        return None
    return found if found.judged == listing_of(judged) else None


def announced(rows: Sequence[Row], runs: Sequence[Run], judged: LabelledImages) -> Iterator[str]:
    """Describe the work ahead, and where it departs from the paper."""
    done = sum(kept(run, judged) is not None for run in runs)
    yield f"{len(runs)} runs, {done} of them done already"
    if any(row.adapted for row in rows):
        size = rows[0].settings.network.input_size
        yield f"at {size} pixels the auxiliary head departs from the paper: it takes any map"


def measure_all(
    runs: Sequence[Run], images: LabelledImages, judged: LabelledImages, context: RunContext
) -> Iterator[tuple[Run, Result]]:
    """Yield each run and its result, until the last or `context.stop`; kept results are read."""
    waiting = sum(kept(run, judged) is None for run in runs)
    took: list[float] = []  # of this process's runs alone: what was kept took no time
    for number, run in enumerate(runs, start=1):
        found = kept(run, judged)
        if found is None:
            if not context.quiet:
                text = f"run {number} of {len(runs)}: {run.row.name}, seed {run.seed}"
                if took:
                    rest = waiting - len(took)
                    left = duration(sum(took) / len(took) * rest)
                    text += f"; about {left} left for {rest}"
                typer.echo(text, err=True)
            before = time.monotonic()
            found = measure(run, images, judged, context)
            took.append(time.monotonic() - before)
        if found is None:
            return
        yield run, found
        if context.group.any(bool(context.stop), context.device):
            return


def measure(
    run: Run, images: LabelledImages, judged: LabelledImages, context: RunContext
) -> Result | None:
    """Train unless that is done, evaluate, and write the result; None if it was asked to stop."""
    readable = not SkippedFiles(run.folder, context.group, resumed=True)
    if not (run.folder / CLASSIFIER).is_file():
        own = replace(context, out=run.folder)
        trained = train(run.settings, images, judged, own)
        readable = trained.readable
        if not trained.finished:
            return None
    found = _judged(run, judged, readable, context)
    if context.group.is_main:
        write_atomically(run.folder / RESULT, found.model_dump_json(indent=1) + "\n")
        for name in (NEW, CURRENT, PREVIOUS):  # each has the weights three times
            (run.folder / name).unlink(missing_ok=True)
    context.group.barrier()
    return found


def _judged(run: Run, judged: LabelledImages, readable: bool, context: RunContext) -> Result:
    # The saved file, not the weights in memory: a run found finished is judged alike.
    model: Any = load_classifier(run.folder / CLASSIFIER).model.eval().to(context.device)

    def feed(crops: Tensor) -> Tensor:
        crops = crops.to(context.device, memory_format=torch.channels_last)
        return model.normalisation(crops)  # type: ignore[no-any-return]

    size = run.settings.network.input_size
    found = validate(model, judged, size, feed, group=context.group, threads=context.threads)
    if not found.images:
        raise EvaluationError(f"{judged.name}: none of its images could be read; give --val IMAGES")
    readable = readable and found.images == len(judged)
    return Result(
        top1=found.top1, top5=found.top5, images=found.images, judged=listing_of(judged),
        readable=readable,
    )  # fmt: skip
