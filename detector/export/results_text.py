"""What the text layouts of results share: lines of numbers in, checked; detections out.

A row of a text file is an image, a class, a score and four corners. Scores are written in
millionths and corners in hundredths of a pixel, so that the same detections give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.datasets.annotation_files import read_limited
from detector.datasets.dataset import Dataset
from detector.errors import AnnotationError, EvaluationError
from detector.structures import Array, Detections

MAX_BYTES = 4_000_000_000

# Boxes (N, 4) of one convention to boxes of another (detector.boxes).
Convert = Callable[[Array], Array]


class Row(NamedTuple):
    """One detection: the image's id, the class's label, and the corners as they are written."""

    image: str
    label: int
    score: float
    corners: Sequence[float]


class Names(NamedTuple):
    """What a layout calls the images of a data set (-> ids) and its classes (-> labels)."""

    dataset: Dataset
    images: Mapping[Any, str]
    labels: Mapping[Any, int]

    def row(
        self, where: str, image: object, name: object, fields: Sequence[str], layout: str
    ) -> Row:
        """A detection of score and corners, as `fields`; what cannot be one is an error."""
        score, *corners = numbers(where, fields, layout)
        if image not in self.images:
            raise EvaluationError(
                f"{where} is of image {image!r}, which {self.dataset.name} does not have; choose"
                " the data set and split that was detected on"
            )
        if name not in self.labels:
            raise unknown_class(where, name, self.dataset)
        return Row(self.images[image], self.labels[name], score, corners)


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of each line that is not blank; the place names file and line."""
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.strip():
            yield f"{path}: line {number}", line.strip()


def text_of(path: Path) -> str:
    try:
        return read_limited(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: is not UTF-8 text: {error.reason}") from error


def numbers(where: str, fields: Sequence[str], layout: str) -> list[float]:
    """The fields as finite numbers, or an AnnotationError that shows the layout."""
    try:
        values = [float(one) for one in fields]
    except ValueError:
        values = []
    if len(values) != len(fields) or not all(math.isfinite(v) and abs(v) < 1e9 for v in values):
        raise AnnotationError(f"{where}: expected numbers: {layout}")
    return values


def whole_number(where: str, text: str, layout: str) -> int:
    # Python itself refuses thousands of digits.
    if not text.removeprefix("-").isdecimal() or len(text) > 1000:
        raise AnnotationError(f"{where}: {text[:40]!r} is not a whole number; expected: {layout}")
    return int(text)


def unknown_class(where: str, name: object, dataset: Dataset) -> EvaluationError:
    return EvaluationError(
        f"{where} is of class {name!r}, which {dataset.name} does not have: the class lists must "
        f"match; its {len(dataset.classes)} begin with {', '.join(dataset.classes[:3])}"
    )


def gathered(path: Path, rows: Iterable[Row], to_xyxy: Convert) -> dict[str, Detections]:
    """Rows by image, in the file's order."""
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        by_image.setdefault(row.image, []).append(row)
    found = {}
    for image, mine in by_image.items():
        corners, scores, labels = zip(*((r.corners, r.score, r.label) for r in mine), strict=True)
        boxes = to_xyxy(np.array(corners))
        try:
            found[image] = Detections(boxes, np.array(scores), np.array(labels))
        except ValueError as error:  # no area, or none left in float32
            raise AnnotationError(f"{path}: image {image}: {error}") from error
    return found


def best_first(found: Detections, from_xyxy: Convert) -> Iterator[tuple[int, list[str]]]:
    """(label, [score and corners as text]) of one image's detections; no side is rounded away."""
    order = np.argsort(-found.scores.astype(np.float64), kind="stable")
    boxes = found.boxes[order].astype(np.float64).round(2)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 0.01)
    scores = found.scores[order].tolist()
    for label, score, box in zip(
        found.labels[order].tolist(), scores, from_xyxy(boxes).tolist(), strict=True
    ):
        yield label, [f"{score:.6f}", *(f"{side:.2f}" for side in box)]


def results_of_images(
    dataset: Dataset, results: Mapping[str, Detections]
) -> Iterator[tuple[int, str, Detections]]:
    """(position, image id, detections) of the images that have any, in the data set's order."""
    for position, sample in enumerate(dataset.samples):
        found = results.get(sample.image_id)
        if found is not None and len(found):
            yield position, sample.image_id, found
