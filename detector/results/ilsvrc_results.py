"""Results in the layout of the ILSVRC DET development kit: one file, a line for each detection.

image_index DET_id score xmin ymin xmax ymax, 0-based and inclusive as its annotations are. An image
goes by its number in the list of images (ImageSets/DET/val.txt), a class by its DET id, 1 to 200.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from detector.boxes import coco_from_xyxy, ilsvrc_from_xyxy, xyxy_from_ilsvrc
from detector.datasets.dataset import Dataset
from detector.errors import AnnotationError
from detector.files import write_atomically
from detector.results.results_text import (
    Names,
    Row,
    best_first,
    gather,
    lines_of,
    numbers,
    results_of_images,
    whole_number,
)
from detector.results.unmatched import Unmatched
from detector.structures import Array, Detections

LAYOUT = "image_index class score xmin ymin xmax ymax"


def write_ilsvrc_results(
    path: str | Path, dataset: Dataset, results: Mapping[str, Detections]
) -> None:
    """Write all detections in the order of the images, best first within one, atomically."""
    indices, ids = dataset.indices(), dataset.category_ids
    lines = []
    for position, _, found in results_of_images(dataset, results):
        for label, fields in best_first(found, ilsvrc_from_xyxy):
            lines.append(f"{indices[position]} {ids[label]} {' '.join(fields)}\n")
    write_atomically(path, "".join(lines))


def read_ilsvrc_results(
    path: str | Path, dataset: Dataset, unmatched: Unmatched
) -> dict[str, Detections]:
    """Read detections by image id of `dataset`."""
    rows = _rows(Path(path), dataset, unmatched)
    return gather(Path(path), dataset, rows, unmatched, _to_xywh)


def _rows(path: Path, dataset: Dataset, unmatched: Unmatched) -> Iterator[Row | None]:
    images = dict(zip(dataset.indices(), (s.image_id for s in dataset.samples), strict=True))
    labels = {number: label for label, number in enumerate(dataset.category_ids)}
    names = Names(images.get, labels, unmatched)
    for where, line in lines_of(path):
        parts = line.split()
        if len(parts) != 7:
            raise AnnotationError(f"{where}: expected: {LAYOUT}")
        image, category, *rest = parts
        index, number = whole_number(where, image, LAYOUT), whole_number(where, category, LAYOUT)
        score, *corners = numbers(where, rest, LAYOUT)
        yield names.row(where, index, number, score, corners)


def _to_xywh(boxes: Array) -> Array:
    return coco_from_xyxy(xyxy_from_ilsvrc(boxes))
