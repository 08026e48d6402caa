"""The entries of COCO's instances JSON, as the many programs that write it leave them."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from detector.datasets.dataset import Ledger
from detector.datasets.formats.coco_boxes import is_number
from detector.datasets.formats.entries import Entry
from detector.datasets.formats.names import class_name, fault_of_class, is_unicode
from detector.datasets.image_files import absence, path_inside
from detector.datasets.image_names import ImageNames, as_id
from detector.datasets.other_formats import cure_of
from detector.errors import AmbiguousName, AnnotationError, DatasetError

PARTS = ("images", "annotations", "categories")


class LeftOut(NamedTuple):
    """The `fault` of a labelling tool's shape that is no object here; no JSON file can hold one."""

    rule: str
    why: str


class Categories(NamedTuple):
    """Ids and names in the order of the ids, which is the order of the labels."""

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def labels(self) -> dict[str, int]:
        """Category id as text -> label."""
        return {str(number): label for label, number in enumerate(self.ids)}


def parts_of(content: Any, path: Path) -> dict[str, list[Any]]:
    """The three lists. LIVECell and some converters write mappings by id in their place."""
    parts = {}
    for part in PARTS:
        value = content.get(part) if isinstance(content, dict) else None
        if (
            isinstance(value, dict)
            and value
            and all(isinstance(entry, dict) for entry in value.values())
        ):
            value = [{"id": key, **entry} for key, entry in value.items()]
        if not isinstance(value, list):
            cure = cure_of(json.dumps(content).encode()) if part == PARTS[0] else None
            said = f"is {cure}" if cure else "expected COCO's instances layout"
            raise AnnotationError(f"{path}: has no list {part!r}; {said}")
        parts[part] = value
    return parts


def key_of(entry: Any, name: str) -> str | None:
    """An id as text, be it written as a whole number or as text; None where there is none."""
    return (as_id(entry.get(name)) or None) if isinstance(entry, dict) else None


def categories_of(
    path: Path, entries: list[Any], annotations: list[Any], ledger: Ledger | None = None
) -> Categories:
    """Read the classes. A category that is the supercategory of another one and has no annotation
    is no class but a group, which Roboflow puts in front of the classes, even under the name of
    one.

    ledger  takes each fault; without it the first one is an AnnotationError
    """

    def refuse(where: str, rule: str, why: str) -> None:
        if ledger is None:
            raise AnnotationError(f"{path}: {where}: {why}", rule)
        ledger.add(path, where, rule, why)

    names: dict[int, str] = {}
    parents: dict[int, object] = {}
    for position, entry in enumerate(entries):
        key, where = key_of(entry, "id"), f"categories[{position}]"
        name = entry.get("name") if isinstance(entry, dict) else None
        if key is None or not _is_whole_text(key) or not isinstance(name, str):
            refuse(where, "missing-field", f"{where} needs a whole id and a name")
        elif fault := fault_of_class(class_name(name)):
            refuse(where, *fault)
        elif (number := int(key)) in names:
            refuse(where, "duplicate-class", f"id {number} was there before; give each its own")
        else:
            names[number], parents[number] = class_name(name), entry.get("supercategory")
    for group in _groups(names, parents, annotations):
        del names[group]
    for name, times in Counter(names.values()).items():
        if times > 1:
            same = sorted(number for number in names if names[number] == name)
            why = f"ids {', '.join(map(str, same))} are all called {name!r}; rename or join them"
            refuse("categories", "duplicate-class", why)
            for number in same[1:]:
                del names[number]
    if not names:
        refuse("categories", "missing-field", "has no categories")
    ids = sorted(names)
    return Categories(tuple(ids), tuple(names[number] for number in ids))


# The ids that stand for no class (Roboflow's groups); never all of them.
def _groups(
    names: Mapping[int, str], parents: Mapping[int, object], annotations: Iterable[Any]
) -> set[int]:
    above = {
        number
        for number, name in names.items()
        if any(parent == name for other, parent in parents.items() if other != number)
    }
    if above:
        used = {key_of(entry, "category_id") for entry in annotations}
        above = {number for number in above if str(number) not in used}
    # Of two that are each other's supercategory, the later is the class.
    for number in sorted(above, reverse=True):
        if not any(parents[other] == names[number] for other in names.keys() - above):
            above.discard(number)
    return above


def shift_of(annotations: Iterable[Any], categories: Iterable[Any]) -> str | None:
    """Explain that all category ids are one too low or too high, or None.

    A part of them is that of another class then, so that no label can be believed.
    """
    used = {key for entry in annotations if (key := key_of(entry, "category_id")) is not None}
    ids = {key for entry in categories if (key := key_of(entry, "id")) is not None}
    if not used or used <= ids or not all(map(_is_whole_text, used)):
        return None
    whole = {int(number) for number in used}
    for step, said in ((1, "low"), (-1, "high")):
        if {str(number + step) for number in whole} <= ids:
            return f"every category_id is one too {said}: {min(whole)} to {max(whole)}"
    return None


def _is_whole_text(key: str | None) -> bool:
    # Python refuses to convert thousands of digits.
    return key is not None and len(key) < 20 and key.removeprefix("-").isdecimal()


class Folder:
    """The folder of the images; what lies below it is listed once, when a name asks for it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def names(self) -> ImageNames:
        return ImageNames.in_folder(self.root)

    def file_of(self, name: str) -> tuple[Path | None, str, str]:
        """The regular file that a name means, or None with a rule and why.

        A name that leads out of the folder is not followed: what it ends with is looked for in it.
        """
        inside = path_inside(self.root, name)
        if inside is not None and os.path.isfile(self.root / inside):
            return self.root / inside, "", ""
        try:
            path = self.names.find(name) if "\0" not in name else None
        except AmbiguousName as error:
            return None, "ambiguous-name", str(error)
        if path is not None and os.path.isfile(self.root / path):
            return self.root / path, "", ""
        if inside is None:
            return None, "unsafe-path", f"{name!r} leads out of the image folder"
        return None, absence(self.root / inside), f"no file {name!r} in {self.root.name}"


def images_of(
    file: Path, rows: list[Any], folder: Folder, ledger: Ledger
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Find the images that are there, by id; and the ids that only name another id's image."""
    named: dict[str | None, set[str | None]] = {}
    for row in rows:
        named.setdefault(key_of(row, "id"), set()).add(name_of(row))
    images: dict[str, Entry] = {}
    first: dict[Path, str] = {}
    same: dict[str, str] = {}
    for position, row in enumerate(rows):
        image_id, name, source = key_of(row, "id"), name_of(row), source_of(row, file)
        if image_id is None or name is None:
            where = image_id or f"images[{position}]"
            ledger.add(source, where, "missing-field", "an image needs an id and a file_name")
        elif not is_unicode(image_id + name):
            ledger.add(source, image_id, "unusable-name", f"{name!r} holds half a character")
        elif len(named[image_id]) > 1:
            why = f"{len(named[image_id])} images have this id"
            ledger.add(source, image_id, "duplicate-id", why)
        elif image_id in images or image_id in same:
            ledger.add(source, image_id, "duplicate-image", f"{name!r} was there before")
        else:
            path, rule, why = folder.file_of(name)
            if path is None:
                ledger.add(source, image_id, rule, why)
            elif path in first:
                ledger.add(source, image_id, "duplicate-image", f"{name!r} was there before")
                same[image_id] = first[path]  # its objects are the other's
            else:
                first[path] = image_id
                images[image_id] = Entry(image_id, path, ledger.shown(source), ledger, size_of(row))
    return images, same


class Owners:
    """Images of annotations by their image_id: text or a number, or a file name."""

    def __init__(self, entries: list[Any], same: Mapping[str, str]) -> None:
        self._names = {key: name_of(e) or "" for e in entries if (key := key_of(e, "id"))}
        self._same = same

    @cached_property
    def _images(self) -> ImageNames:
        return ImageNames(self._names)

    def of(self, entry: Any) -> tuple[str | None, str, str]:
        """The id of its image, or None with a rule and why."""
        key = key_of(entry, "image_id")
        if key is None:
            return None, "missing-field", "needs an image_id"
        if key not in self._names:
            try:
                image = self._images.find_id(key)
            except AmbiguousName as error:
                return None, "ambiguous-name", str(error)
            if image is None:
                return None, "unknown-image-id", f"there is no image {key}"
            key = image
        return self._same.get(key, key), "", ""


def folder_of(path: Path, entries: list[Any]) -> Folder:
    """The folder in which most of the first images lie: that of the file, or one of the usual ones
    below it and one step up.
    """
    split = path.stem.rpartition("_")[2]
    home = path if path.is_dir() else path.parent
    tried = [home, home / split, home / "images" / split, home / "images"]
    tried += [home.parent / split, home.parent / "images" / split, home.parent / "images"]
    tried += [home.parent]
    folders = [Folder(candidate) for candidate in dict.fromkeys(tried) if os.path.isdir(candidate)]
    names = [name for e in entries[:200] if (name := name_of(e)) is not None and is_unicode(name)]
    # A looser match counts only where no folder has a closer one.
    for there in (_lies_in, _is_found_in, _may_be_in):
        scores = [sum(there(folder, name) for name in names) for folder in folders]
        if any(scores):
            return folders[scores.index(max(scores))]
    looked = ", ".join(str(folder) for folder in tried)
    example = f" (such as {names[0][:80]!r})" if names else ""
    raise DatasetError(
        f"{path}: none of its first images{example} is in {looked}; put them beside it"
    )


def _lies_in(folder: Folder, name: str) -> bool:
    inside = path_inside(folder.root, name)
    return inside is not None and os.path.isfile(folder.root / inside)


def _is_found_in(folder: Folder, name: str) -> bool:
    return folder.file_of(name)[0] is not None


def _may_be_in(folder: Folder, name: str) -> bool:
    return folder.file_of(name)[1] == "ambiguous-name"  # which is then said of the image


def name_of(entry: Any) -> str | None:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def source_of(entry: Any, file: Path) -> Path:
    """The file that names an image: `source`, where a tool writes one file an image."""
    source = entry.get("source") if isinstance(entry, dict) else None
    return source if isinstance(source, Path) else file


def size_of(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W), or None where the file does not say."""
    sides = entry.get("height"), entry.get("width")
    if not all(is_number(side) and 1 <= side < 1e9 and side == int(side) for side in sides):
        return None
    return int(sides[0]), int(sides[1])  # type: ignore[arg-type]


def is_crowd(entry: Mapping[str, Any]) -> bool:
    return _is_set(entry.get("iscrowd"))


def is_ignored(entry: Mapping[str, Any]) -> bool:
    """True of an object that is to be neither found nor background."""
    # MMDetection and the converters of CrowdHuman and VisDrone write `ignore`, VOC's `difficult`.
    return any(_is_set(entry.get(name)) for name in ("ignore", "difficult"))


def _is_set(value: Any) -> bool:
    return value in (1, True) or (isinstance(value, str) and value.strip().lower() in ("1", "true"))
