"""A warning for deep images (over 8 bits a value) that use few levels after conversion to 8 bits.

Cameras of 10, 12 and 14 bits and thermal sensors fill a small part of 65,536 levels. Divided by 257
as the format implies, such an image is nearly uniform grey, and nothing is detected in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[Any]

# Warn below this many of 256 levels, which is the full range of 14 bits.
FEW_LEVELS = 64
# Beginning of the remark on levels.
REMARK = "it has more than 8 bits a value"
# Share of the values at either end that is ignored: dead pixels and reflections.
_RARE = 0.005
# Rows sampled for lost values, and values counted at a time: the intermediate values of a whole
# image would take gigabytes.
_ROWS, _PIECE = 64, 1 << 16


def is_deep(image: Image) -> bool:
    """True for more than 8 bits a value.

    Call it before the pixels are loaded: Pillow then reduces colours to 8 bits.
    """
    # The raw modes of Pillow's decoders tell the depth: ";16B" and the like are 16 bits a value.
    return image.mode.startswith(("I", "F")) or any(
        ";16" in str(part) for part in getattr(image, "tile", ())
    )


def remark_on_levels(pixels: Array, image: Image) -> str | None:
    """Warn where the conversion of a deep image to `pixels` (H, W, 3) uint8 lost its levels."""
    flat = pixels.reshape(-1)
    pieces = (flat[first : first + _PIECE] for first in range(0, len(flat), _PIECE))
    levels = sum((np.bincount(piece, minlength=256) for piece in pieces), np.zeros(256, np.int64))
    reached = np.cumsum(levels) / levels.sum()
    low, high = (int(np.searchsorted(reached, share)) for share in (_RARE, 1 - _RARE))
    if high - low + 1 >= FEW_LEVELS or not _lost_levels(levels, pixels, image):
        return None
    used = int(np.count_nonzero(levels[low : high + 1]))
    return (
        f"{REMARK} and fills {used} of 256 levels after conversion;"
        " stretch it to 8 bits first: (value - lowest) / (highest - lowest) * 255"
    )


def _lost_levels(levels: Array, pixels: Array, image: Image) -> bool:
    """True where the file has more distinct values than `pixels`, and more than two."""
    if not image.mode.startswith(("I", "F")):  # colours: Pillow kept 8 bits of them
        return int(np.count_nonzero(levels)) > 2
    rows = sorted({row * image.height // _ROWS for row in range(_ROWS)})
    theirs = [np.asarray(image.crop((0, row, image.width, row + 1))) for row in rows]
    return len(np.unique(np.concatenate(theirs))) > len(np.unique(pixels[rows, :, 0]))
