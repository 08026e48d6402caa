"""Evaluation of classifiers: the settings, the labels of the images, and the table of errors."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from pydantic import Field

from detector.datasets.formats.annotation_files import read_limited
from detector.datasets.labelled.images import LabelledImages, class_key
from detector.errors import EvaluationError
from detector.evaluation.classification import Row, hits, table
from detector.evaluation.scoring.classifier import ClassifierScores
from detector.evaluation.scoring.probability_cache import ProbabilityCache
from detector.files import write_atomically
from detector.models.inference.prepare import Precision
from detector.models.weights.classifier_file import Classifier
from detector.progress.messages import pluralise
from detector.settings import Settings


class EvaluateClassifierSettings(Settings):
    """Settings of `inception-rcnn evaluate classifier`, as --set names them."""

    short_side: int = Field(256, ge=224)
    """Of an image before its 1 or 10 crops of 224 are taken."""
    architecture: str | None = None
    """Of weights that do not tell: resnet50, vgg16, ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(0, ge=0)
    """CPU threads; 0 is all cores."""


def under_classes(
    images: LabelledImages, members: Sequence[Classifier], weights: Path, classes: Path | None
) -> LabelledImages:
    """Label the images by the outputs: by --classes, by the names in the weights, or in the sorted
    order of the folders, which is that of all ImageNet weights.

    weights  of the first member, for messages
    """
    outputs = {member.num_outputs for member in members}
    named = {member.classes for member in members} - {None}
    if len(outputs) > 1 or len(named) > 1:
        raise EvaluationError("the members do not tell the same classes apart")
    count = outputs.pop()
    if classes is not None:
        text = read_limited(classes, 10_000_000).decode("utf-8", errors="replace")
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        if not set(map(class_key, images.classes)) <= set(map(class_key, names)):
            names = tuple(line.split()[0] for line in names)  # what follows describes them
        if len(names) != count:
            raise EvaluationError(f"{classes}: {len(names)} names, but {count} outputs")
        return images.under(names)
    if named:
        return images.under(named.pop() or ())
    if len(images.classes) != count:
        raise EvaluationError(
            f"{images.name} has {len(images.classes)} classes, {weights} has {count} outputs;"
            " give --classes FILE with the outputs' names, one a line"
        )
    return images


def scores_of(
    out: Path, weights: Sequence[Path], members: Sequence[Classifier], images: LabelledImages,
    counts: Sequence[int], short_side: int, precision: Precision,
) -> Iterator[tuple[tuple[int, int], ClassifierScores]]:  # fmt: skip
    """Open or begin the cache of each member and each number of crops, one after the other.

    Files of probabilities are bound to the weights and to all that the numbers depend on.
    """
    files = _files_on_disk(images)
    for count, (number, member) in product(counts, enumerate(members)):
        digest = hashlib.sha256(weights[number].read_bytes()).hexdigest()
        side = 0 if count == 144 else short_side  # which has scales of its own
        bound = repr((digest, count, side, member.input_size, precision, files))
        kept = ProbabilityCache(out, bound, (len(images), member.num_outputs))
        yield (number, count), ClassifierScores(member, images, kept, count, side)


# With places, sizes and times: the names within one set may be those of another one, too.
def _files_on_disk(images: LabelledImages) -> str:
    place: Any = getattr(images.read, "place", Path)
    states: dict[Path, tuple[int, ...] | None] = {}  # one tar holds all of its members
    digest = hashlib.sha256()
    for name in images.files:
        path = Path(os.path.abspath(place(name)))
        if path not in states:
            states[path] = _state(path)
        digest.update(repr((name, str(path), states[path])).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:  # what is wrong with it is said where it is read
        return None
    return found.st_size, found.st_mtime_ns


def table_rows(
    scores: Mapping[tuple[int, int], ClassifierScores], images: LabelledImages
) -> tuple[list[Row], dict[str, str]]:
    """Make the table: the first member alone, the first two together, ..., each by each number of
    crops; and the files that could not be read, and why.

    scores  by the number of the member and of crops
    """
    broken = {file: why for one in scores.values() for file, why in one.broken.items()}
    # The same images in every row, so that the rows compare.
    usable = np.array([file not in broken for file in images.files])
    if not usable.any():
        raise EvaluationError(f"{images.name}: none of its images can be read")
    rows = []
    for last, crops in sorted(scores):
        each = [scores[number, crops].kept.rows[usable] for number in range(last + 1)]
        mean = np.mean(each, axis=0)
        top1, top5 = (1 - float(hits(mean, images.labels[usable], k).mean()) for k in (1, 5))
        rows.append(Row(last + 1, crops, top1, top5, len(mean)))
    return rows, broken


def report(
    out: Path,
    scores: Mapping[tuple[int, int], ClassifierScores],
    images: LabelledImages,
    **about: object,
) -> bool:
    """Print the table, and write it as classification.json; False if some image is left out."""
    rows, broken = table_rows(scores, images)
    for _, message in sorted(broken.items()):
        typer.echo(f"left out: {message}", err=True)
    for line in table(rows):
        typer.echo(line)
    typer.echo(f"{pluralise(rows[0].images, 'image')} of {images.name}")
    entries = [{**row._asdict(), "cost": row.cost} for row in rows]
    result = {"table": entries, "data": images.name, **about, "broken": broken}
    write_atomically(out / "classification.json", json.dumps(result, indent=2) + "\n")
    return not broken
