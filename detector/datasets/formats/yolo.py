"""Reading YOLO's layout: a data.yaml, image folders, and a text file of boxes for each image.

images/SPLIT/NAME.jpg   labels/SPLIT/NAME.txt   with lines: class cx cy width height, in 0..1

What else such sets are like is in yolo_files (folders, lists, names) and yolo_rows (long rows).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_yolo
from detector.datasets.dataset import Dataset, Ledger, Sample
from detector.datasets.formats.objects import Objects
from detector.datasets.formats.yolo_files import (
    Files,
    classes_of,
    images_of,
    labels_without_image,
    read_settings,
    read_text,
    root_of,
    shown_path,
    texts_of,
)
from detector.datasets.formats.yolo_rows import (
    Fault,
    Meaning,
    meaning_of,
    numbered_rows,
    read_row,
    shift_of,
)
from detector.datasets.image_files import upright_size
from detector.errors import AnnotationError
from detector.structures import Annotations


def read_yolo(data_yaml: str | Path, split: str = "train", *, strict: bool = False) -> Dataset:
    """The images of one split. An image without a label file has no objects, as YOLO means it.

    data_yaml  or Darknet's obj.data, or a classes.txt beside the images
    strict     stop with an AnnotationError at the first defect instead of leaving it out
    """
    data_yaml = Path(data_yaml)
    settings = read_settings(data_yaml)
    classes = classes_of(data_yaml, settings)
    root = root_of(data_yaml, settings)
    ledger, files = Ledger(root, strict), Files(root)

    def drop(file: Path, identifier: object, rule: str, why: str) -> None:
        ledger.drop(shown_path(file, root), identifier, rule, why)

    images = images_of(data_yaml, settings, split, files, drop)
    labels = {image_id: files.labels_of(path) for image_id, path in images.items()}
    try:
        meaning = meaning_of(settings, texts_of(labels.values()))
    except AnnotationError as error:
        raise AnnotationError(f"{data_yaml}: {error}", error.rule) from None
    samples: list[Sample] = []
    numbers: set[float] = set()
    for image_id, path in images.items():
        size = upright_size(path)
        if size is None:
            empty = path.stat().st_size == 0
            fault = ("empty-file", "has 0 bytes") if empty else ("unreadable-image", "is no image")
            drop(path, image_id, *fault)
            continue
        text = labels[image_id]
        sample = _sample(image_id, path, size, text, meaning, len(classes), ledger, numbers)
        if sample is not None:
            samples.append(sample)
    shift = shift_of(numbers, len(classes))
    if shift and min(numbers) < len(classes):  # else every object is left out, and counted
        cure = "subtract 1 from each, or add the missing class to names"
        raise AnnotationError(f"{data_yaml}: {split}: {shift}; {cure}", "shifted-classes")
    dropped = len(ledger.entries)
    labels_without_image(images.values(), files, drop)
    if len(ledger.entries) > dropped:  # those of no image may belong to one that has none
        samples = [one if one.labelled else replace(one, positives_only=True) for one in samples]
    name = f"{data_yaml.resolve().parent.name}/{split}"
    return Dataset(name, classes, tuple(samples), tuple(ledger.entries)).not_empty()


def _sample(
    image_id: str,
    path: Path,
    size: tuple[int, int],
    labels: Path | None,
    meaning: Meaning,
    classes: int,
    ledger: Ledger,
    numbers: set[float],
) -> Sample | None:
    """None where the label file cannot be read, for nobody knows what the image shows. `numbers`
    takes the classes that it names, whether there are such or not.
    """
    if labels is None:
        return Sample(
            image_id, path, size, Annotations.empty(), size_declared=False, labelled=False
        )
    file = shown_path(labels, ledger.root)
    try:
        text = read_text(labels)
    except AnnotationError as error:
        ledger.drop(file, image_id, error.rule, str(error).removeprefix(f"{labels}: "))
        return None
    objects = Objects(file, size, ledger, shares=True)
    for number, line in numbered_rows(text):
        row = read_row(line, meaning, classes)
        if row.label is not None:
            numbers.add(row.label)
        if isinstance(row, Fault):
            objects.leave_out(number, row.rule, row.why)
        else:
            xyxy = xyxy_from_yolo(np.array([row.box]), size)[0].tolist()
            sides = (row.box[2] * size[1], row.box[3] * size[0])
            objects.add(number, xyxy, int(row.label), written=row.box, sides=sides)
    return replace(objects.sample(image_id, path), size_declared=False)
