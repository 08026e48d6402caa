"""The image files of a data set: which exist, where they lie, and how large they really are."""

import os
import re
import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from detector.images.decoding import SUFFIXES as READABLE
from detector.images.decoding_limits import has_late_metadata

_COMMON = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
# Of all files that the decoder takes, the commoner first: of x.jpg and x.png the first is read.
SUFFIXES = (*_COMMON, *sorted(READABLE - set(_COMMON)))
DRIVE = re.compile(r"[A-Za-z]:(?=/)")
_ORIENTATION = 0x0112


def is_inside(name: str) -> bool:
    """True where a name from somebody's annotations stays below the folder it is joined to."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    absolute = posix.is_absolute() or bool(windows.drive or windows.root)
    # Windows' parts are those between / as well as \.
    return bool(name) and "\0" not in name and not absolute and ".." not in windows.parts


def path_inside(root: str | Path, name: str) -> str | None:
    """Find a name from somebody's annotations below `root`, with `/` between folders; None where it
    leads out.

    An absolute name is one inside where it begins with the root. Programs on Windows write `\\`
    for `/`, which is read so unless a file is called that.
    """
    if not name or "\0" in name:
        return None
    root = Path(os.path.abspath(root))
    if "\\" in name and not os.path.lexists(root / name):
        name = name.replace("\\", "/")
    if DRIVE.match(name):
        return None
    path = os.path.normpath(root / name)
    for home in (str(root), os.path.realpath(root)):
        if path.startswith(home.rstrip("/") + "/"):
            return Path(path).relative_to(home).as_posix()
    return None


def without_extension(name: str) -> str:
    """Take the extension of an image, whatever its capitals, off a name or path."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def absence(path: Path) -> str:
    """The linter's name for a path at which there is no regular file."""
    return "not-a-file" if os.path.lexists(path) else "missing-image"


class Frame(NamedTuple):
    """An image's header: (H, W) of the raw frame, and the EXIF orientation 1..8 that turns it."""

    raw: tuple[int, int]
    orientation: int

    @property
    def is_quarter_turned(self) -> bool:
        return self.orientation >= 5

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) as seen upright."""
        return self.raw[::-1] if self.is_quarter_turned else self.raw


def upright_size(path: Path) -> tuple[int, int] | None:
    """Read (H, W) as seen upright from an image's header; None where it cannot be read."""
    frame = frame_of(path)
    return None if frame is None else frame.size


def is_turned(path: Path) -> bool:
    """True where EXIF turns or mirrors the image, so that its raw and upright frames differ."""
    frame = frame_of(path)
    return frame is not None and frame.orientation != 1


def is_deep(path: Path) -> bool:
    """True of more than 8 bits a value; JPEGs, which have not, are not opened."""
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


def frame_of(path: Path) -> Frame | None:
    """Read an image's header; None where it cannot be read."""
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
    return Frame((height, width), orientation if orientation in range(2, 9) else 1)
