"""Other programs' annotations, told by how a file begins: the labelling tools' that are read, and
for the rest what to export in their place.
"""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from detector.files import open_regular

_LOOKED_AT, _BYTES = 20, 65_536
_PATTERNS = ("*.json", "*.xml", "*.csv", "*/*.json", "*/*.xml", "*/*.csv")
_TABLE = "a table (CSV): convert it to COCO's JSON"
_CURES = (
    (rb'"_via_|"shape_attributes"', "VIA's JSON: export it as COCO"),
    (rb'"assets"[\s\S]*"(asset|tags|version)"', "VoTT's own JSON: export it as Pascal VOC"),
    (rb'"coordinates"[\s\S]*"width"', "CreateML's JSON: export it as COCO"),
    (rb'"items"[\s\S]*"annotations"|"infos"[\s\S]*"categories"',
     "Datumaro's own JSON: export it as COCO or Pascal VOC"),
    (rb"(?i)^[^\n]*\b(xmin|x1|x_min|bbox|left|region_shape_attributes)\b[^\n]*[,;\t]|"
     rb"(?i:^[^\n]+\.(jpe?g|png|bmp|webp)[,;\t][-\d.,;\t ]+)",
     _TABLE),
)  # fmt: skip

# Of one of these alternatives all must occur.
_TOOLS = {
    "labelme": ((rb'"shape_type"',), (rb'"shapes"', rb'"imagePath"')),
    "label-studio": (
        (rb'"(from_name|(rectangle|polygon|brush|ellipse|keypoint)labels)"',),
        (rb'"data"\s*:\s*\{', rb'"(annotations|predictions)"\s*:'),
    ),
    "cvat": ((rb"<annotations>", rb"<(image|track|meta)\b"),),
}


def tool_of(path: Path) -> str | None:
    """Tell by its beginning which labelling tool wrote a file; None where it is another's."""
    try:
        with open_regular(path) as file:
            data = file.read(_BYTES).replace(b"\0", b"")
    except OSError:
        return None
    tools = ["cvat"] if path.suffix.lower() == ".xml" else ["labelme", "label-studio"]
    return next((tool for tool in tools for alternative in _TOOLS[tool]
                 if all(re.search(sign, data) for sign in alternative)), None)  # fmt: skip


def tool_files(folder: Path) -> dict[str, list[Path]]:
    """Find files of labelling tools in a folder and in the folders in it, by tool."""
    files: dict[str, list[Path]] = {}
    for path in _files_in(folder, ("*.json", "*.xml", "*/*.json", "*/*.xml"), _LOOKED_AT):
        if (tool := tool_of(path)) is not None:
            files.setdefault(tool, []).append(path)
    return files


def cure_of(data: bytes) -> str | None:
    """Tell a file by its beginning, and what to export in its place; None where it is unknown.

    A table is told by its first line.
    """
    # Without zeros, UTF-16 reads as plain text.
    data = data[:_BYTES].replace(b"\0", b"")
    return next((cure for pattern, cure in _CURES if re.search(pattern, data)), None)


def cure_in(folder: Path) -> str | None:
    """The cure for the first annotation files of a folder and of the folders in it."""
    for path in islice(_files_in(folder, _PATTERNS, 5), _LOOKED_AT):
        with path.open("rb") as file:
            cure = cure_of(file.read(_BYTES))
        if cure is None and path.suffix == ".csv":
            cure = _TABLE
        if cure is not None:
            return f"{path.relative_to(folder)} is {cure}"
    return None


def _files_in(folder: Path, patterns: Sequence[str], most: int) -> Iterator[Path]:
    for pattern in patterns:
        paths = sorted(path for path in folder.glob(pattern) if path.name[0] != ".")
        yield from (path for path in paths[:most] if os.path.isfile(path))
