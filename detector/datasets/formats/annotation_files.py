"""Opening somebody's annotation file: regular files only, and not more of it than makes sense."""

from __future__ import annotations

import os
from pathlib import Path

from detector.errors import AnnotationError


def read_limited(path: Path, max_bytes: int) -> bytes:
    """The bytes of an annotation file; one that is missing or over the limit is an AnnotationError.

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
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"{path}: byte {error.start} is not UTF-8; save it as UTF-8"
        raise AnnotationError(why, "not-utf8") from None
    if "\0" in text:
        raise AnnotationError(f"{path}: holds zero bytes; save it as UTF-8", "not-utf8")
    return text
