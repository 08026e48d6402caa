"""Reading COCO's instances JSON: images, annotations and categories in one file.

Box areas are those of the outlines where the file gives them, as COCO's own protocol wants.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detector.boxes import xyxy_from_coco
from detector.datasets.dataset import Dataset, Ledger
from detector.datasets.formats.annotation_files import read_limited
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
from detector.datasets.formats.json_values import as_float, is_number
from detector.datasets.formats.objects import Objects
from detector.datasets.image_files import has_true_size
from detector.errors import AnnotationError, DatasetError

# COCO's own largest file has 470 MB; a parsed one takes about eight times its size in memory.
MAX_JSON_BYTES = 1_000_000_000


def read_coco(
    json_path: str | Path,
    images_root: str | Path | None = None,
    *,
    strict: bool = False,
    check_sizes: bool = True,
) -> Dataset:
    """All images of one instances file.

    images_root  the folder that the file names are relative to; by default looked for near the file
    strict       stop with an AnnotationError at the first defect instead of leaving it out
    check_sizes  compare the sizes in the file with the images' own
    """
    json_path = Path(json_path)
    content = parts_of(read_json(json_path), json_path)
    categories = categories_of(json_path, content["categories"], content["annotations"])
    shift, known = shift_of(content["annotations"], content["categories"]), categories.labels()
    if shift and any(
        key_of(of_image, "category_id") in known for of_image in content["annotations"]
    ):
        ids = f"{categories.ids[0]} to {categories.ids[-1]}"
        cure = f"use the ids of its categories, {ids}, and remove annotations of none of them"
        raise AnnotationError(f"{json_path}: {shift}; {cure}", "shifted-classes")
    ledger = Ledger(json_path.parent, strict)
    file = json_path.name
    if images_root is None:
        folder = folder_of(json_path, content["images"])
    elif (folder := Folder(Path(images_root))) and not folder.root.is_dir():
        raise DatasetError(f"{images_root}: no such folder of images")
    images, same = images_of(file, content["images"], folder, ledger.drop)
    objects = {
        key: Objects(file, of_image.size, ledger)
        for key, of_image in images.items()
        if not check_sizes or has_true_size(file, key, of_image.path, of_image.size, ledger)
    }
    owners, labels = Owners(content["images"], same), categories.labels()
    annotated: set[str | None] = set()
    for position, entry in enumerate(content["annotations"]):
        identifier = key_of(entry, "id") or f"annotations[{position}]"
        image, rule, why = owners.of(entry)
        annotated.add(image)
        if image is None:
            ledger.drop(file, identifier, rule, why)
        elif image in objects:  # else the image is in the ledger
            _add_object(objects[image], identifier, entry, labels)
    for key in objects.keys() - annotated if None in annotated else ():
        objects[key].complete = False  # those of no image may belong to one that has none
    samples = tuple(of_image.sample(key, images[key].path) for key, of_image in objects.items())
    entries = tuple(ledger.entries)
    return Dataset(
        split_of(json_path), categories.names, samples, entries, categories.ids
    ).not_empty()


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file; too large, too deep or malformed ones are an AnnotationError."""
    data = read_limited(path, max_bytes)
    try:
        return json.loads(data)
    except RecursionError as error:
        raise AnnotationError(f"{path}: nested too deeply to be annotations") from error
    except ValueError as error:  # malformed JSON, or not Unicode
        raise AnnotationError(f"{path}: not JSON: {error}") from error


def split_of(json_path: Path) -> str:
    """What an instances file is called: its stem, or its folder where Roboflow names all alike."""
    if json_path.stem != "_annotations.coco":
        return json_path.stem
    return Path(os.path.abspath(json_path)).parent.name  # of a relative path, too


def _add_object(
    objects: Objects, identifier: str, entry: Mapping[str, Any], labels: Mapping[str, int]
) -> None:
    box = box_of(entry)
    if box is None:
        why = "needs a bbox of four numbers, or an outline"
        objects.leave_out(identifier, "missing-field", why)
    elif (category := key_of(entry, "category_id")) is None or category not in labels:
        objects.leave_out(identifier, "unknown-class", f"there is no category {category}")
    else:
        area = entry.get("area")
        objects.add(
            identifier,
            xyxy_from_coco(np.array([box]))[0].tolist(),
            labels[category],
            difficult=is_ignored(entry),
            crowd=is_crowd(entry),
            area=as_float(area) if is_number(area) else None,
            written=box,
            sides=box[2:],
        )
