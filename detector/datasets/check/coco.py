"""Index of COCO's instances files, one JSON file a split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.boxes import xyxy_from_coco
from detector.datasets.check.findings import Findings
from detector.datasets.check.index import Asked, Index, Picture, Reading
from detector.datasets.check.listing import read_annotations
from detector.datasets.formats.coco import MAX_JSON_BYTES, split_of
from detector.datasets.formats.coco_entries import (
    Folder,
    Owners,
    box_of,
    categories_of,
    folder_of,
    images_of,
    is_crowd,
    is_ignored,
    key_of,
    parts_of,
    shift_of,
)
from detector.errors import AnnotationError, DatasetError
from detector.structures import Array

_MOST_DEPTH = 8
"""Limit of levels in one entry; COCO's own have three (a list of polygons of numbers)."""


def index_coco(path: Path, asked: Asked) -> Index:
    """Index the file, or every instances file of the folder."""
    from detector.datasets.formats.recognise import instances_in

    files = [path] if path.is_file() else instances_in(path)
    index = Index("coco", READING, ())
    for file in files:
        content = _read(file, asked)
        if content is None:
            continue
        categories = categories_of(
            file, content["categories"], content["annotations"], asked.findings.add
        )
        names = categories.names
        if index.classes and names != index.classes:
            first = sorted(set(names) ^ set(index.classes))[:3] or ["another order"]
            why = f"differs from the file before it: {', '.join(first)}"
            asked.findings.add(file, "categories", "different-classes", why)
            continue
        index.classes = names
        rows, owners = _add_images(index, file, content["images"], asked)
        annotations, labels = content["annotations"], categories.labels()
        if shift := shift_of(annotations, content["categories"]):
            asked.findings.add(file, "category_id", "shifted-classes", shift)
        _add_annotations(index, file, annotations, rows, owners, labels, asked)
    return index


def _from_corners(written: Array, sizes: Array) -> Array:
    return written


READING = Reading(
    "x, y, width, height", lambda written, sizes: xyxy_from_coco(written),
    "x1, y1, x2, y2", _from_corners,
)  # fmt: skip


def _read(path: Path, asked: Asked) -> dict[str, list[Any]] | None:
    data = read_annotations(path, asked.findings, asked.listing, MAX_JSON_BYTES)
    if data is None:
        return None
    try:
        return parts_of(json.loads(data), path)
    except RecursionError:
        asked.findings.add(path, path.stem, "too-deep", "too deep for any reader")
    except UnicodeDecodeError as error:
        asked.findings.add(path, path.stem, "not-utf8", f"byte {error.start} is not UTF-8")
    except ValueError as error:
        asked.findings.add(path, path.stem, "unreadable", f"not JSON: {error}")
    except AnnotationError as error:
        asked.findings.add(path, path.stem, error.rule, str(error).removeprefix(f"{path}: "))
    return None


def _add_images(
    index: Index, path: Path, entries: list[Any], asked: Asked
) -> tuple[dict[str, int], Owners]:
    """Add the images; returns their index by id, and the owners of annotations."""
    file, split = asked.findings.shown(path), split_of(path).rpartition("_")[2]
    if asked.images_root is not None:
        folder = Folder(asked.images_root)
    else:
        try:
            folder = folder_of(path, entries)
        except DatasetError:  # each image is then found to be missing
            folder = Folder(path.parent)
    images, same = images_of(file, entries, folder, asked.findings.add)
    rows: dict[str, int] = {}
    for image_id, image in images.items():
        if asked.listing.size_of(image.path) == 0:
            asked.findings.add(image.path, image_id, "empty-file", "has 0 bytes")
            continue
        rows[image_id] = len(index.pictures)
        index.pictures.append(Picture(image_id, image.path, file, (split,), image.size))
    return rows, Owners(entries, same)


def _add_annotations(
    index: Index, path: Path, entries: list[Any], rows: Mapping[str, int], owners: Owners,
    labels: Mapping[str, int], asked: Asked,
) -> None:  # fmt: skip
    file, findings = asked.findings.shown(path), asked.findings
    ids: Counter[str | None] = Counter()
    unknown: list[tuple[str, str | None]] = []
    for position, entry in enumerate(asked.watch(entries, f"annotations of {path.name}")):
        own_id, box = key_of(entry, "id"), box_of(entry)
        name = own_id or f"annotations[{position}]"
        ids[own_id] += 1
        image, rule, why = owners.of(entry)
        if image is None:
            findings.add(file, name, rule, why)
            continue
        if box is None:
            why = "needs a bbox of four numbers, or an outline"
            findings.add(file, name, "missing-field", why)
            continue
        _judge_entry(entry, file, name, findings)
        category = key_of(entry, "category_id")
        if category is None or category not in labels:
            unknown.append((name, category))
        elif image in rows:
            aside = "crowd" if is_crowd(entry) else "difficult" if is_ignored(entry) else ""
            index.boxes.add(file, name, rows[image], labels[category], box, aside)
    _judge_ids(ids, file, findings)
    for name, category in unknown:
        findings.add(file, name, "unknown-class", f"there is no category {category}")


def _judge_ids(ids: Counter[str | None], file: str, findings: Findings) -> None:
    """Add one note for all faulty ids: nothing here needs them, but other programs do."""
    missing, again = ids.pop(None, 0), sum(times - 1 for times in ids.values())
    if missing or again:
        first = next((identifier for identifier, times in ids.items() if times > 1), None)
        example = "" if first is None else f", such as {first}"
        why = f"{missing} annotations have no id, {again} one that was there before{example}"
        findings.add(file, "annotations", "annotation-ids", why)


def _judge_entry(entry: Mapping[str, Any], file: str, name: str, findings: Findings) -> None:
    outline, crowd = entry.get("segmentation"), entry.get("iscrowd")
    if crowd not in (None, 0, 1, "0", "1"):
        findings.add(file, name, "crowd", f"iscrowd is {str(crowd)[:50]!r}")
    elif is_crowd(entry) and isinstance(outline, list) and outline:
        findings.add(file, name, "crowd", "iscrowd is 1, but its outline is of polygons")
    if _is_deeper(entry, _MOST_DEPTH):
        findings.add(file, name, "too-deep", f"over {_MOST_DEPTH} levels deep")


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_is_deeper(child, levels - 1) for child in inner if isinstance(child, (dict, list)))
