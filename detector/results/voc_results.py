"""Results in the layout of the PASCAL VOC development kit: a file for each class.

FOLDER/comp3_det_SPLIT_CLASS.txt with lines: image score xmin ymin xmax ymax, 1-based and inclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from detector.boxes import coco_from_xyxy, voc_from_xyxy, xyxy_from_voc
from detector.datasets.dataset import Dataset
from detector.datasets.image_files import is_inside
from detector.datasets.image_names import ImageNames
from detector.errors import AnnotationError, EvaluationError
from detector.files import write_atomically
from detector.results.results_text import (
    Names,
    Row,
    best_first,
    gather,
    lines_of,
    numbers,
    results_of_images,
)
from detector.results.unmatched import Unmatched
from detector.structures import Array, Detections

LAYOUT = "image score xmin ymin xmax ymax"
FILES = "comp*_det_*.txt"
_NAME = re.compile(r"comp\d+_det_(?P<rest>.+)\.txt")


def write_voc_results(
    folder: str | Path, dataset: Dataset, results: Mapping[str, Detections]
) -> None:
    """Write one file for each class, an empty one if nothing was found.

    comp3 is the devkit's name for detectors trained on VOC's own data alone.
    """
    split = dataset.name.rpartition("/")[2]
    rows: dict[str, list[str]] = {name: [] for name in dataset.classes}
    for _, image, found in results_of_images(dataset, results):
        if image.split() != [image]:
            raise EvaluationError(f"image {image!r} has a blank in its name; VOC's lines have none")
        for label, fields in best_first(found, voc_from_xyxy):
            rows[dataset.classes[label]].append(f"{image} {' '.join(fields)}\n")
    for name in dataset.classes:
        if "/" in name or not is_inside(name):
            raise EvaluationError(f"class {name!r} cannot be part of a file's name")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        write_atomically(Path(folder) / f"comp3_det_{split}_{name}.txt", "".join(lines))


def read_voc_results(
    folder: str | Path, dataset: Dataset, unmatched: Unmatched
) -> dict[str, Detections]:
    """Read the files of a folder by image id of `dataset`."""
    folder = Path(folder)
    files = {path: _class_of(path, dataset) for path in sorted(folder.glob(FILES))}
    kinds = {path.name.removesuffix(f"_{name}.txt") for path, name in files.items() if name}
    if len(kinds) > 1:
        raise EvaluationError(
            f"{folder}: holds results of several kinds ({', '.join(sorted(kinds))}); leave one"
        )
    labels = {name: label for label, name in enumerate(dataset.classes)}
    names = Names(ImageNames.of(dataset).find_id, labels, unmatched)
    prefix = f"{kinds.pop()}_" if kinds else ""
    rows = (
        row
        for path, name in files.items()
        for row in _rows(path, name or _name_after(prefix, path), names)
    )
    return gather(folder, dataset, rows, unmatched, _to_xywh)


def _rows(path: Path, name: str, names: Names) -> Iterator[Row | None]:
    """Parse lines of five numbers after the image's name, which may have blanks."""
    for where, line in lines_of(path):
        image, *rest = line.rsplit(maxsplit=5)
        if len(rest) != 5:
            raise AnnotationError(f"{where}: expected: {LAYOUT}")
        score, *corners = numbers(where, rest, LAYOUT)
        yield names.row(where, image, name, score, corners)


def _class_of(path: Path, dataset: Dataset) -> str | None:
    """The class at the end of a file's name; splits and classes may both have underscores."""
    match = _NAME.fullmatch(path.name)
    rest = match["rest"] if match else ""
    fitting = [name for name in dataset.classes if rest.endswith(f"_{name}")]
    return max(fitting, key=len, default=None)


def _name_after(prefix: str, path: Path) -> str:
    """The name of a class that the data set does not have."""
    stem = path.name.removesuffix(".txt")
    return stem.removeprefix(prefix) if prefix else stem.rpartition("_")[2]


def _to_xywh(boxes: Array) -> Array:
    return coco_from_xyxy(xyxy_from_voc(boxes))
