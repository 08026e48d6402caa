"""Reading LabelMe's JSON: one file a picture, which names its image relative to itself.

    {"shapes": [{"label", "points": [[x, y], ...], "shape_type", "flags"}], "imagePath",
     "imageHeight", "imageWidth"}

Folders called train, val or test at the top are splits. An embedded `imageData` is not read.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from detector.datasets.dataset import Ledger
from detector.datasets.formats.coco import read_json
from detector.datasets.formats.label_tools import Picture, Shape, ToolFile, box_around, other_shape
from detector.datasets.formats.voc_files import is_split
from detector.errors import AnnotationError

# `rotation` is X-AnyLabeling's turned rectangle.
_WITH_A_BOX = ("rectangle", "polygon", "oriented_rectangle", "rotation", "mask")


def read_labelme(path: Path, ledger: Ledger) -> ToolFile:
    """Read a file, or all of a folder; one that cannot be read is recorded and left out."""
    root = path if path.is_dir() else path.parent
    splits = splits_of(path)
    pictures = []
    for file in files_in(path):
        split = file.relative_to(root).parts[0] if splits else ""
        try:
            pictures.append(_picture_of(file, root, split))
        except AnnotationError as error:
            ledger.refuse(file, file.stem, error)
    return ToolFile(pictures)


def files_in(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(_json_below(path))


def splits_of(path: Path) -> list[str]:
    """Name the folders that are splits: all files lie in such ones, or there are none."""
    if path.is_file():
        return []
    parts = {file.relative_to(path).parts[0] for file in files_in(path)}
    return sorted(parts) if all(is_split(part) for part in parts) else []


def _json_below(root: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name[0] != "."]
        yield from (Path(here, name) for name in names
                    if name[0] != "." and name.lower().endswith(".json"))  # fmt: skip


def _picture_of(file: Path, root: Path, split: str) -> Picture:
    content = read_json(file)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    name = content.get("imagePath") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not isinstance(name, str):
        raise AnnotationError(f"{file}: no LabelMe JSON: needs a list 'shapes' and 'imagePath'")
    folder = file.parent.relative_to(root).as_posix()
    if folder != "." and not (name.startswith("/") or PureWindowsPath(name).is_absolute()):
        name = f"{folder}/{name}"
    size = {"height": content.get("imageHeight"), "width": content.get("imageWidth")}
    return Picture(file, name, size, [_shape_of(row) for row in shapes], split)


def _shape_of(row: Any) -> Shape:
    if not isinstance(row, dict):
        return Shape(None)
    kind = row.get("shape_type", "polygon")  # which early versions do not write
    fault = None if kind in _WITH_A_BOX else other_shape(str(kind))
    points = row.get("points")
    if kind == "mask" and (box := box_around(points)) is not None:
        x, y, width, height = box  # from its first pixel to its last
        points = [[x, y], [x + width + 1, y + height + 1]]
    flags = row.get("flags")
    # LabelMe's users tick a flag, X-AnyLabeling has a field.
    attributes = {**row, **flags} if isinstance(flags, dict) else row
    return Shape(row.get("label"), points, attributes, fault)
