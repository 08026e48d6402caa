"""Detections as a table for spreadsheets and data frames: image_id,class,score,x1,y1,x2,y2.

Corners are pixels as everywhere inside: 0-based, x2 and y2 exclusive. A name that a spreadsheet
would run as a formula has an apostrophe before it.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from detector.boxes import coco_from_xyxy
from detector.datasets.dataset import Dataset
from detector.datasets.image_names import ImageNames
from detector.errors import AnnotationError
from detector.files import write_atomically
from detector.results.results_text import (
    Names,
    Row,
    best_first,
    gather,
    numbers,
    results_of_images,
    text_of,
)
from detector.results.unmatched import Unmatched
from detector.structures import Detections

COLUMNS = ("image_id", "class", "score", "x1", "y1", "x2", "y2")
LAYOUT = ",".join(COLUMNS)
_SEPARATORS = (",", ";", "\t")
# Behind any number of apostrophes, so that the one that was added is the one taken off.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_UNMARKED = re.compile(r"\Asep=.\r?\n", re.IGNORECASE)  # a line by which Excel knows the separator


def write_csv_results(
    path: str | Path, dataset: Dataset, results: Mapping[str, Detections]
) -> None:
    """Write a header and all detections in the order of the images, best first within one."""
    lines = [csv_line(COLUMNS)]
    for _, image, found in results_of_images(dataset, results):
        for label, fields in best_first(found, np.asarray):
            lines.append(csv_line([inert(image), inert(dataset.classes[label]), *fields]))
    write_atomically(path, "".join(lines))


def inert(name: str) -> str:
    """A cell that a spreadsheet would run as a formula gets an apostrophe before it."""
    # `_name_in` takes it off again.
    return f"'{name}" if _FORMULA.match(name) else name


def _name_in(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_line(fields: Sequence[object]) -> str:
    """One line of a table, with its end."""
    # The writer quotes the characters of its own line end; both break lines for a reader.
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n") + "\n"


def read_csv_results(
    path: str | Path, dataset: Dataset, unmatched: Unmatched
) -> dict[str, Detections]:
    """Read detections by image id of `dataset`; semicolons, tabs and decimal commas of spreadsheets
    are understood.
    """
    rows = _rows(Path(path), dataset, unmatched)
    return gather(Path(path), dataset, rows, unmatched, coco_from_xyxy)


def _rows(path: Path, dataset: Dataset, unmatched: Unmatched) -> Iterator[Row | None]:
    labels = {name: label for label, name in enumerate(dataset.classes)}
    names = Names(ImageNames.of(dataset).find_id, labels, unmatched)
    text = _UNMARKED.sub("", text_of(path))
    separator = max(_SEPARATORS, key=text.lstrip().partition("\n")[0].count)
    records = _records(path, text, separator)
    _, header = next(records, ("", []))
    if tuple(field.strip() for field in header) != COLUMNS:
        raise AnnotationError(f"{path}: expected a first line {LAYOUT}")
    for where, fields in records:
        if len(fields) != len(COLUMNS):
            raise AnnotationError(f"{where}: expected: {LAYOUT}")
        image, name, *rest = fields
        if separator != ",":
            rest = [field.replace(",", ".") for field in rest]
        score, *corners = numbers(where, rest, LAYOUT)
        yield names.row(where, _name_in(image), _name_in(name), score, corners)


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (position, fields) of each record that is not blank; a quoted field may span lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    while True:
        where = f"{path}: line {reader.line_num + 1}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise AnnotationError(f"{where}: {error}") from None
        if len(fields) > 1 or any(field.strip() for field in fields):
            yield where, fields
