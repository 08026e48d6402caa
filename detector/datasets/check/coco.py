"""Index of COCO's instances files, one JSON file a split, and of labelling tools' files, which are
read as such; with the checks that are COCO's alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from detector.datasets.check.index import Asked, Index, Picture
from detector.datasets.dataset import Ledger
from detector.datasets.formats.coco import CONVENTION, entries_of, read_json, split_of
from detector.datasets.formats.coco_entries import (
    Folder,
    categories_of,
    folder_of,
    is_crowd,
    key_of,
    parts_of,
    shift_of,
)
from detector.datasets.formats.entries import Entry
from detector.datasets.formats.label_tools import Content
from detector.datasets.formats.recognise import (
    Tool,
    contents_in,
    detect_format,
    instances_in,
    tool_in,
)
from detector.errors import AnnotationError, DatasetError

# Limit of levels in one entry; COCO's own have three (a list of polygons of numbers).
_MAX_DEPTH = 8


def index_coco(path: Path, asked: Asked) -> Index:
    """Index the file, or every instances file of the folder."""
    return _index(_instances(path, asked.ledger), asked)


def index_tool(tool: Tool) -> Callable[[Path, Asked], Index]:
    """Make the linter's function for a labelling tool's files."""

    def index(path: Path, asked: Asked) -> Index:
        detected = detect_format(path) if path.is_file() else tool_in(path, tool)
        if detected is None or detected.format != tool:
            raise DatasetError(f"{path}: no file of {tool} in it; name its folder or file")
        contents = contents_in(detected, asked.ledger, asked.classes)
        return _index(((file, part, lists) for part, (file, lists) in contents.items()), asked)

    return index


def _instances(path: Path, ledger: Ledger) -> Iterator[tuple[Path, str, Content]]:
    for file in [path] if path.is_file() else instances_in(path):
        try:
            # instances_val2017 is of val2017
            yield file, split_of(file).rpartition("_")[2], parts_of(read_json(file), file)
        except AnnotationError as error:
            ledger.refuse(file, file.stem, error)


def _index(contents: Iterable[tuple[Path, str, Content]], asked: Asked) -> Index:
    index, ledger = Index(CONVENTION), asked.ledger
    for file, split, content in contents:
        annotations = content["annotations"]
        categories = categories_of(file, content["categories"], annotations, ledger)
        names = categories.names
        if index.classes and names != index.classes:
            first = sorted(set(names) ^ set(index.classes))[:3] or ["another order"]
            why = f"differs from the file before it: {', '.join(first)}"
            ledger.add(file, "categories", "different-classes", why)
            continue
        index.classes = names
        if shift := shift_of(annotations, content["categories"]):
            ledger.add(file, "category_id", "shifted-classes", shift)
        folder = _folder_of(file, content["images"], asked)
        labels = categories.labels()
        # Objects of images that are not there are judged, too, but for their boxes.
        elsewhere = Entry("", file, ledger.shown(file), ledger)
        entries = entries_of(file, content, folder, labels, ledger, asked.has_bytes, elsewhere)
        index.pictures += [Picture(entry, (split,) if split else ()) for entry in entries]
        _judge_ids(annotations, file, ledger)
        for position, row in enumerate(asked.watch(annotations, f"annotations of {file.name}")):
            if isinstance(row, dict):
                _judge_row(row, file, key_of(row, "id") or f"annotations[{position}]", ledger)
    return index


def _folder_of(file: Path, images: list[Any], asked: Asked) -> Folder:
    if asked.images_root is not None:
        return Folder(asked.images_root)
    try:
        return folder_of(file, images)
    except DatasetError:  # each image is then found to be missing
        return Folder(file if file.is_dir() else file.parent)


# One note for all faulty ids: nothing here needs them, but other programs do.
def _judge_ids(rows: Iterable[Any], file: Path, ledger: Ledger) -> None:
    ids = Counter(key_of(row, "id") for row in rows)
    missing, again = ids.pop(None, 0), sum(times - 1 for times in ids.values())
    if missing or again:
        first = next((identifier for identifier, times in ids.items() if times > 1), None)
        example = "" if first is None else f", such as {first}"
        why = f"{missing} annotations have no id, {again} one that was there before{example}"
        ledger.add(file, "annotations", "annotation-ids", why)


def _judge_row(row: dict[str, Any], file: Path, name: str, ledger: Ledger) -> None:
    outline, crowd = row.get("segmentation"), row.get("iscrowd")
    if crowd not in (None, 0, 1, "0", "1"):
        ledger.add(file, name, "crowd", f"iscrowd is {str(crowd)[:50]!r}")
    elif is_crowd(row) and isinstance(outline, list) and outline:
        ledger.add(file, name, "crowd", "iscrowd is 1, but its outline is of polygons")
    if _is_deeper(row, _MAX_DEPTH):
        ledger.add(file, name, "too-deep", f"over {_MAX_DEPTH} levels deep")


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_is_deeper(child, levels - 1) for child in inner if isinstance(child, (dict, list)))
