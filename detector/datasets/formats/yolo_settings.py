"""The file that names a YOLO set's classes and splits: data.yaml, obj.data or a list of classes."""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from detector import safe_yaml
from detector.datasets.formats.annotation_files import read_limited, read_text
from detector.datasets.formats.names import class_name, fault_of_class
from detector.datasets.formats.yolo_rows import numbered_rows
from detector.errors import AnnotationError, brief

SUFFIXES_OF_YAML = (".yaml", ".yml")
SPLITS = ("train", "val", "test")
# The class names, one a line, as labelling tools write them where there is no data.yaml.
CLASS_LISTS = ("classes.txt", "obj.names")
_ALSO_VAL = ("valid", "validation")  # Darknet says valid


def read_settings(path: Path) -> dict[str, Any]:
    """names, train, val, test, path and kpt_shape, from a data.yaml, from Darknet's obj.data (which
    CVAT writes as "YOLO 1.1"), or from a list of class names beside the images.
    """
    if path.suffix.lower() in SUFFIXES_OF_YAML:
        settings = _read_yaml(path)
    elif path.suffix.lower() == ".data":
        settings = _read_darknet(path)
    else:
        settings = _beside_class_list(path)
    for name in _ALSO_VAL:
        if name in settings:
            settings.setdefault("val", settings[name])
    return settings


def _read_yaml(path: Path) -> dict[str, Any]:
    data = read_limited(path, safe_yaml.MAX_BYTES)
    try:
        content = safe_yaml.load_yaml(data)
    except safe_yaml.YamlError as error:
        raise AnnotationError(f"{path}: not readable YAML: {error}", error.rule) from None
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: expected a mapping with names, train and val")
    return content


# `key = value` a line. `names` is a file; paths are of the folder where Darknet once ran.
def _read_darknet(path: Path) -> dict[str, Any]:
    pairs = (line.partition("=") for _, line in numbered_rows(read_text(path)))
    values: dict[str, Any] = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    names = values.get("names")
    names_path = None if names is None else place_of(path.parent, names)
    if names_path is None or not os.path.isfile(names_path):
        raise AnnotationError(f"{path}: names must tell the file of the class names")
    known = {"names": _class_list(names_path)}
    return known | {key: values[key] for key in (*SPLITS, *_ALSO_VAL) if values.get(key)}


# Images and labels in folders called so, which may hold one folder a split; else all here.
def _beside_class_list(path: Path) -> dict[str, Any]:
    home = path.parent
    images = next(
        (
            folder_name
            for folder_name in (home / "images", home.parent / "images")
            if os.path.isdir(folder_name)
        ),
        home,
    )
    known = (*SPLITS, *_ALSO_VAL)
    names = [name for name in sorted(os.listdir(images)) if os.path.isdir(images / name)]
    splits = {name.lower(): images / name for name in names if name.lower() in known}
    places = {name: str(folder) for name, folder in (splits or {"train": images}).items()}
    root = home if images == home else images.parent
    return {"path": str(root), "names": _class_list(path), **places}


def _class_list(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def splits_of(settings: Mapping[str, Any]) -> list[str]:
    return [split for split in SPLITS if settings.get(split)]


def classes_of(path: Path, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes; an AnnotationError names the file where there are none."""
    try:
        return class_names(settings)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}", error.rule) from None


def class_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes by their numbers, from a list or a mapping. Numbers are names as they are
    written. Raises AnnotationError for what YAML takes for something else.
    """
    names = settings.get("names")
    if isinstance(names, dict):
        keys = [str(key) for key in names]
        if sorted(keys) != sorted(map(str, range(len(keys)))):
            raise AnnotationError(
                "names must list the classes, or map 0, 1, 2, ... to them without a gap"
            )
        names = [value for _, value in sorted(zip(map(int, keys), names.values(), strict=True))]
    if not isinstance(names, list) or not names:
        raise AnnotationError("names must list the classes, or map 0, 1, 2, ... to them")
    for number, name in enumerate(names):
        # Without quotes YAML reads true and false as truth values, and null as nothing.
        if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
            shown = {None: "nothing (null)", True: "true", False: "false"}
            said = shown[name] if name is None or isinstance(name, bool) else brief(name)
            raise AnnotationError(
                f"names must list the classes, each a text: class {number} is {said};"
                " put its name in quotes"
            )
    classes = tuple(class_name(str(name)) for name in names)
    for number, name in enumerate(classes):
        if fault := fault_of_class(name):
            raise AnnotationError(f"names: class {number}: {fault[1]}", fault[0])
    return classes


def root_of(path: Path, settings: Mapping[str, Any]) -> Path:
    """The folder that splits are relative to: `path`, unless that names another machine's folder
    or one without these splits.
    """
    home = path.parent
    stated = settings.get("path")
    if isinstance(stated, str):
        named = home / stated.replace("\\", "/")
        wanted = [listed for split in splits_of(settings) for listed in places_in(settings, split)]
        if os.path.isdir(named) and (
            any(place_of(named, entry) for entry in wanted)
            or not any(place_of(home, entry) for entry in wanted)
        ):
            return named.resolve()
    return home.resolve()


def places_in(settings: Mapping[str, Any], split: str) -> list[str]:
    """The folders and lists that a split names."""
    named = settings[split]
    return [str(entry) if isinstance(entry, (str, int)) else brief(entry)
            for entry in (named if isinstance(named, list) else [named])]  # fmt: skip


def place_of(root: Path, named: str) -> Path | None:
    """The folder or list that a split names; None where it is not there.

    Roboflow writes `../train/images` of what lies beside its data.yaml, Windows `\\` for `/`, and
    a set that has moved names the folders of another machine by their whole paths.
    """
    if (path := _existing(root / named)) is not None:
        return path
    name = named.replace("\\", "/")
    if (path := _existing(root / name)) is not None:
        return path
    is_whole = name.startswith("/") or re.match(r"[A-Za-z]:/", name) is not None
    parts = [part for part in PurePosixPath(name).parts if part not in (".", "..", "/")]
    # Of a whole path, and of Darknet's data/..., the last folders may be here.
    for first in range(len(parts) if is_whole or parts[:1] == ["data"] else min(1, len(parts))):
        if first and parts[first:] == ["images"]:
            break  # which may hold all splits
        if (path := _existing(root.joinpath(*parts[first:]))) is not None:
            return path
    return None


def _existing(path: Path) -> Path | None:
    is_list = path.suffix in (".txt", ".names") and os.path.isfile(path)
    return Path(os.path.normpath(path)) if is_list or os.path.isdir(path) else None
