"""Shared parts of the text layouts of results: checked numbers in, detections out.

A row of a text file is an image, a class, a score and four corners. Scores are written in
millionths and corners in hundredths of a pixel, so that the same detections give the same bytes.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.boxes import xyxy_from_coco
from detector.datasets.dataset import Dataset
from detector.datasets.formats.annotation_files import read_limited
from detector.errors import AmbiguousName, AnnotationError
from detector.results.unmatched import Unmatched
from detector.structures import Array, Detections

MAX_BYTES = 4_000_000_000

# Boxes (N, 4) of one convention to boxes of another, float64 (detector.boxes).
Convert = Callable[[Array], Array]


class Row(NamedTuple):
    """One detection: image id, class label, score, and the box in the layout's form."""

    image: str
    label: int
    score: float
    box: Sequence[float]


class Names(NamedTuple):
    """Look-up of a row's image (-> id) and class (-> label); `unmatched` counts the others."""

    find: Callable[[Any], str | None]
    labels: Mapping[Any, int]
    unmatched: Unmatched

    def row(
        self, where: str, image: object, name: object, score: float, box: Sequence[float]
    ) -> Row | None:
        """The detection, or None if the data set has no such image or class."""
        try:
            image_id = self.find(image)
        except AmbiguousName as error:
            raise AmbiguousName(f"{where}: {error}", error.candidates) from None
        if image_id is None:
            self.unmatched.images[str(image)] += 1
        elif name not in self.labels:
            self.unmatched.classes[str(name)] += 1
        else:
            return Row(image_id, self.labels[name], score, box)
        return None


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (position, text) of each line that is not blank; the position names file and line."""
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.strip():
            yield f"{path}: line {number}", line.strip()


def text_of(path: Path) -> str:
    try:
        # Spreadsheets put a byte-order mark first.
        return read_limited(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: is not UTF-8 text: {error.reason}") from error


def numbers(where: str, fields: Sequence[str], layout: str) -> list[float]:
    """The fields as finite numbers. Raises AnnotationError that shows the layout."""
    try:
        values = [float(field) for field in fields]
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


def gather(
    path: Path, dataset: Dataset, rows: Iterable[Row | None], unmatched: Unmatched, to_xywh: Convert
) -> dict[str, Detections]:
    """Gather rows by image, in the file's order; None stands for a row that `unmatched` has
    counted.
    """
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        if row is not None:
            by_image.setdefault(row.image, []).append(row)
    unmatched.refuse_nothing(path, dataset, len(by_image))
    detections = {}
    for image, image_rows in by_image.items():
        boxes, scores, labels = zip(*((r.box, r.score, r.label) for r in image_rows), strict=True)
        xywh = to_xywh(np.array(boxes, np.float64))
        if (wrong := np.flatnonzero((xywh[:, 2:] < 0).any(1))).size:
            raise AnnotationError(
                f"{path}: image {image}: the box {boxes[wrong[0]]} has a negative side"
            )
        detections[image] = Detections(
            xyxy_from_coco(xywh), np.array(scores), np.array(labels), written=xywh
        )
    return detections


def best_first(found: Detections, from_xyxy: Convert) -> Iterator[tuple[int, list[str]]]:
    """Yield (label, [score and corners as text]), best first; no side is rounded to 0."""
    order = np.argsort(-found.scores.astype(np.float64), kind="stable")
    exact = found.boxes if found.written is None else xyxy_from_coco(found.written)
    boxes = exact[order].astype(np.float64).round(2)
    least = np.where(found.xywh[order, 2:] > 0, 0.01, 0)
    # Rounded to nothing, a tiny box would come back without an area and overlap nothing.
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + least)
    scores = found.scores[order].tolist()
    for label, score, box in zip(
        found.labels[order].tolist(), scores, from_xyxy(boxes).tolist(), strict=True
    ):
        yield label, [f"{score:.6f}", *(f"{side:.2f}" for side in box)]


def results_of_images(
    dataset: Dataset, results: Mapping[str, Detections]
) -> Iterator[tuple[int, str, Detections]]:
    """Yield (position, image id, detections) of images that have any, in the data set's order."""
    for position, sample in enumerate(dataset.samples):
        found = results.get(sample.image_id)
        if found is not None and len(found):
            yield position, sample.image_id, found
