"""Results in the layouts of the development kits of PASCAL VOC and of ILSVRC DET.

VOC's is a folder with a file for each class, FOLDER/comp3_det_SPLIT_CLASS.txt, of lines
`image score xmin ymin xmax ymax`, 1-based and inclusive. ILSVRC's is one file of lines
`image_index class score xmin ymin xmax ymax`, 0-based and inclusive as its annotations are: an
image goes by its number in the list of images (ImageSets/DET/val.txt), a class by its DET id.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from detector.boxes import (
    coco_from_xyxy,
    ilsvrc_from_xyxy,
    voc_from_xyxy,
    xyxy_from_ilsvrc,
    xyxy_from_voc,
)
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
    whole_number,
)
from detector.results.unmatched import Unmatched
from detector.structures import Detections

VOC_FILES = "comp*_det_*.txt"
_VOC_LINE = "image score xmin ymin xmax ymax"
_VOC_NAME = re.compile(r"comp\d+_det_(?P<rest>.+)\.txt")
_ILSVRC_LINE = "image_index class score xmin ymin xmax ymax"


def write_voc_results(folder: Path, dataset: Dataset, results: Mapping[str, Detections]) -> None:
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
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        write_atomically(folder / f"comp3_det_{split}_{name}.txt", "".join(lines))


def read_voc_results(folder: Path, dataset: Dataset, unmatched: Unmatched) -> dict[str, Detections]:
    """Read the files of a folder by image id of `dataset`."""
    files = {path: _class_of(path, dataset) for path in sorted(folder.glob(VOC_FILES))}
    # What stands before the class: comp3_det_val of one run, comp4_det_test of another.
    kinds = {path.name.removesuffix(f"_{name}.txt") for path, name in files.items() if name}
    if len(kinds) > 1:
        raise EvaluationError(
            f"{folder}: holds results of several kinds ({', '.join(sorted(kinds))}); leave one"
        )
    labels = {name: label for label, name in enumerate(dataset.classes)}
    names = Names(ImageNames.of(dataset).find_id, labels, unmatched)
    prefix = f"{kinds.pop()}_" if kinds else ""

    def rows() -> Iterator[Row | None]:
        for path, name in files.items():
            # Of a class that the data set does not have, by the name that the file gives it.
            stem = path.name.removesuffix(".txt")
            other = stem.removeprefix(prefix) if prefix else stem.rpartition("_")[2]
            for where, line in lines_of(path):
                image, *rest = line.rsplit(maxsplit=5)  # an image's name may have blanks
                if len(rest) != 5:
                    raise AnnotationError(f"{where}: expected: {_VOC_LINE}")
                score, *corners = numbers(where, rest, _VOC_LINE)
                yield names.row(where, image, name or other, score, corners)

    return gather(folder, dataset, rows(), unmatched, lambda b: coco_from_xyxy(xyxy_from_voc(b)))


def _class_of(path: Path, dataset: Dataset) -> str | None:
    match = _VOC_NAME.fullmatch(path.name)
    rest = match["rest"] if match else ""
    fitting = [name for name in dataset.classes if rest.endswith(f"_{name}")]
    # The longest, since splits and classes may both have underscores.
    return max(fitting, key=len, default=None)


def write_ilsvrc_results(path: Path, dataset: Dataset, results: Mapping[str, Detections]) -> None:
    """Write all detections in the order of the images, best first within one, atomically."""
    indices, ids = dataset.indices(), dataset.category_ids
    lines = []
    for position, _, found in results_of_images(dataset, results):
        for label, fields in best_first(found, ilsvrc_from_xyxy):
            lines.append(f"{indices[position]} {ids[label]} {' '.join(fields)}\n")
    write_atomically(path, "".join(lines))


def read_ilsvrc_results(
    path: Path, dataset: Dataset, unmatched: Unmatched
) -> dict[str, Detections]:
    """Read detections by image id of `dataset`."""
    images = dict(zip(dataset.indices(), (s.image_id for s in dataset.samples), strict=True))
    labels = {number: label for label, number in enumerate(dataset.category_ids)}
    names = Names(images.get, labels, unmatched)

    def rows() -> Iterator[Row | None]:
        for where, line in lines_of(path):
            parts = line.split()
            if len(parts) != 7:
                raise AnnotationError(f"{where}: expected: {_ILSVRC_LINE}")
            index, number = (whole_number(where, part, _ILSVRC_LINE) for part in parts[:2])
            score, *corners = numbers(where, parts[2:], _ILSVRC_LINE)
            yield names.row(where, index, number, score, corners)

    return gather(path, dataset, rows(), unmatched, lambda b: coco_from_xyxy(xyxy_from_ilsvrc(b)))
