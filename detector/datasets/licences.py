"""The licence that a data set names, for the weights that learn from it."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from detector.datasets.formats.recognise import coco_file, detect_format
from detector.errors import DetectorError
from detector.files import read_regular

_FILES = re.compile(r"(LICEN[CS]E|COPYING)(\.(txt|md|rst))?", re.IGNORECASE)
# Characters; a file's first line is its title.
_MAX_LENGTH = 120


def licence_of(path: Path, split: str | None = None) -> str:
    """Read the first line of the LICENSE beside the data, or the names of COCO's `licenses`; empty
    where they say nothing.
    """
    folder = path if path.is_dir() else path.parent
    with suppress(OSError):
        for file in sorted(folder.iterdir()):
            if _FILES.fullmatch(file.name):
                text = read_regular(file, 10_000).decode("utf-8", "replace")
                for line in text.splitlines():
                    if line.strip("#= -\t"):
                        return line.strip("#= -\t")[:_MAX_LENGTH]
    with suppress(DetectorError, OSError):
        detected = detect_format(path)
        if detected.format == "coco":
            return _of_coco(coco_file(detected, split))
    return ""


def _of_coco(path: Path) -> str:
    try:
        content: Any = json.loads(read_regular(path))
        names = [licence.get("name") for licence in content.get("licenses") or []]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return ""
    said = dict.fromkeys(name for name in names if isinstance(name, str) and name.strip())
    return ", ".join(said)[:_MAX_LENGTH]
