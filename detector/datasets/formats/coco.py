"""Reading COCO's instances JSON: images, annotations and categories in one file.

Box areas are those of the outlines where the file gives them, as COCO's own protocol wants.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detector.boxes import xyxy_from_coco
from detector.datasets.dataset import Dataset, Ledger
from detector.datasets.formats.annotation_files import read_limited
from detector.datasets.formats.coco_boxes import as_float, box_of, is_number
from detector.datasets.formats.coco_entries import (
    Folder,
    LeftOut,
    Owners,
    categories_of,
    folder_of,
    images_of,
    is_crowd,
    is_ignored,
    key_of,
    parts_of,
    shift_of,
)
from detector.datasets.formats.entries import Convention, Entry, Row, samples_of
from detector.errors import AnnotationError, DatasetError

# COCO's own largest file has 470 MB; a parsed one takes about eight times its size in memory.
MAX_JSON_BYTES = 1_000_000_000


def read_coco(
    json_path: str | Path, images_root: str | Path | None = None, *, strict: bool = False
) -> Dataset:
    """Read all images of one instances file.

    images_root  the folder that the file names are relative to; by default looked for near the file
    strict       stop with an AnnotationError at the first defect instead of leaving it out
    """
    json_path = Path(json_path)
    content = parts_of(read_json(json_path), json_path)
    ledger = Ledger(json_path.parent, strict)
    return dataset_of(json_path, content, split_of(json_path), images_root, ledger)


def dataset_of(
    path: Path,
    content: Mapping[str, list[Any]],
    name: str,
    images_root: str | Path | None,
    ledger: Ledger,
) -> Dataset:
    """Make a data set of the three lists of the file, or folder of files, at `path`."""
    categories = categories_of(path, content["categories"], content["annotations"])
    known, shift = categories.labels(), shift_of(content["annotations"], content["categories"])
    # Where no id is known, every object is left out, and counted.
    if shift and any(key_of(row, "category_id") in known for row in content["annotations"]):
        ids = f"{categories.ids[0]} to {categories.ids[-1]}"
        cure = f"use the ids of its categories, {ids}, and remove annotations of none of them"
        raise AnnotationError(f"{path}: {shift}; {cure}", "shifted-classes")
    if images_root is None:
        folder = folder_of(path, content["images"])
    elif (folder := Folder(Path(images_root))) and not folder.root.is_dir():
        raise DatasetError(f"{images_root}: no such folder of images")
    entries = entries_of(path, content, folder, known, ledger, Entry.has_true_size)
    samples = samples_of(entries, CONVENTION)
    dropped = tuple(ledger.entries)
    return Dataset(name, categories.names, samples, dropped, categories.ids).not_empty()


def entries_of(
    path: Path,
    content: Mapping[str, list[Any]],
    folder: Folder,
    labels: Mapping[str, int],
    ledger: Ledger,
    is_usable: Callable[[Entry], bool],
    elsewhere: Entry | None = None,
) -> list[Entry]:
    """Read the usable images with their objects.

    elsewhere  takes the objects of all other images, which are in the ledger themselves
    """
    entries, same = images_of(path, content["images"], folder, ledger)
    entries = {key: entry for key, entry in entries.items() if is_usable(entry)}
    owners = Owners(content["images"], same)
    annotated: set[str | None] = set()
    for position, row in enumerate(content["annotations"]):
        identifier = key_of(row, "id") or f"annotations[{position}]"
        image, rule, why = owners.of(row)
        annotated.add(image)
        if image is None:
            ledger.add(path, identifier, rule, why)
        elif (entry := entries.get(image, elsewhere)) is not None:
            _add_object(entry, identifier, row, labels)
    for key in entries.keys() - annotated if None in annotated else ():
        entries[key].complete = False  # those of no image may belong to one that has none
    return list(entries.values())


def read_json(path: Path) -> Any:
    """Read a JSON file; too large, too deep or malformed ones are an AnnotationError."""
    data = read_limited(path, MAX_JSON_BYTES)
    if not data:
        raise AnnotationError(f"{path}: not JSON: has 0 bytes", "empty-file")
    try:
        return json.loads(data)
    except RecursionError as error:
        why = f"{path}: nested too deeply to be annotations"
        raise AnnotationError(why, "too-deep") from error
    except UnicodeDecodeError as error:
        why = f"{path}: not JSON: byte {error.start} is not UTF-8"
        raise AnnotationError(why, "not-utf8") from error
    except ValueError as error:
        raise AnnotationError(f"{path}: not JSON: {error}") from error


def split_of(json_path: Path) -> str:
    """Name an instances file: by its stem, or its folder where Roboflow names all alike."""
    if json_path.stem != "_annotations.coco":
        return json_path.stem
    return Path(os.path.abspath(json_path)).parent.name  # of a relative path, too


def _add_object(
    entry: Entry, identifier: str, row: Mapping[str, Any], labels: Mapping[str, int]
) -> None:
    box, category, area = box_of(row), key_of(row, "category_id"), row.get("area")
    if isinstance(fault := row.get("fault"), LeftOut):
        entry.leave_out(identifier, *fault)
    elif box is None:
        entry.leave_out(identifier, "missing-field", "needs a bbox of four numbers, or an outline")
    elif category is None or category not in labels:
        entry.leave_out(identifier, "unknown-class", f"there is no category {category}")
    else:
        pixels = as_float(area) if is_number(area) else math.nan  # NaN: the box's
        entry.rows.append(
            Row(identifier, labels[category], box, is_ignored(row), is_crowd(row), pixels)
        )


CONVENTION = Convention(
    "x, y, width, height",
    lambda written, sizes: xyxy_from_coco(written),
    lambda written, sizes: written[:, 2:],
    "x1, y1, x2, y2",
    lambda written, sizes: written,
)
