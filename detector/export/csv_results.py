"""Results as a table for spreadsheets and data frames: image_id,class,score,x1,y1,x2,y2.

Corners are pixels as everywhere inside: 0-based, x2 and y2 exclusive.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import AnnotationError
from detector.export.results_text import (
    Row,
    best_first,
    gathered,
    lines_of,
    numbers,
    results_of_images,
    unknown_class,
    unknown_image,
)
from detector.files import write_atomically
from detector.structures import Detections

COLUMNS = ("image_id", "class", "score", "x1", "y1", "x2", "y2")
LAYOUT = ",".join(COLUMNS)


def write_csv_results(
    path: str | Path, dataset: Dataset, results: Mapping[str, Detections]
) -> None:
    """A header, then all detections in the order of the images, best first within one."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for _, image, found in results_of_images(dataset, results):
        for label, fields in best_first(found, np.asarray):
            table.writerow([image, dataset.classes[label], *fields])
    write_atomically(path, text.getvalue())


def read_csv_results(path: str | Path, dataset: Dataset) -> dict[str, Detections]:
    """The rows of a file by image id of `dataset`; other images or classes are an error."""
    return gathered(Path(path), _rows(Path(path), dataset), np.asarray)


def _rows(path: Path, dataset: Dataset) -> Iterator[Row]:
    known = {sample.image_id for sample in dataset.samples}
    label_of = {name: label for label, name in enumerate(dataset.classes)}
    lines = list(lines_of(path))
    if not lines or tuple(next(csv.reader([lines[0][1]]))) != COLUMNS:
        raise AnnotationError(f"{path}: expected a first line {LAYOUT}")
    for where, line in lines[1:]:
        fields = next(csv.reader([line]))
        if len(fields) != len(COLUMNS):
            raise AnnotationError(f"{where}: expected: {LAYOUT}")
        image, name, *rest = fields
        score, *corners = numbers(where, rest, LAYOUT)
        if image not in known:
            raise unknown_image(where, image, dataset)
        if name not in label_of:
            raise unknown_class(where, name, dataset)
        yield Row(image, label_of[name], score, corners)
