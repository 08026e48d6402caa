"""Opening somebody's annotation file: regular files only, and not more of it than makes sense."""

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from detector.errors import AnnotationError

MAX_TEXT_BYTES = 16_000_000


def read_limited(path: Path, max_bytes: int) -> bytes:
    """Read an annotation file. Raises AnnotationError for one that is missing or over the limit.

    A pipe or a device, which might never end, is not opened.
    """
    try:
        if os.path.lexists(path) and not path.is_file():
            raise AnnotationError(f"{path}: not a regular file", "not-a-file")
        size = path.stat().st_size
        if size > max_bytes:
            raise AnnotationError(
                f"{path}: {size / 1e6:,.1f} MB is over the limit of {max_bytes / 1e6:,.1f} MB",
                "too-large",
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: {error.strerror}", "missing-annotation") from error
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the name
        raise AnnotationError(f"{str(path)!r}: not a possible file name") from error


def decoded(data: bytes, path: Path) -> str:
    """Decode UTF-8 text; anything else is an AnnotationError."""
    try:
        text = data.decode("utf-8-sig")  # Windows programs put a byte-order mark first
    except UnicodeDecodeError as error:
        why = f"{path}: byte {error.start} is not UTF-8; save it as UTF-8"
        raise AnnotationError(why, "not-utf8") from None
    # Latin letters in UTF-16 pass as UTF-8, with zeros between them.
    if "\0" in text:
        raise AnnotationError(f"{path}: holds zero bytes; save it as UTF-8", "not-utf8")
    return text


def read_text(path: Path) -> str:
    """Read a text file of labels or names."""
    return decoded(read_limited(path, MAX_TEXT_BYTES), path)


def listed_name(
    line: str, find: Callable[[str], str | None], numbers: Collection[int] | None = (-1, 0, 1)
) -> tuple[str, int | None]:
    """Read a line of an image list: a name, and the number after it, if it has one.

    find     what exists of that name, such as `ImageNames.find`, whose answer is returned
    numbers  those that may stand after a name: VOC's `NAME 1`, `NAME -1`; None for any number

    The whole line is a name where that exists; only where it does not is a number taken off. A name
    of nothing is returned as it is written.
    """
    line = line.rstrip("\r\n")  # blanks may belong to the name
    if (existing := find(line)) is not None:
        return existing, None
    match = re.fullmatch(r"\s*(.*\S)\s+(-?[0-9]{1,18})\s*", line)
    if match and (numbers is None or int(match[2]) in numbers):
        return find(match[1]) or match[1], int(match[2])
    return line.strip(), None
