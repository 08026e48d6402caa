"""Detections in COCO's results layout: one JSON list, readable by every COCO tool.

    {image_id, file_name, category_id, category_name, bbox: [x, y, width, height], score}

The same detections give the same bytes: boxes in hundredths of a pixel, scores in millionths, one
row a line, best first within an image.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from detector.datasets.dataset import Dataset
from detector.datasets.formats.coco import read_json
from detector.datasets.image_files import without_extension
from detector.datasets.image_names import ImageNames, as_id
from detector.errors import AnnotationError
from detector.files import LARGEST_ID, write_json_rows
from detector.results.results_text import Names, Row, gather
from detector.results.unmatched import Unmatched
from detector.structures import Detections

FILE = "detections.json"  # in an output folder
_WHOLE = re.compile(r"0|[1-9][0-9]{0,15}")  # 000012 would come back as 12


def ids_of_one_type(image_ids: Iterable[str]) -> dict[str, int | str]:
    """The image ids of a run as JSON values: numbers as in COCO, or all text if one is no plain
    number (000012, 2008_000001) or too large for an exact JSON number.
    """
    ids = list(image_ids)
    whole = all(_WHOLE.fullmatch(image_id) and int(image_id) <= LARGEST_ID for image_id in ids)
    return {image_id: int(image_id) if whole else image_id for image_id in ids}


def detection_rows(
    image_id: int | str,
    file_name: str,
    found: Detections,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """The rows of one image's detections, best first.

    image_id      as `ids_of_one_type` gives it
    category_ids  the data set's ids of `classes`; 1, 2, ... if it has none
    """
    named = replace(found, classes=tuple(classes))
    return named.to_coco(image_id, file_name, category_ids)


def write_detections(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as `detection_rows` makes them, in the order given, in one step."""
    write_json_rows(path, rows)


def rows_of(dataset: Dataset, results: Mapping[str, Detections]) -> list[dict[str, Any]]:
    """The rows of a data set's images, in its order and with its category ids."""
    rows: list[dict[str, Any]] = []
    ids = ids_of_one_type(sample.image_id for sample in dataset.samples)
    for sample in dataset.samples:
        found = results.get(sample.image_id, Detections.empty())
        rows += detection_rows(
            ids[sample.image_id], sample.path.name, found, dataset.classes, dataset.category_ids
        )
    return rows


def write_results(path: str | Path, dataset: Dataset, results: Mapping[str, Detections]) -> None:
    """Write the results of a data set's images, in its order and with its category ids."""
    write_detections(path, rows_of(dataset, results))


def as_saved(dataset: Dataset, results: Mapping[str, Detections]) -> dict[str, Detections]:
    """The results as they come back from their file, rounded as there."""
    return detections_in(Path(FILE), rows_of(dataset, results), dataset, Unmatched())


def read_detections(
    path: str | Path, dataset: Dataset, unmatched: Unmatched
) -> dict[str, Detections]:
    """Read detections by image id of `dataset`, in the file's order.

    Images are found by file_name, else by image_id; classes by name, else by id. Rows of other
    images or classes are counted in `unmatched`. Raises AnnotationError for a faulty file, and
    EvaluationError if no row is left.
    """
    return detections_in(Path(path), read_rows(Path(path)), dataset, unmatched)


def read_rows(path: Path) -> list[Any]:
    """The rows of a file in COCO's results layout, unchecked. Raises AnnotationError."""
    content = read_json(path)
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: expected COCO's results layout, a list of detections")
    return content


def detections_in(
    path: Path, content: list[Any], dataset: Dataset, unmatched: Unmatched
) -> dict[str, Detections]:
    """The detections in `read_rows`, as `read_detections` gives them."""
    rows = _rows(path, content, dataset, unmatched)
    return gather(path, dataset, rows, unmatched, np.asarray)


def _rows(
    path: Path, content: list[Any], dataset: Dataset, unmatched: Unmatched
) -> Iterator[Row | None]:
    images = ImageNames.of(dataset)
    known: dict[_Image, str | None] = {}

    def find(image: _Image) -> str | None:
        # One look-up an image, not one a row.
        if image not in known:
            known[image] = images.find_row(image.id, image.file)
        return known[image]

    labels: dict[str, int] = {name: label for label, name in enumerate(dataset.classes)}
    by_id = {
        str(number): name
        for name, number in zip(dataset.classes, dataset.category_ids, strict=True)
    }
    names = Names(find, labels, unmatched)
    for position, row in enumerate(content):
        where = f"{path}: row {position}"
        image, category, score, box = _parse(where, row, by_id)
        yield names.row(where, image, category, score, box)


class _Image(NamedTuple):
    id: str | None
    file: str | None

    def __str__(self) -> str:
        stem = without_extension(PurePath(self.file or "").name)
        return str(self.file if self.file and stem != self.id else self.id)


def _parse(
    where: str, row: Any, by_id: Mapping[str, str]
) -> tuple[_Image, str, float, Sequence[float]]:
    if not isinstance(row, dict):
        raise AnnotationError(f"{where} is not an object with image_id, bbox and score")
    box, score = row.get("bbox"), row.get("score")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, [*box, score]))):
        raise AnnotationError(f"{where} needs a bbox of four finite numbers and a score")
    if box[2] < 0 or box[3] < 0:
        raise AnnotationError(f"{where} has a negative side: {box}; COCO's are x, y, w, h")
    name, category, file = row.get("category_name"), row.get("category_id"), row.get("file_name")
    if not isinstance(name, str):
        number = as_id(category)
        if number is None:
            raise AnnotationError(f"{where} needs a category_id or a category_name")
        # A number is never a name: of the classes "0" to "9", 9 may be the id of "8".
        name = by_id.get(number, number if isinstance(category, str) else f"category {number}")
    image = _Image(as_id(row.get("image_id")), file if isinstance(file, str) else None)
    if image.id is None and not image.file:
        raise AnnotationError(f"{where} needs an image_id (a number or text) or a file_name")
    return image, name, float(score), box  # type: ignore[arg-type]


def _is_finite(number: Any) -> bool:
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        return False
    return abs(number) < 1e9 and math.isfinite(number)
