"""Test crops of an image for classification (arXiv 1409.4842, section 7).

1 crop    the centre of the image whose shorter side was made 256
10 crops  four corners and the centre of its central square, and their mirrors (AlexNet's)
144       shorter side 256, 288, 320, 352; of each the left, centre and right square (or top,
          centre, bottom); of each square four corners, the centre, and the square itself made 224;
          mirrors: 4 x 3 x 6 x 2

For an input of another side S, all lengths are S / 224 of these.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from detector.structures import FILL_MEAN, Array

Crops = Literal[1, 10, 144]
CROPS: tuple[int, ...] = get_args(Crops)
SHORT_SIDES = (256, 288, 320, 352)
_INPUT = 224
# Times its shorter side: a line of 1 x 60,000 pixels would fill the memory, and is squeezed.
LONGEST = 100


def views(image: Array, crops: int, size: int, short_side: int = SHORT_SIDES[0]) -> Array:
    """Centred crops (crops, 3, size, size) float32 of an image (H, W, 3) uint8.

    short_side  of the image before its 1 or 10 crops are taken, for an input of 224
    """
    pixels = np.stack(list(_PLANS[crops](image, size, short_side)))
    if crops > 1:
        pixels = np.concatenate([pixels, pixels[:, :, ::-1]])  # mirrors
    centred = pixels.astype(np.float32) / 255 - np.array(FILL_MEAN, np.float32)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2))


def _one(image: Array, size: int, short_side: int) -> Iterator[Array]:
    yield _central(_with_short_side(image, _scaled(short_side, size)), size)


def _five(image: Array, size: int, short_side: int) -> Iterator[Array]:
    small = _with_short_side(image, _scaled(short_side, size))
    yield from _corners_and_centre(_squares(small)[1], size)


def _seventy_two(image: Array, size: int, _short_side: int) -> Iterator[Array]:
    for short_side in SHORT_SIDES:
        for square in _squares(_with_short_side(image, _scaled(short_side, size))):
            yield from _corners_and_centre(square, size)
            yield _resized(square, size, size)


_PLANS = {1: _one, 10: _five, 144: _seventy_two}


def _scaled(side: int, size: int) -> int:
    return max(size, round(side * size / _INPUT))  # a crop must fit in


def _squares(image: Array) -> tuple[Array, Array, Array]:
    height, width = image.shape[:2]
    side = min(height, width)
    middle_y, middle_x = (height - side) // 2, (width - side) // 2
    starts = ((0, 0), (middle_y, middle_x), (height - side, width - side))
    first, centre, last = (image[y : y + side, x : x + side] for y, x in starts)
    return first, centre, last


def _corners_and_centre(square: Array, size: int) -> Iterator[Array]:
    far = len(square) - size
    for y, x in ((0, 0), (0, far), (far, 0), (far, far)):
        yield square[y : y + size, x : x + size]
    yield _central(square, size)


def _central(image: Array, size: int) -> Array:
    y, x = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[y : y + size, x : x + size]


def _with_short_side(image: Array, side: int) -> Array:
    height, width = image.shape[:2]
    scale = side / min(height, width)
    height, width = (min(max(side, round(one * scale)), LONGEST * side) for one in (height, width))
    return _resized(image, height, width)


def _resized(image: Array, height: int, width: int) -> Array:
    import cv2

    if image.shape[:2] == (height, width):
        return image
    # Area averaging avoids aliasing; it is blocky where an image grows.
    shrinks = height < image.shape[0]
    return cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
