"""Index of YOLO's files, with the checks that are YOLO's alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detector.datasets.check.index import Asked, Index, Picture
from detector.datasets.dataset import Ledger
from detector.datasets.formats.yolo import CONVENTION, entry_of, read_labels
from detector.datasets.formats.yolo_files import Files, images_of, labels_without_image, texts_of
from detector.datasets.formats.yolo_rows import Meaning, meaning_of, shift_of
from detector.datasets.formats.yolo_settings import (
    class_names,
    place_of,
    places_in,
    read_settings,
    root_of,
    splits_of,
)
from detector.errors import AnnotationError, brief, cut


def index_yolo(path: Path, asked: Asked) -> Index:
    """Index all splits of the data.yaml."""
    ledger = asked.ledger
    try:
        settings = _settings_of(path)
    except AnnotationError as error:
        ledger.refuse(path, path.stem, error)
        return Index(CONVENTION)
    index = Index(CONVENTION, asked.classes or _class_names(path, settings, ledger))
    files = Files(root_of(path, settings))
    pictures: dict[Path, Picture] = {}
    labels: dict[Path, Path | None] = {}
    meanings: dict[Path, Meaning] = {}
    for split in splits_of(settings):
        images = _images_of(path, settings, split, files, ledger)
        labels |= {image: files.labels_of(image) for image in images.values()}
        texts = [labels[image] for image in images.values()]
        try:
            meaning = meaning_of(settings, texts_of(texts))
        except AnnotationError as error:
            ledger.add(path, "kpt_shape", error.rule, str(error))
            # Said once; without it the rows are told apart by themselves.
            settings = {key: value for key, value in settings.items() if key != "kpt_shape"}
            meaning = meaning_of(settings, texts_of(texts))
        for image_id, image in images.items():
            if image not in pictures:
                pictures[image] = Picture(entry_of(image_id, image, labels[image], ledger))
                meanings[image] = meaning
            pictures[image].splits += (split,)
    numbers: dict[str, set[float]] = {split: set() for split in splits_of(settings)}
    for image, picture in asked.watch(pictures.items(), "read labels"):
        if not asked.has_bytes(picture.entry):
            continue
        index.pictures.append(picture)
        if labels[image] is None:
            why = "has no label file: taken as empty"
            ledger.add(image, picture.id, "unlabelled-image", why)
        mine: set[float] = set()
        # Nobody knows what an image shows of which the labels cannot be read.
        picture.entry.labelled &= read_labels(
            picture.entry, labels[image], meanings[image], len(index.classes), mine
        )
        for split in picture.splits:
            numbers[split] |= mine
    labels_without_image(pictures, files, ledger)
    for split, mine in numbers.items():
        if shift := shift_of(mine, len(index.classes)):
            ledger.add(path, "class numbers", "shifted-classes", f"{split}: {shift}")
    return index


def _settings_of(path: Path) -> dict[str, Any]:
    if path.is_file() and path.stat().st_size == 0:
        raise AnnotationError(f"{path}: has 0 bytes", "empty-file")
    settings = read_settings(path)
    if not splits_of(settings):
        raise AnnotationError(f"{path}: needs names, and train or val", "missing-field")
    return settings


def _class_names(path: Path, settings: Mapping[str, Any], ledger: Ledger) -> tuple[str, ...]:
    try:
        names = class_names(settings)
    except AnnotationError as error:
        rule = "missing-field" if error.rule == "unreadable" else error.rule
        ledger.add(path, "names", rule, str(error))
        value = settings.get("names")
        value = value.values() if isinstance(value, dict) else value
        if isinstance(value, str) or not isinstance(value, Iterable):
            return ()
        return tuple(cut(str(name)) for name in value)
    for name in sorted({candidate for candidate in names if names.count(candidate) > 1}):
        ledger.add(path, "names", "duplicate-class", f"{name!r} is listed more than once")
    if settings.get("nc") not in (None, len(names)):
        why = f"nc is {brief(settings['nc'])}, but names has {len(names)}"
        ledger.add(path, "nc", "different-classes", why)
    return names


def _images_of(
    path: Path, settings: Mapping[str, Any], split: str, files: Files, ledger: Ledger
) -> dict[str, Path]:
    there = []
    for entry in places_in(settings, split):
        if place_of(files.root, entry) is None:
            ledger.add(path, split, "missing-split", f"names {cut(entry)}, which is not there")
        else:
            there.append(entry)
    before = len(ledger.entries)  # the reader may say itself why there is none
    images = images_of(path, {split: there}, split, files, ledger) if there else {}
    if there and not images and len(ledger.entries) == before:
        ledger.add(path, split, "missing-split", "has no image")
    return images
