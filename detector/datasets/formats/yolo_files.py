"""The files of a YOLO set: those that name classes and splits, the images, the label files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from detector import safe_yaml
from detector.datasets.dataset import Ledger
from detector.datasets.formats.annotation_files import decoded, read_limited
from detector.datasets.formats.names import class_name, fault_of_class
from detector.datasets.formats.yolo_rows import numbered_rows
from detector.datasets.image_files import SUFFIXES, absence, is_file, is_folder
from detector.datasets.image_names import ImageNames, listed_name, path_inside, without_extension
from detector.errors import AmbiguousName, AnnotationError, DatasetError, brief, cut

MAX_LABEL_BYTES = 16_000_000
SUFFIXES_OF_YAML = (".yaml", ".yml")
SPLITS = ("train", "val", "test")
CLASS_LISTS = ("classes.txt", "obj.names")
"""The class names, one a line, as labelling tools write them where there is no data.yaml."""
_ALSO_VAL = ("valid", "validation")


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


def _read_darknet(path: Path) -> dict[str, Any]:
    """`key = value` a line. `names` is a file; paths are of the folder where Darknet once ran."""
    pairs = (line.partition("=") for _, line in numbered_rows(read_text(path)))
    values: dict[str, Any] = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    names = values.get("names")
    names_path = None if names is None else place_of(path.parent, names)
    if names_path is None or not is_file(names_path):
        raise AnnotationError(f"{path}: names must tell the file of the class names")
    known = {"names": _class_list(names_path)}
    return known | {key: values[key] for key in (*SPLITS, *_ALSO_VAL) if values.get(key)}


def _beside_class_list(path: Path) -> dict[str, Any]:
    """Images and labels in folders called so, which may hold one folder a split; else all here."""
    home = path.parent
    images = next(
        (
            folder_name
            for folder_name in (home / "images", home.parent / "images")
            if is_folder(folder_name)
        ),
        home,
    )
    known = (*SPLITS, *_ALSO_VAL)
    names = [name for name in sorted(os.listdir(images)) if is_folder(images / name)]
    splits = {name.lower(): images / name for name in names if name.lower() in known}
    places = {name: str(folder) for name, folder in (splits or {"train": images}).items()}
    root = home if images == home else images.parent
    return {"path": str(root), "names": _class_list(path), **places}


def _class_list(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_text(path: Path) -> str:
    return decoded(read_limited(path, MAX_LABEL_BYTES), path)


def texts_of(paths: Iterable[Path | None]) -> Iterator[str]:
    """What the label files hold that can be read."""
    for path in paths:
        if path is not None:
            with suppress(AnnotationError):
                yield read_text(path)


def splits_of(settings: Mapping[str, Any]) -> list[str]:
    return [split for split in SPLITS if settings.get(split)]


def classes_of(path: Path, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes; an AnnotationError names the file where there are none."""
    try:
        return class_names(settings)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}", error.rule) from None


def class_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes by their numbers, from a list or a mapping; an AnnotationError says which is
    none. Numbers are names as they are written; what YAML takes for something else is not.
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
        if is_folder(named) and (
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
    for first in range(len(parts) if is_whole or parts[:1] == ["data"] else min(1, len(parts))):
        if first and parts[first:] == ["images"]:
            break  # which may hold all splits
        if (path := _existing(root.joinpath(*parts[first:]))) is not None:
            return path
    return None


def _existing(path: Path) -> Path | None:
    is_list = path.suffix in (".txt", ".names") and is_file(path)
    return Path(os.path.normpath(path)) if is_list or is_folder(path) else None


class Files:
    """What the folders hold, each listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[Path, frozenset[str]] = {}
        self._texts: dict[Path, dict[str, list[str]]] = {}
        self._homes: dict[Path, list[Path]] = {}

    def labels_of(self, image: Path) -> Path | None:
        """The label file of an image: in a folder `labels` that lies as its `images` does, else
        beside the image; None where it has none.
        """
        for folder in self.label_folders(image.parent):
            if (text := self._text(folder, image.stem)) is not None:
                return text
        return None

    def label_folders(self, folder: Path) -> list[Path]:
        """Where the labels of the images in a folder may lie, the likeliest first."""
        if folder not in self._homes:
            self._homes[folder] = [*self._parallel(folder), folder]
        return self._homes[folder]

    def _parallel(self, folder: Path) -> Iterator[Path]:
        parts = folder.parts
        for position in reversed(range(len(parts))):
            if parts[position].casefold() != "images":
                continue
            above = Path(*parts[:position])
            twins = [name for name in self.names(above) if name.casefold() == "labels"]
            for name in sorted(twins, key=lambda name: (name != "labels", name)):
                if is_folder(twin := above / name / Path(*parts[position + 1 :])):
                    yield twin

    def texts_in(self, folder: Path) -> Iterator[Path]:
        for names in self._texts_of(folder).values():
            yield from (folder / name for name in names)

    def _text(self, folder: Path, stem: str) -> Path | None:
        """STEM.txt; else the only file whose name differs in the composition of accents, or in the
        capitals of .txt.
        """
        if f"{stem}.txt" in self.names(folder):
            return folder / f"{stem}.txt"
        alike = self._texts_of(folder).get(unicodedata.normalize("NFC", stem), [])
        return folder / alike[0] if len(alike) == 1 else None

    def _texts_of(self, folder: Path) -> dict[str, list[str]]:
        """The text files of a folder by their composed stems."""
        if folder not in self._texts:
            by_stem: dict[str, list[str]] = {}
            for name in sorted(self.names(folder)):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() == ".txt" and not name.startswith("."):
                    by_stem.setdefault(unicodedata.normalize("NFC", stem), []).append(name)
            self._texts[folder] = by_stem
        return self._texts[folder]

    def names(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except (OSError, ValueError):
                self._names[folder] = frozenset()
        return self._names[folder]

    def images_below(self, folder: Path, ledger: Ledger) -> Iterator[Path]:
        """The image files in a folder and in all below it, as YOLO's own reader goes; hidden ones
        and folders of labels left out. Of two of one name the commoner format's stands first.
        """
        visited: set[str] = set()
        for here, folders, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(here)
            folders[:] = [] if real in visited else sorted(f for f in folders if f[:1] != ".")
            if real in visited:  # a link to a folder above
                continue
            visited.add(real)
            for name in [folder_name for folder_name in folders if _is_image(folder_name)]:
                folders.remove(name)
                names.append(name)
            image_names = [name for name in names if name[:1] != "." and _is_image(name)]
            image_names.sort(reverse=True)  # of x.JPG and x.jpg the second
            image_names.sort(key=lambda name: (Path(name).stem, _rank(name)))
            for name in image_names:
                path = Path(here, name)
                if is_file(path):
                    yield path
                else:
                    ledger.add(path, path.stem, "not-a-file", "is not a regular file")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _rank(name: str) -> int:
    suffix = os.path.splitext(name)[1].lower()
    return SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)


def images_of(
    path: Path, settings: Mapping[str, Any], split: str, files: Files, ledger: Ledger
) -> dict[str, Path]:
    """Image id -> path. The id is the file's stem, and where several have that, the path below the
    root without extension.
    """
    if not settings.get(split):
        known = ", ".join(splits_of(settings)) or "none"
        raise DatasetError(f"{path}: no split {split!r}; it has: {known}")
    first: dict[tuple[Path, str], Path] = {}
    for named in places_in(settings, split):
        source = place_of(files.root, named)
        if source is None:
            shown = cut(str(files.root / named), 300)
            raise DatasetError(f"{path}: {split} names {shown}, which is not there")
        images = (
            files.images_below(source, ledger)
            if is_folder(source)
            else _listed_images(source, files.root, ledger)
        )
        for image in images:
            key = (image.parent, image.stem)  # of which there is one label file
            if (before := first.setdefault(key, image)) is not image:
                again = "is listed more than once" if before == image else "has the same name"
                ledger.add(image, image.stem, "duplicate-image", f"{before.name} {again}")
    times = Counter(image.stem for image in first.values())
    return {
        image.stem if times[image.stem] == 1 else _path_id(image, files.root): image
        for image in first.values()
    }


def _path_id(image: Path, root: Path) -> str:
    below = image.relative_to(root).as_posix() if image.is_relative_to(root) else str(image)
    return without_extension(below)


def _listed_images(listing: Path, root: Path, ledger: Ledger) -> Iterator[Path]:
    """The images that a list names, relative to the root or by their whole paths. A list that lies
    elsewhere, as data.yaml may say, names what is beside and below it.
    """
    root = root if listing.is_relative_to(root) else listing.parent
    try:
        text = read_text(listing)
    except AnnotationError as error:
        ledger.refuse(listing, listing.stem, error)
        return
    names: ImageNames | None = None

    def exact(name: str) -> str | None:
        inside = path_inside(root, name)
        return inside if inside is not None and is_file(root / inside) else None

    def alike(name: str) -> str | None:
        nonlocal names
        names = names or ImageNames.in_folder(root)
        return exact(name) or names.find(name)

    for number, line in numbered_rows(text):
        name, _ = listed_name(line, exact)
        try:
            if exact(name) is None:
                name, _ = listed_name(line, alike)
        except AmbiguousName as error:
            ledger.add(listing, number, "ambiguous-name", str(error))
            continue
        if exact(name) is not None:
            yield root / name
        elif path_inside(root, line) is None:
            ledger.add(listing, number, "unsafe-path", f"{brief(line)} leads out of the data set")
        else:
            ledger.add(listing, number, absence(root / line), f"there is no file {brief(line)}")


def labels_without_image(images: Iterable[Path], files: Files, ledger: Ledger) -> None:
    """Label files in folders of labels, and below them, of which no image is in the folder of
    images that lies as they do.
    """
    visited: set[Path] = set()
    for folder in sorted({path.parent for path in images}):
        for labels in files.label_folders(folder):
            if labels == folder:
                continue  # beside the images, other text files may lie
            for here, below, _ in os.walk(labels):
                below[:] = sorted(name for name in below if name[:1] != ".")
                subfolder = Path(here)
                if subfolder not in visited:
                    visited.add(subfolder)
                    _judge_labels(subfolder, folder / subfolder.relative_to(labels), files, ledger)


def _judge_labels(labels: Path, images: Path, files: Files, ledger: Ledger) -> None:
    names = filter(_is_image, files.names(images))
    stems = {unicodedata.normalize("NFC", Path(name).stem) for name in names}
    for text in files.texts_in(labels):
        if unicodedata.normalize("NFC", text.stem) not in stems and text.stem != "classes":
            ledger.add(text, text.stem, "missing-image", "labels without an image")
