"""Annotations of formats that are not read here: which program's they are, and what to export."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_LOOKED_AT, _BYTES = 20, 65_536
_TABLE = "a table (CSV): convert it to COCO's JSON"
_CURES = (
    (rb'"shapes"[\s\S]*"imagePath"|"imagePath"[\s\S]*"shapes"',
     "LabelMe's JSON: convert it to COCO by labelme's own labelme2coco.py"),
    (rb'"_via_|"shape_attributes"', "VIA's JSON: export it as COCO"),
    (rb'"assets"[\s\S]*"(asset|tags|version)"', "VoTT's own JSON: export it as Pascal VOC"),
    (rb'"coordinates"[\s\S]*"width"', "CreateML's JSON: export it as COCO"),
    (rb'"items"[\s\S]*"annotations"|"infos"[\s\S]*"categories"',
     "Datumaro's own JSON: export it as COCO or Pascal VOC"),
    (rb'"(from_name|rectanglelabels)"', "Label Studio's own JSON: export it as COCO"),
    (rb"<annotations>[\s\S]*<(image|track|meta)\b",
     "CVAT's own XML: export it as COCO 1.0 or PASCAL VOC 1.1"),
    (rb"(?i)^[^\n]*\b(xmin|x1|x_min|bbox|left|region_shape_attributes)\b[^\n]*[,;\t]|"
     rb"(?i:^[^\n]+\.(jpe?g|png|bmp|webp)[,;\t][-\d.,;\t ]+)",
     _TABLE),
)  # fmt: skip


def cure_of(data: bytes) -> str | None:
    """Tell a file by its beginning, and what to export in its place; None where it is unknown.

    A table is told by its first line.
    """
    # Without zeros, UTF-16 reads as plain text.
    data = data[:_BYTES].replace(b"\0", b"")
    return next((cure for pattern, cure in _CURES if re.search(pattern, data)), None)


def cure_in(folder: Path) -> str | None:
    """The cure for the first annotation files of a folder and of the folders in it."""
    for path in islice(_files_in(folder), _LOOKED_AT):
        with path.open("rb") as file:
            cure = cure_of(file.read(_BYTES))
        if cure is None and path.suffix == ".csv":
            cure = _TABLE
        if cure is not None:
            return f"{path.relative_to(folder)} is {cure}"
    return None


def _files_in(folder: Path) -> Iterator[Path]:
    for pattern in ("*.json", "*.xml", "*.csv", "*/*.json", "*/*.xml", "*/*.csv"):
        paths = (path for path in folder.glob(pattern) if path.name[0] != ".")
        yield from (path for path in islice(paths, 5) if os.path.isfile(path))
