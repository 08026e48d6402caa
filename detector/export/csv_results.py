"""Results as a table for spreadsheets and data frames: image_id,class,score,x1,y1,x2,y2.

Corners are pixels as everywhere inside: 0-based, x2 and y2 exclusive.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import AnnotationError
from detector.export.results_text import (
    Names,
    Row,
    best_first,
    gathered,
    results_of_images,
    text_of,
)
from detector.files import write_atomically
from detector.structures import Detections

COLUMNS = ("image_id", "class", "score", "x1", "y1", "x2", "y2")
LAYOUT = ",".join(COLUMNS)


def write_csv_results(
    path: str | Path, dataset: Dataset, results: Mapping[str, Detections]
) -> None:
    """A header, then all detections in the order of the images, best first within one."""
    lines = [_line(COLUMNS)]
    for _, image, found in results_of_images(dataset, results):
        for label, fields in best_first(found, np.asarray):
            lines.append(_line([image, dataset.classes[label], *fields]))
    write_atomically(path, "".join(lines))


def _line(fields: Sequence[str]) -> str:
    # The writer quotes the characters of its own line end; both break lines for a reader.
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n") + "\n"


def read_csv_results(path: str | Path, dataset: Dataset) -> dict[str, Detections]:
    """The rows of a file by image id of `dataset`; other images or classes are an error."""
    return gathered(Path(path), _rows(Path(path), dataset), np.asarray)


def _rows(path: Path, dataset: Dataset) -> Iterator[Row]:
    images = {sample.image_id: sample.image_id for sample in dataset.samples}
    names = Names(dataset, images, {name: i for i, name in enumerate(dataset.classes)})
    records = _records(path)
    _, header = next(records, ("", []))
    if tuple(one.strip() for one in header) != COLUMNS:
        raise AnnotationError(f"{path}: expected a first line {LAYOUT}")
    for where, fields in records:
        if len(fields) != len(COLUMNS):
            raise AnnotationError(f"{where}: expected: {LAYOUT}")
        image, name, *rest = fields
        yield names.row(where, image, name, rest, LAYOUT)


def _records(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(place, fields) of each record that is not blank; a quoted field may have several lines."""
    reader = csv.reader(io.StringIO(text_of(path), newline=""))
    while True:
        where = f"{path}: line {reader.line_num + 1}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise AnnotationError(f"{where}: {error}") from None
        if len(fields) > 1 or any(one.strip() for one in fields):
            yield where, fields
