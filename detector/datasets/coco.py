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
from detector.datasets.annotation_files import read_limited
from detector.datasets.dataset import Dataset, Ledger, Sample
from detector.datasets.image_files import absence, has_true_size, is_file, is_inside, named_in
from detector.datasets.json_values import as_float, is_number, is_whole
from detector.datasets.objects import Objects
from detector.errors import AnnotationError, DatasetError

# COCO's own largest file has 470 MB; a parsed one takes about eight times its size in memory.
MAX_JSON_BYTES = 1_000_000_000
_PARTS = ("images", "annotations", "categories")


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
    content = _read_instances(json_path)
    ids, classes = _categories(json_path, content["categories"])
    label_of = {str(category): label for label, category in enumerate(ids)}
    ledger = Ledger(json_path.parent, strict)
    file = json_path.name
    folder = _images_folder(json_path, images_root, content["images"])
    images = _images(file, content["images"], folder, ledger, check_sizes)
    objects = {key: Objects(file, size, ledger) for key, (_, size) in images.items()}
    listed = {_key(entry, "id") for entry in content["images"]}
    seen: set[str] = set()
    for position, entry in enumerate(content["annotations"]):
        identifier = _key(entry, "id") or f"annotations[{position}]"
        if identifier in seen:
            ledger.drop(file, identifier, "duplicate-id", "its id was there before")
            continue
        seen.add(identifier)
        image = _key(entry, "image_id")
        if image is not None and image in listed and image not in objects:
            continue  # its image is in the ledger already
        _add_object(objects, image, identifier, entry, label_of, ledger, file)
    samples = [
        Sample(key, path, size, objects[key].annotations()) for key, (path, size) in images.items()
    ]
    entries = tuple(ledger.entries)
    return Dataset(split_of(json_path), classes, tuple(samples), entries, ids).not_empty()


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


def _read_instances(path: Path) -> dict[str, list[Any]]:
    content = read_json(path)
    for part in _PARTS:
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise AnnotationError(f"{path}: has no list {part!r}; expected COCO's instances layout")
    return content


def _categories(path: Path, entries: list[Any]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Category ids and names in the order of the ids, which is the order of the labels."""
    pairs: list[tuple[int, str]] = []
    for position, entry in enumerate(entries):
        category = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if not is_whole(category) or not isinstance(name, str) or not name:
            raise AnnotationError(f"{path}: categories[{position}] needs a whole id and a name")
        pairs.append((int(category), name))  # type: ignore[arg-type]
    pairs.sort()
    ids, names = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if not pairs:
        raise AnnotationError(f"{path}: has no categories")
    if len(set(ids)) < len(ids) or len(set(names)) < len(names):
        raise AnnotationError(f"{path}: two categories share an id or a name")
    return tuple(ids), tuple(names)


def _images_folder(path: Path, given: str | Path | None, entries: list[Any]) -> Path:
    """Where the first images lie: beside the file, or in the usual folders one step up."""
    if given is not None:
        if not Path(given).is_dir():
            raise DatasetError(f"{given}: no such folder of images")
        return Path(given)
    split = path.stem.rpartition("_")[2]
    home = path.parent
    tried = [home, home / "images", home.parent / split, home.parent / "images" / split]
    tried += [home.parent / "images", home.parent]
    first = [str(e.get("file_name")) for e in entries[:20] if isinstance(e, dict)]
    for folder in tried:
        if any(is_inside(name) and is_file(named_in(folder, name)) for name in first):
            return folder
    looked = ", ".join(str(folder) for folder in tried)
    raise DatasetError(f"{path}: none of its first images is in {looked}; put it beside them")


def _images(
    file: str, entries: list[Any], folder: Path, ledger: Ledger, check_sizes: bool
) -> dict[str, tuple[Path, tuple[int, int] | None]]:
    """The usable images: id -> path and declared size."""
    images: dict[str, tuple[Path, tuple[int, int] | None]] = {}
    paths: set[Path] = set()
    for position, entry in enumerate(entries):
        identifier = _key(entry, "id")
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if identifier is None or not isinstance(name, str):
            where = identifier or f"images[{position}]"
            ledger.drop(file, where, "missing-field", "an image needs an id and a file_name")
        elif not is_inside(name):
            ledger.drop(file, identifier, "unsafe-path", f"{name!r} leads out of the image folder")
        elif identifier in images:
            ledger.drop(file, identifier, "duplicate-id", "its id was there before")
        elif (path := named_in(folder, name)) in paths:
            ledger.drop(file, identifier, "duplicate-image", f"{name!r} was there before")
        elif not is_file(path):
            why = f"no file {name!r} in the image folder"
            ledger.drop(file, identifier, absence(path), why)
        else:
            size = _size_of(entry)
            if check_sizes and not has_true_size(file, identifier, path, size, ledger):
                continue
            images[identifier] = path, size
            paths.add(path)
    return images


def _add_object(
    objects: Mapping[str, Objects],
    image: str | None,
    identifier: str,
    entry: Any,
    label_of: Mapping[str, int],
    ledger: Ledger,
    file: str,
) -> None:
    box = entry.get("bbox") if isinstance(entry, dict) else None
    if image is None or not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        why = "needs an image_id and a bbox of four numbers"
        ledger.drop(file, identifier, "missing-field", why)
    elif image not in objects:
        ledger.drop(file, identifier, "unknown-image-id", f"there is no image {image}")
    elif (category := str(entry.get("category_id"))) not in label_of:
        ledger.drop(file, identifier, "unknown-class", f"there is no category {category}")
    else:
        written = [as_float(side) for side in box]
        area = entry.get("area")
        objects[image].add(
            identifier,
            xyxy_from_coco(np.array([written]))[0].tolist(),
            label_of[category],
            crowd=entry.get("iscrowd") in (1, True),
            area=as_float(area) if is_number(area) else None,
            written=written,
            sides=written[2:],
        )


def _key(entry: Any, name: str) -> str | None:
    """An id, whole number or text, as text; None where there is none."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return str(value) if is_whole(value) or isinstance(value, str) else None


def _size_of(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    if not (is_whole(height) and is_whole(width)) or height < 1 or width < 1:
        return None
    return height, width
