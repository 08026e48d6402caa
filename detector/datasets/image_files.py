"""The image files of a data set: which exist, where they lie, and how large they really are."""

from __future__ import annotations

import os
import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath

from detector.datasets.dataset import Ledger
from detector.images.claims import has_late_metadata
from detector.images.decoding import SUFFIXES as READABLE

_COMMON = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
SUFFIXES = (*_COMMON, *sorted(READABLE - set(_COMMON)))
"""Of all files that the decoder takes, the commoner first."""
_ORIENTATION = 0x0112


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file: no folder, pipe or device, and a name that can exist."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, forbidden characters, no permission
        return False


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder, and a name that can exist."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_inside(name: str) -> bool:
    """Whether a file name from somebody's annotations stays below the folder it is joined to."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    absolute = posix.is_absolute() or bool(windows.drive or windows.root)
    return bool(name) and "\0" not in name and not absolute and ".." not in windows.parts


def absence(path: Path) -> str:
    """The linter's name for a path at which there is no regular file."""
    return "not-a-file" if os.path.lexists(path) else "missing-image"


def upright_size(path: Path) -> tuple[int, int] | None:
    """(H, W) from an image's header, as seen upright; None where it cannot be read."""
    header = _header(path)
    if header is None:
        return None
    (height, width), orientation = header
    return (width, height) if orientation >= 5 else (height, width)


def is_turned(path: Path) -> bool:
    """Whether EXIF turns or mirrors the image, so that its raw and upright frames differ."""
    header = _header(path)
    return header is not None and header[1] != 1


def is_deep(path: Path) -> bool:
    """Whether the file has more than 8 bits a value; JPEGs, which have not, are not opened."""
    from PIL import Image

    from detector.images import levels

    if path.suffix.lower() in (".jpg", ".jpeg"):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return levels.is_deep(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _header(path: Path) -> tuple[tuple[int, int], int] | None:
    """(H, W) of the raw frame, and the EXIF orientation 1..8 by which it is seen upright."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size: the decoder has its own limit
            with Image.open(path) as image:
                width, height = image.size
                # A PNG would load its pixels to look for EXIF data behind them.
                late = image.format != "PNG" or has_late_metadata(path)
                exif = image.getexif() if late else Image.Image.getexif(image)
                orientation = exif.get(_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    return (height, width), orientation if orientation in range(2, 9) else 1


def has_true_size(
    file: str | Path,
    identifier: str,
    path: Path,
    declared: tuple[int, int] | None,
    ledger: Ledger,
) -> bool:
    """Whether the annotation file and the image agree on its size; if not, that is written down.

    An unreadable image passes: what becomes of it is decided where images are decoded.
    """
    header = _header(path)
    if declared is None or header is None:
        return True
    raw, orientation = header
    turned = orientation >= 5
    true = (raw[1], raw[0]) if turned else raw
    if true == declared:
        return True
    said, is_ = f"{declared[1]}x{declared[0]}", f"{true[1]}x{true[0]}"
    rule = "raw-frame" if turned and declared == raw else "wrong-size"
    ledger.drop(file, identifier, rule, f"is said to be {said} pixels, but is {is_}")
    return False
