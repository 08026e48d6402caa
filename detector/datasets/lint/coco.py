"""What COCO's instances files say: one JSON file a split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from detector.boxes import xyxy_from_coco
from detector.datasets.coco import MAX_JSON_BYTES, split_of
from detector.datasets.image_files import is_inside, named_in
from detector.datasets.json_values import as_float, is_number, is_whole
from detector.datasets.lint.findings import Findings
from detector.datasets.lint.index import Asked, Index, Picture, Reading
from detector.datasets.lint.listing import Listing, read_annotations
from detector.structures import Array

_PARTS = ("images", "annotations", "categories")
_MOST_DEPTH = 8
"""Levels inside one entry; COCO's own have three (a list of polygons of numbers)."""


def index_coco(path: Path, asked: Asked) -> Index:
    """The file, or every instances file of the folder."""
    from detector.datasets.detect_format import instances_in

    files = [path] if path.is_file() else instances_in(path)
    index = Index("coco", READING, ())
    for file in files:
        content = _read(file, asked)
        if content is None:
            continue
        labels, names = _categories(file, content["categories"], asked.findings)
        if index.classes and names != index.classes:
            first = sorted(set(names) ^ set(index.classes))[:3] or ["another order"]
            why = f"differs from the file before it: {', '.join(first)}"
            asked.findings.add(file, "categories", "different-classes", why)
            continue
        index.classes = names
        rows = _add_images(index, file, content["images"], asked)
        _add_annotations(index, file, content["annotations"], rows, labels, asked)
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
        content = json.loads(data)
    except RecursionError:
        asked.findings.add(path, path.stem, "too-deep", "too deep for any reader")
    except UnicodeDecodeError as error:
        asked.findings.add(path, path.stem, "not-utf8", f"byte {error.start} is not UTF-8")
    except ValueError as error:
        asked.findings.add(path, path.stem, "unreadable", f"not JSON: {error}")
    else:
        for part in _PARTS:
            if not isinstance(content, dict) or not isinstance(content.get(part), list):
                asked.findings.add(path, path.stem, "unreadable", f"has no list {part!r}")
                return None
        return content
    return None


def _categories(
    path: Path, entries: list[Any], findings: Findings
) -> tuple[dict[Any, int], tuple[str, ...]]:
    """Category id -> label, and the names by label, in the order of the ids."""
    names: dict[int, str] = {}
    for position, entry in enumerate(entries):
        entry = entry if isinstance(entry, dict) else {}
        one, name = entry.get("id"), entry.get("name")
        if not is_whole(one) or not isinstance(name, str) or not name:
            findings.add(path, f"categories[{position}]", "missing-field", "needs id and name")
        elif one in names or name in names.values():
            why = f"id {one} or name {name!r} was there before"
            findings.add(path, f"categories[{position}]", "duplicate-class", why)
        else:
            names[one] = name
    ids = sorted(names)
    return {one: label for label, one in enumerate(ids)}, tuple(names[one] for one in ids)


def _add_images(
    index: Index, path: Path, entries: list[Any], asked: Asked
) -> dict[Any, int | None]:
    """Image id -> its place in the index; None for one that has a finding."""
    file, split = asked.findings.shown(path), split_of(path).rpartition("_")[2]
    folder = asked.images_root or _images_folder(path, entries, asked.listing)
    rows: dict[Any, int | None] = {}
    paths: set[Path] = set()
    for position, entry in enumerate(entries):
        entry = entry if isinstance(entry, dict) else {}
        one, name = entry.get("id"), entry.get("file_name")
        if not _is_id(one) or not isinstance(name, str):
            asked.findings.add(file, f"images[{position}]", "missing-field", "needs id, file_name")
            continue
        if one in rows:
            asked.findings.add(file, one, "duplicate-id", "its id was there before")
            continue
        rows[one] = None
        image = named_in(folder, name)
        if not is_inside(name):
            asked.findings.add(file, one, "unsafe-path", f"{name!r} leads out of the image folder")
        elif image in paths:
            asked.findings.add(file, one, "duplicate-image", f"{name!r} was there before")
        elif (size := asked.listing.size_of(image)) is None:
            there = asked.listing.exists(image)
            why = f"{name!r} is no regular file" if there else f"no file {name!r} in {folder.name}"
            asked.findings.add(file, one, "not-a-file" if there else "missing-image", why)
        elif size == 0:
            asked.findings.add(image, one, "empty-file", "has 0 bytes")
        else:
            rows[one] = len(index.pictures)
            index.pictures.append(Picture(str(one), image, file, (split,), _size_of(entry)))
        paths.add(image)
    return rows


def _images_folder(path: Path, entries: list[Any], listing: Listing) -> Path:
    """The usual folder that holds most of the first images."""
    split = path.stem.rpartition("_")[2]
    home = path.parent
    tried = [home, home / "images", home.parent / split, home.parent / "images" / split]
    tried += [home.parent / "images", home.parent]
    names = [str(e.get("file_name")) for e in entries[:200] if isinstance(e, dict)]
    names = [name for name in names if is_inside(name)]
    return max(tried, key=lambda one: sum(listing.exists(named_in(one, name)) for name in names))


def _add_annotations(
    index: Index, path: Path, entries: list[Any], rows: Mapping[Any, int | None],
    labels: Mapping[Any, int], asked: Asked,
) -> None:  # fmt: skip
    file, findings = asked.findings.shown(path), asked.findings
    seen: set[Any] = set()
    unknown: list[tuple[str, Any]] = []
    for position, entry in enumerate(asked.watch(entries, f"annotations of {path.name}")):
        entry = entry if isinstance(entry, dict) else {}
        one, box = entry.get("id"), entry.get("bbox")
        name = str(one) if _is_id(one) else f"annotations[{position}]"
        if not _is_id(one) or not _is_id(entry.get("image_id")) or not _is_box(box):
            why = "needs id, image_id and a bbox of four numbers"
            findings.add(file, name, "missing-field", why)
            continue
        if one in seen:
            findings.add(file, name, "duplicate-id", "its id was there before")
            continue
        seen.add(one)
        _judge_entry(entry, file, name, findings)
        category = entry.get("category_id")
        if entry["image_id"] not in rows:
            why = f"there is no image {entry['image_id']}"
            findings.add(file, name, "unknown-image-id", why)
        elif not is_whole(category) or category not in labels:
            unknown.append((name, category))
        elif (row := rows[entry["image_id"]]) is not None:
            index.boxes.add(
                file, name, row, labels[category], [as_float(side) for side in box or ()],
                "crowd" if entry.get("iscrowd") == 1 else "",
            )  # fmt: skip
    _judge_unknown(unknown, entries, labels, file, findings)


def _judge_entry(entry: Mapping[str, Any], file: str, name: str, findings: Findings) -> None:
    outline, crowd = entry.get("segmentation"), entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        findings.add(file, name, "crowd", f"iscrowd is {crowd!r}")
    elif crowd and isinstance(outline, list) and outline:
        findings.add(file, name, "crowd", "iscrowd is 1, but its outline is of polygons")
    if _is_deeper(entry, _MOST_DEPTH):
        findings.add(file, name, "too-deep", f"over {_MOST_DEPTH} levels deep")


def _judge_unknown(
    unknown: list[tuple[str, Any]], entries: list[Any], labels: Mapping[Any, int], file: str,
    findings: Findings,
) -> None:  # fmt: skip
    """Each category that does not exist; before that, whether all are one too low or too high."""
    if not unknown:
        return
    used = {
        e.get("category_id")
        for e in entries
        if isinstance(e, dict) and _is_id(e.get("category_id"))
    }
    whole = {one for one in used if is_whole(one)}
    for step, said in ((1, "low"), (-1, "high")):
        if whole and whole == used and {one + step for one in whole} <= labels.keys():
            why = f"every category_id is one too {said}: {min(whole)} to {max(whole)}"
            findings.add(file, "category_id", "shifted-classes", why)
    for name, category in unknown:
        findings.add(file, name, "unknown-class", f"there is no category {category!r}")


def _size_of(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    if not (is_whole(height) and is_whole(width)):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_is_deeper(one, levels - 1) for one in inner if isinstance(one, (dict, list)))


def _is_box(box: Any) -> TypeGuard[list[float]]:
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box))


def _is_id(value: Any) -> bool:
    return is_whole(value) or isinstance(value, str)
