"""What YOLO's files say: a data.yaml, image folders, a text file of boxes for each image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detector import safe_yaml
from detector.boxes import xyxy_from_yolo
from detector.datasets.image_files import SUFFIXES, is_file, is_folder, is_inside
from detector.datasets.lint.findings import Findings
from detector.datasets.lint.index import Asked, Index, Picture, Reading
from detector.datasets.lint.listing import as_text, numbered_lines, read_annotations
from detector.datasets.yolo import (
    MAX_LABEL_BYTES,
    NAMES_WANTED,
    box_around,
    labels_path,
    names_of,
    place_of,
    root_of,
    splits_of,
)
from detector.structures import Array


def index_yolo(path: Path, asked: Asked) -> Index:
    """All splits that the data.yaml names."""
    settings = _read_yaml(path, asked)
    if settings is None:
        return Index("yolo", READING, ())
    classes = asked.classes or _class_names(path, settings, asked.findings)
    index = Index("yolo", READING, classes)
    root = root_of(path, settings)
    places: dict[Path, list[str]] = {}
    for split in splits_of(settings):
        for image in _images_of(path, settings, root, split, asked):
            places.setdefault(image, []).append(split)
    numbers: set[float] = set()
    for image, splits in asked.watch(places.items(), "read labels"):
        _add_image(index, image, tuple(splits), numbers, asked)
    for folder in sorted({image.parent for image in places}):
        _judge_labels_without_image(folder, asked)
    if numbers and min(numbers) >= 1 and max(numbers) == len(classes):
        why = f"class numbers go from {min(numbers):.0f} to {max(numbers):.0f}, as if from 1"
        asked.findings.add(path, "class numbers", "shifted-classes", why)
    return index


def _of_sizes(sizes: Array) -> Array:
    return sizes[:, [1, 0, 1, 0]]


READING = Reading(
    "centre and size", lambda written, sizes: xyxy_from_yolo(written, (1, 1)) * _of_sizes(sizes),
    "two corners", lambda written, sizes: written * _of_sizes(sizes),
    shares=True,
)  # fmt: skip


def _read_yaml(path: Path, asked: Asked) -> dict[str, Any] | None:
    data = read_annotations(path, asked.findings, asked.listing, safe_yaml.MAX_BYTES)
    if data is None:
        return None
    try:
        content = safe_yaml.load_yaml(data)
    except safe_yaml.YamlError as error:
        asked.findings.add(path, path.stem, error.rule, f"not readable YAML: {error}")
        return None
    if not isinstance(content, dict) or not splits_of(content):
        asked.findings.add(path, path.stem, "missing-field", "needs names, and train or val")
        return None
    return content


def _class_names(path: Path, settings: Mapping[str, Any], findings: Findings) -> tuple[str, ...]:
    names = names_of(settings)
    if names is None:
        findings.add(path, "names", "missing-field", NAMES_WANTED)
        given = settings.get("names")
        given = given.values() if isinstance(given, dict) else given
        if isinstance(given, str) or not isinstance(given, Iterable):
            return ()
        return tuple(map(str, given))
    for name in sorted({one for one in names if names.count(one) > 1}):
        findings.add(path, "names", "duplicate-class", f"{name!r} is listed more than once")
    if settings.get("nc") not in (None, len(names)):
        why = f"nc is {settings['nc']!r}, but names has {len(names)}"
        findings.add(path, "nc", "different-classes", why)
    return names


def _images_of(
    path: Path, settings: Mapping[str, Any], root: Path, split: str, asked: Asked
) -> list[Path]:
    """Each once by its name, as a training takes them: the commoner format first."""
    named = settings[split]
    found: dict[str, Path] = {}
    for place in named if isinstance(named, list) else [named]:
        where = place_of(root, str(place))
        if is_folder(where):
            paths = _pictures_in(where, asked)
        elif is_file(where) and where.suffix == ".txt":
            paths = _listed(where, root, asked)
        else:
            asked.findings.add(path, split, "missing-split", f"names {place}, which is not there")
            continue
        for one in paths:
            if asked.listing.size_of(one) is None:
                asked.findings.add(one, one.stem, "not-a-file", "is not a regular file")
            elif one.stem in found:
                why = f"{asked.findings.shown(found[one.stem])} has the same name"
                asked.findings.add(one, one.stem, "duplicate-image", why)
            else:
                found[one.stem] = one
    return list(found.values())


def _pictures_in(folder: Path, asked: Asked) -> list[Path]:
    paths = [folder / name for name in asked.listing.names(folder)]
    paths = [one for one in paths if one.suffix.lower() in SUFFIXES]
    paths.sort(reverse=True)  # of x.JPG and x.jpg the second
    return sorted(paths, key=lambda one: (one.stem, SUFFIXES.index(one.suffix.lower())))


def _listed(listing: Path, root: Path, asked: Asked) -> list[Path]:
    data = read_annotations(listing, asked.findings, asked.listing, MAX_LABEL_BYTES)
    text = None if data is None else as_text(data, listing, asked.findings)
    found: list[Path] = []
    for number, line in numbered_lines(text or ""):
        if not is_inside(line):
            why = f"{line!r} leads out of the data set"
            asked.findings.add(listing, f"line {number}", "unsafe-path", why)
        elif not asked.listing.exists(root / line):
            asked.findings.add(listing, f"line {number}", "missing-image", f"there is no {line!r}")
        else:
            found.append(root / line)
    return found


def _add_image(
    index: Index, image: Path, splits: tuple[str, ...], numbers: set[float], asked: Asked
) -> None:
    if asked.listing.size_of(image) == 0:
        asked.findings.add(image, image.stem, "empty-file", "has 0 bytes")
        return
    labels = labels_path(image)
    file = asked.findings.shown(labels)
    labelled = asked.listing.exists(labels)
    index.pictures.append(Picture(image.stem, image, file, splits, labelled=labelled))
    if not labelled:
        asked.findings.add(image, image.stem, "unlabelled-image", f"there is no {file}")
        return
    data = read_annotations(labels, asked.findings, asked.listing, MAX_LABEL_BYTES, empty=True)
    text = None if data is None else as_text(data, labels, asked.findings)
    for number, line in numbered_lines(text or ""):
        _add_object(index, f"line {number}", line, file, numbers, asked.findings)


def _add_object(
    index: Index, identifier: str, line: str, file: str, numbers: set[float], findings: Findings
) -> None:
    """A box, or an outline of at least three points, of which the box is taken."""
    fields = line.split()
    outline = len(fields) >= 7 and len(fields) % 2 == 1
    try:
        label, *values = (float(one) for one in fields)
    except ValueError:
        values = []
    if not values or not (len(fields) == 5 or outline):
        why = "expected: class cx cy width height"
        findings.add(file, identifier, "missing-field", why)
        return
    numbers.add(label)
    if label not in range(len(index.classes)):
        why = f"class {fields[0]} is not within 0 to {len(index.classes) - 1}"
        findings.add(file, identifier, "unknown-class", why)
        return
    written = box_around(values) if outline else values
    index.boxes.add(file, identifier, len(index.pictures) - 1, int(label), written)


def _judge_labels_without_image(folder: Path, asked: Asked) -> None:
    labels = labels_path(folder / "any.jpg").parent
    if labels == folder:
        return  # beside the images, other text files may lie
    stems = {
        Path(name).stem
        for name in asked.listing.names(folder)
        if Path(name).suffix.lower() in SUFFIXES
    }
    for name in asked.listing.names(labels):
        path = labels / name
        if path.suffix == ".txt" and path.stem not in stems and path.stem != "classes":
            asked.findings.add(path, path.stem, "missing-image", "labels without an image")
