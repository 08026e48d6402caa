"""Detections on disk in COCO's results layout: one list of rows, readable by every COCO tool.

    {image_id, file_name, category_id, category_name, bbox: [x, y, width, height], score}

The same detections give the same bytes: boxes in hundredths of a pixel, scores in millionths, one
row a line, best first within an image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.boxes import coco_from_xyxy, xyxy_from_coco
from detector.datasets.coco import read_json
from detector.datasets.dataset import Dataset
from detector.errors import AnnotationError, EvaluationError
from detector.files import write_atomically
from detector.structures import Detections

FILE = "detections.json"
"""What the tools call it."""
_SMALLEST = 0.01  # pixels: no side is rounded to nothing


def detection_rows(
    image_id: str,
    file_name: str,
    found: Detections,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """One image's detections, best first.

    category_ids  the data set's own ids of `classes`; 1, 2, ... where it has none
    """
    ids = category_ids or range(1, len(classes) + 1)
    order = np.argsort(-found.scores.astype(np.float64), kind="stable")
    boxes = coco_from_xyxy(found.boxes[order])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], _SMALLEST)
    rows = zip(
        np.round(boxes, 2).tolist(),
        found.scores[order].astype(np.float64).tolist(),
        found.labels[order].tolist(),
        strict=True,
    )
    return [
        {
            "image_id": _as_coco_id(image_id),
            "file_name": file_name,
            "category_id": ids[label],
            "category_name": classes[label],
            "bbox": box,
            "score": round(score, 6),
        }
        for box, score, label in rows
    ]


def write_detections(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as `detection_rows` makes them, in the order given, in one step."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    write_atomically(path, f"[\n{lines}\n]\n" if lines else "[]\n")


def write_results(path: str | Path, dataset: Dataset, results: Mapping[str, Detections]) -> None:
    """The results of a data set's images, in its order and with its category ids."""
    rows: list[dict[str, Any]] = []
    for sample in dataset.samples:
        found = results.get(sample.image_id, Detections.empty())
        rows += detection_rows(
            sample.image_id, sample.path.name, found, dataset.classes, dataset.category_ids
        )
    write_detections(path, rows)


def read_detections(path: str | Path, dataset: Dataset) -> dict[str, Detections]:
    """The rows of a file by image id of `dataset`, in the file's order.

    An image is found by its image_id, else by the stem of its file_name; a class by its name, else
    by its id. Results of another data set or with other classes are an EvaluationError.
    """
    path = Path(path)
    rows = read_json(path)
    if not isinstance(rows, list):
        raise AnnotationError(f"{path}: expected COCO's results layout, a list of detections")
    _check_classes(path, rows, dataset)
    label_of: dict[Any, int] = {number: i for i, number in enumerate(dataset.category_ids)}
    label_of |= {name: i for i, name in enumerate(dataset.classes)}
    image_of = {sample.path.stem: sample.image_id for sample in dataset.samples}
    image_of |= {sample.image_id: sample.image_id for sample in dataset.samples}
    columns: dict[str, list[tuple[list[float], float, int]]] = {}
    for position, row in enumerate(rows):
        where = f"{path}: row {position}"
        one = _parse(where, row)
        image = image_of.get(one.image_id) or image_of.get(one.stem)
        if image is None:
            raise EvaluationError(
                f"{where} is of image {one.image_id or one.stem!r}, which {dataset.name} does not "
                "have; choose the data set and split that was detected on"
            )
        if one.category not in label_of:
            raise EvaluationError(
                f"{where} has category {one.category}, which {dataset.name} does not have"
            )
        columns.setdefault(image, []).append((one.box, one.score, label_of[one.category]))
    return {name: _as_detections(path, name, entries) for name, entries in columns.items()}


class _Row(NamedTuple):
    image_id: str
    stem: str
    category: str | int
    box: list[float]
    score: float


def _as_coco_id(image_id: str) -> int | str:
    """COCO's ids are numbers; those of other data sets (000012, 2008_000001) stay as they are."""
    is_number = image_id.isdecimal() and image_id.isascii() and str(int(image_id)) == image_id
    return int(image_id) if is_number else image_id


def _check_classes(path: Path, rows: list[Any], dataset: Dataset) -> None:
    names = {row["category_name"] for row in rows if isinstance(row, dict) and _named(row)}
    unknown = sorted(names - set(dataset.classes))
    if unknown:
        raise EvaluationError(
            f"{path}: detects classes that {dataset.name} does not have ({_few(unknown)}); "
            f"it has {_few(dataset.classes)}: the class lists must match"
        )


def _named(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("category_name"), str)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f", ... {len(names)} in all" if len(names) > 4 else "")


def _parse(where: str, row: Any) -> _Row:
    if not isinstance(row, dict):
        raise AnnotationError(f"{where} is not an object with image_id, bbox and score")
    box, score = row.get("bbox"), row.get("score")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, [*box, score]))):
        raise AnnotationError(f"{where} needs a bbox of four finite numbers and a score")
    if box[2] <= 0 or box[3] <= 0:
        raise AnnotationError(f"{where} has a box without area: {box}; COCO's are x, y, w, h")
    image, file = row.get("image_id"), row.get("file_name")
    category = row["category_name"] if _named(row) else row.get("category_id")
    if not isinstance(category, (str, int)):
        raise AnnotationError(f"{where} needs a category_id or a category_name")
    return _Row(
        image_id="" if image is None else str(image),
        stem=Path(file).stem if isinstance(file, str) else "",
        category=category,
        box=box,
        score=float(score),  # type: ignore[arg-type]
    )


def _is_finite(number: Any) -> bool:
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        return False
    return abs(number) < 1e9 and math.isfinite(number)


def _as_detections(
    path: Path, image: str, entries: list[tuple[list[float], float, int]]
) -> Detections:
    boxes, scores, labels = (np.array(column) for column in zip(*entries, strict=True))
    try:
        return Detections(xyxy_from_coco(boxes), scores, labels)
    except ValueError as error:  # a side too small for float32
        raise AnnotationError(f"{path}: image {image}: {error}") from error
