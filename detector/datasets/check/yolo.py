"""Index of YOLO's files: a data.yaml, image folders, a text file of boxes for each image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detector.boxes import xyxy_from_yolo
from detector.datasets.check.findings import Findings
from detector.datasets.check.index import Asked, Index, Picture, Reading
from detector.datasets.formats.yolo_files import (
    Files,
    class_names,
    images_of,
    labels_without_image,
    place_of,
    places_in,
    read_settings,
    read_text,
    root_of,
    splits_of,
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
from detector.errors import AnnotationError, brief, cut
from detector.structures import Array


def index_yolo(path: Path, asked: Asked) -> Index:
    """Index all splits of the data.yaml."""
    settings = _read_settings(path, asked)
    if settings is None:
        return Index("yolo", READING, ())
    findings = asked.findings
    classes = asked.classes or _class_names(path, settings, findings)
    index = Index("yolo", READING, classes)
    files = Files(root_of(path, settings))
    pictures: dict[Path, Picture] = {}
    meanings: dict[Path, Meaning] = {}
    for split in splits_of(settings):
        images = _images_of(path, settings, split, files, findings)
        labels = [files.labels_of(image) for image in images.values()]
        try:
            meaning = meaning_of(settings, texts_of(labels))
        except AnnotationError as error:
            findings.add(path, "kpt_shape", error.rule, str(error))
            settings = {key: value for key, value in settings.items() if key != "kpt_shape"}
            meaning = meaning_of(settings, texts_of(labels))
        for (image_id, image), text in zip(images.items(), labels, strict=True):
            if image not in pictures:
                file = findings.shown(text or image)
                pictures[image] = Picture(image_id, image, file, (), labelled=text is not None)
                meanings[image] = meaning
            pictures[image].splits += (split,)
    numbers: dict[str, set[float]] = {split: set() for split in splits_of(settings)}
    for image, picture in asked.watch(pictures.items(), "read labels"):
        mine: set[float] = set()
        _add_image(index, picture, files.labels_of(image), meanings[image], mine, asked)
        for split in picture.splits:
            numbers[split] |= mine
    labels_without_image(pictures, files, findings.add)
    for split, mine in numbers.items():
        if shift := shift_of(mine, len(classes)):
            findings.add(path, "class numbers", "shifted-classes", f"{split}: {shift}")
    return index


def _of_sizes(sizes: Array) -> Array:
    return sizes[:, [1, 0, 1, 0]]


READING = Reading(
    "centre and size", lambda written, sizes: xyxy_from_yolo(written, (1, 1)) * _of_sizes(sizes),
    "two corners", lambda written, sizes: written * _of_sizes(sizes),
    shares=True,
)  # fmt: skip


def _read_settings(path: Path, asked: Asked) -> dict[str, Any] | None:
    if asked.listing.size_of(path) == 0:
        asked.findings.add(path, path.stem, "empty-file", "has 0 bytes")
        return None
    try:
        settings = read_settings(path)
    except AnnotationError as error:
        why = str(error).removeprefix(f"{path}: ")
        asked.findings.add(path, path.stem, error.rule, why)
        return None
    if not splits_of(settings):
        asked.findings.add(path, path.stem, "missing-field", "needs names, and train or val")
        return None
    return settings


def _class_names(path: Path, settings: Mapping[str, Any], findings: Findings) -> tuple[str, ...]:
    try:
        names = class_names(settings)
    except AnnotationError as error:
        rule = "missing-field" if error.rule == "unreadable" else error.rule
        findings.add(path, "names", rule, str(error))
        value = settings.get("names")
        value = value.values() if isinstance(value, dict) else value
        if isinstance(value, str) or not isinstance(value, Iterable):
            return ()
        return tuple(cut(str(name)) for name in value)
    for name in sorted({candidate for candidate in names if names.count(candidate) > 1}):
        findings.add(path, "names", "duplicate-class", f"{name!r} is listed more than once")
    if settings.get("nc") not in (None, len(names)):
        why = f"nc is {brief(settings['nc'])}, but names has {len(names)}"
        findings.add(path, "nc", "different-classes", why)
    return names


def _images_of(
    path: Path, settings: Mapping[str, Any], split: str, files: Files, findings: Findings
) -> dict[str, Path]:
    """Images of the existing folders and lists of a split, as training takes them."""
    there = []
    for entry in places_in(settings, split):
        if place_of(files.root, entry) is None:
            findings.add(path, split, "missing-split", f"names {cut(entry)}, which is not there")
        else:
            there.append(entry)
    before = len(findings.entries)
    images = images_of(path, {split: there}, split, files, findings.add) if there else {}
    if there and not images and len(findings.entries) == before:
        findings.add(path, split, "missing-split", "has no image")
    return images


def _add_image(
    index: Index,
    picture: Picture,
    labels: Path | None,
    meaning: Meaning,
    numbers: set[float],
    asked: Asked,
) -> None:
    if asked.listing.size_of(picture.path) == 0:
        asked.findings.add(picture.path, picture.id, "empty-file", "has 0 bytes")
        return
    index.pictures.append(picture)
    if labels is None:
        why = "has no label file: taken as empty"
        asked.findings.add(picture.path, picture.id, "unlabelled-image", why)
        return
    try:
        text = read_text(labels)
    except AnnotationError as error:
        why = str(error).removeprefix(f"{labels}: ")
        asked.findings.add(labels, picture.id, error.rule, why)
        picture.labelled = False
        return
    for number, line in numbered_rows(text):
        row = read_row(line, meaning, len(index.classes))
        if row.label is not None:
            numbers.add(row.label)
        if isinstance(row, Fault):
            asked.findings.add(picture.file, number, row.rule, row.why)
            continue
        index.boxes.add(picture.file, number, len(index.pictures) - 1, int(row.label), row.box)
