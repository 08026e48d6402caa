"""Reading YOLO's layout: a data.yaml, image folders, and a text file of boxes beside each image.

images/SPLIT/NAME.jpg   labels/SPLIT/NAME.txt   with lines: class cx cy width height, in 0..1
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detector import safe_yaml
from detector.boxes import xyxy_from_yolo
from detector.datasets.annotation_files import read_limited
from detector.datasets.dataset import Dataset, Ledger, Sample
from detector.datasets.image_files import (
    absence,
    images_in,
    is_file,
    is_folder,
    is_inside,
    upright_size,
)
from detector.datasets.objects import Objects
from detector.errors import AnnotationError, DatasetError

MAX_LABEL_BYTES = 16_000_000
NAMES_WANTED = "names must list the classes, or map 0, 1, 2, ... to them without a gap"


def read_yolo(data_yaml: str | Path, split: str = "train", *, strict: bool = False) -> Dataset:
    """The images of one split. An image without a label file has no objects, as YOLO means it.

    strict  stop with an AnnotationError at the first defect instead of leaving it out
    """
    data_yaml = Path(data_yaml)
    settings = read_yaml(data_yaml)
    classes = names_of(settings)
    if classes is None:
        raise AnnotationError(f"{data_yaml}: {NAMES_WANTED}")
    root = root_of(data_yaml, settings)
    ledger = Ledger(root, strict)
    images = _images_of(data_yaml, settings, root, split, ledger)
    samples = []
    for identifier, path in images.items():
        labels = labels_path(path)
        file = _shown(labels, root)
        size = upright_size(path)
        if size is None:
            empty = path.stat().st_size == 0
            fault = ("empty-file", "has 0 bytes") if empty else ("unreadable-image", "is no image")
            ledger.drop(_shown(path, root), identifier, *fault)
            continue
        objects = Objects(file, size, ledger, shares=True)
        for number, line in _lines_of(labels, file, ledger):
            _add_object(objects, number, line, size, classes)
        samples.append(Sample(identifier, path, size, objects.annotations(), size_declared=False))
    for folder in sorted({path.parent for path in images.values()}):
        _note_labels_without_image(folder, root, ledger)
    name = f"{data_yaml.resolve().parent.name}/{split}"
    return Dataset(name, classes, tuple(samples), tuple(ledger.entries)).not_empty()


def read_yaml(path: Path) -> dict[str, Any]:
    """A small YAML file that holds a mapping."""
    data = read_limited(path, safe_yaml.MAX_BYTES)
    try:
        content = safe_yaml.load_yaml(data)
    except safe_yaml.YamlError as error:
        raise AnnotationError(f"{path}: not readable YAML: {error}", error.rule) from None
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: expected a mapping with names, train and val")
    return content


def splits_of(settings: Mapping[str, Any]) -> list[str]:
    return [one for one in ("train", "val", "test") if settings.get(one)]


def root_of(data_yaml: Path, settings: Mapping[str, Any]) -> Path:
    """The folder that splits are relative to."""
    root = data_yaml.parent / str(settings.get("path") or ".")
    if not is_folder(root):
        root = data_yaml.parent  # the published files name the author's own folder
    return root.resolve()


def place_of(root: Path, named: str) -> Path:
    """A folder or list that a split names. Roboflow writes `../train/images` of what lies beside
    its data.yaml; as YOLO's own reader does, it is looked for there where it is not one step up.
    """
    where, beside = root / named, root / named.removeprefix("../")
    return beside if os.path.lexists(beside) and not os.path.lexists(where) else where


def names_of(settings: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes by their numbers; None where it is not as NAMES_WANTED says."""
    names = settings.get("names")
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [value for _, value in sorted(names.items(), key=lambda pair: int(pair[0]))]
    if not isinstance(names, list) or not names or not all(_is_name(name) for name in names):
        return None
    return tuple(str(name) for name in names)


def _is_name(value: object) -> bool:
    return isinstance(value, (str, int)) and str(value) != ""


def _images_of(
    data_yaml: Path, settings: dict[str, Any], root: Path, split: str, ledger: Ledger
) -> dict[str, Path]:
    """Image id (the file's stem) -> path, from the folders or list files that the split names."""
    places = settings.get(split)
    if not places:
        known = ", ".join(splits_of(settings)) or "none"
        raise DatasetError(f"{data_yaml}: no split {split!r}; it has: {known}")
    images: dict[str, Path] = {}
    for place in places if isinstance(places, list) else [places]:
        where = place_of(root, str(place))
        if is_folder(where):
            found = images_in(where)
            paths = [found[stem] for stem in sorted(found)]
        elif is_file(where) and where.suffix == ".txt":
            paths = _listed_images(where, root, ledger)
        else:
            raise DatasetError(f"{data_yaml}: {split} names {where}, which is not there")
        for path in paths:
            if path.stem in images:
                why = "its name was there before"
                ledger.drop(_shown(path, root), path.stem, "duplicate-image", why)
            else:
                images[path.stem] = path
    return images


def _listed_images(listing: Path, root: Path, ledger: Ledger) -> list[Path]:
    file, paths = _shown(listing, root), []
    for number, line in _lines_of(listing, file, ledger):
        if not is_inside(line):
            ledger.drop(file, number, "unsafe-path", f"{line!r} leads out of the data set")
        elif not is_file(root / line):
            ledger.drop(file, number, absence(root / line), f"there is no file {line!r}")
        else:
            paths.append(root / line)
    return paths


def labels_path(image: Path) -> Path:
    """The last folder called images becomes labels; the suffix becomes .txt."""
    parts = list(image.parts)
    for position in reversed(range(len(parts) - 1)):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _lines_of(path: Path, file: str, ledger: Ledger) -> list[tuple[str, str]]:
    """The lines that are not blank, with their numbers; none where there is no such file."""
    if not path.exists():
        return []
    try:
        text = read_limited(path, MAX_LABEL_BYTES).decode("utf-8-sig")
    except AnnotationError as error:
        ledger.drop(file, path.stem, error.rule, str(error))
        return []
    except ValueError as error:
        ledger.drop(file, path.stem, "not-utf8", f"is not UTF-8 text: {error}")
        return []
    lines = enumerate(text.splitlines(), start=1)
    return [(f"line {number}", line.strip()) for number, line in lines if line.strip()]


def _add_object(
    objects: Objects, identifier: str, line: str, size: tuple[int, int], classes: tuple[str, ...]
) -> None:
    """One line: a box, or an outline of at least three points, of which the box is taken."""
    fields = line.split()
    outline = len(fields) >= 7 and len(fields) % 2 == 1
    try:
        values = [float(one) for one in fields[1:]]
        label = float(fields[0])
    except ValueError:
        values = []
    if not values or not (len(fields) == 5 or outline):
        objects.ledger.drop(
            objects.file, identifier, "missing-field", "expected: class cx cy width height"
        )
        return
    if label not in range(len(classes)):
        objects.ledger.drop(
            objects.file,
            identifier,
            "unknown-class",
            f"class {fields[0]} is not within 0 to {len(classes) - 1}",
        )
        return
    box = box_around(values) if outline else values
    xyxy = xyxy_from_yolo(np.array([box]), size)[0].tolist()
    objects.add(identifier, xyxy, int(label), written=box)


def box_around(points: list[float]) -> list[float]:
    x, y = points[0::2], points[1::2]
    low, high = (min(x), min(y)), (max(x), max(y))
    return [
        (low[0] + high[0]) / 2,
        (low[1] + high[1]) / 2,
        high[0] - low[0],
        high[1] - low[1],
    ]


def _note_labels_without_image(folder: Path, root: Path, ledger: Ledger) -> None:
    labels = labels_path(folder / "any.jpg").parent
    if labels == folder or not labels.is_dir():
        return  # beside the images, other text files may lie
    here = images_in(folder)
    for path in sorted(labels.glob("[!.]*.txt")):
        if path.stem not in here and path.stem != "classes":
            ledger.drop(_shown(path, root), path.stem, "missing-image", "labels without an image")


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
