"""Results as the PASCAL VOC development kit wants them: a file for each class.

FOLDER/comp3_det_SPLIT_CLASS.txt with lines: image score xmin ymin xmax ymax, 1-based and inclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from detector.boxes import voc_from_xyxy, xyxy_from_voc
from detector.datasets.dataset import Dataset
from detector.datasets.image_files import is_inside
from detector.errors import AnnotationError, EvaluationError
from detector.export.results_text import (
    Names,
    Row,
    best_first,
    gathered,
    lines_of,
    results_of_images,
    unknown_class,
)
from detector.files import write_atomically
from detector.structures import Detections

LAYOUT = "image score xmin ymin xmax ymax"
FILES = "comp*_det_*.txt"
_NAME = re.compile(r"comp\d+_det_(?P<rest>.+)\.txt")


def write_voc_results(
    folder: str | Path, dataset: Dataset, results: Mapping[str, Detections]
) -> None:
    """One file for each class, an empty one where nothing was found.

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


def read_voc_results(folder: str | Path, dataset: Dataset) -> dict[str, Detections]:
    """The files of a folder by image id of `dataset`; other images or classes are an error."""
    folder = Path(folder)
    files = sorted(folder.glob(FILES))
    splits = {path.name.removesuffix(f"_{_class_of(path, dataset)}.txt") for path in files}
    if len(splits) > 1:
        raise EvaluationError(
            f"{folder}: holds results of several kinds ({', '.join(sorted(splits))}); leave one"
        )
    rows = (row for path in files for row in _rows(path, dataset))
    return gathered(folder, rows, xyxy_from_voc)


def _rows(path: Path, dataset: Dataset) -> Iterator[Row]:
    name = _class_of(path, dataset)
    images = {sample.image_id: sample.image_id for sample in dataset.samples}
    names = Names(dataset, images, {name: dataset.classes.index(name)})
    for where, line in lines_of(path):
        image, *rest = line.split()
        if len(rest) != 5:
            raise AnnotationError(f"{where}: expected: {LAYOUT}")
        yield names.row(where, image, name, rest, LAYOUT)


def _class_of(path: Path, dataset: Dataset) -> str:
    """The class at the end of a file's name; splits and classes may both have underscores."""
    match = _NAME.fullmatch(path.name)
    rest = match["rest"] if match else ""
    fitting = [name for name in dataset.classes if rest.endswith(f"_{name}")]
    if not fitting:
        raise unknown_class(str(path), rest.rpartition("_")[2], dataset)
    return max(fitting, key=len)
