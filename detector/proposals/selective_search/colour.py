"""The eight colour spaces of selective search (section 3.2) as planes of bytes.

Everything is integer or single-operation float32 arithmetic, so that the compiled version in
numba/ gives the same bytes whatever the compiler does. This is the readable reference.

A hue is an angle: one byte is 1/256 of a turn, differences wrap around, and a weighted mean is the
centre plus the weighted mean of the differences to it.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np

from detector.structures import Array

ColourName = Literal["RGB", "I", "Lab", "rgI", "HSV", "rgb", "C", "H"]
COLOURS: tuple[ColourName, ...] = get_args(ColourName)


class Space(NamedTuple):
    """Number of planes of a colour space; `hue` marks the first one as an angle."""

    planes: int
    hue: bool = False


SPACES: dict[str, Space] = {
    "RGB": Space(3),
    "I": Space(1),
    "Lab": Space(3),
    "rgI": Space(3),
    "HSV": Space(3, hue=True),
    "rgb": Space(3),
    "C": Space(2),
    "H": Space(1, hue=True),
}

# One in the fixed-point tables of the Lab conversion: small enough that no product exceeds int32.
_UNIT = 1 << 14


def _srgb_to_linear() -> Array:
    """Linear light of each byte: (256,) int32, white is `_UNIT - 1` (IEC 61966-2-1)."""
    v = np.arange(256) / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return np.rint(linear * (_UNIT - 1)).astype(np.int32)


def _lab_curve() -> Array:
    """CIE f(t), a cube root with a linear foot: (_UNIT,) int32, where `_UNIT` is 1."""
    t = np.arange(_UNIT) / (_UNIT - 1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.rint(f * _UNIT).astype(np.int32)


def _xyz_matrix() -> Array:
    """sRGB's primaries over the D65 white point: (3, 3) int32, every row sums to 4096."""
    primaries = np.array(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    rows: Array = np.rint(primaries / primaries.sum(1, keepdims=True) * 4096).astype(np.int32)
    # With rows of exactly one, X = Y = Z for every grey, so that its a and b are 0.
    rows[:, 1] += 4096 - rows.sum(1)
    return rows


LINEAR, CURVE, XYZ = _srgb_to_linear(), _lab_curve(), _xyz_matrix()


def planes(image: Array, colour: str) -> Array:
    """Convert (H, W, 3) uint8 RGB to planes (C, H, W) uint8 that span 0..255.

    Raises ValueError for an unknown colour space.
    """
    r, g, b = (image[:, :, i].astype(np.int32) for i in range(3))
    match colour:
        case "RGB":
            channels = [r, g, b]
        case "I":
            channels = [_intensity(r, g, b)]
        case "Lab":
            channels = _lab(r, g, b)
        case "rgI":
            channels = [_share(r, r + g + b), _share(g, r + g + b), _intensity(r, g, b)]
        case "HSV":
            channels = [_hue(r, g, b), _saturation(r, g, b), np.maximum(np.maximum(r, g), b)]
        case "rgb":
            channels = [_share(channel, r + g + b) for channel in (r, g, b)]
        case "C":
            channels = _opponent(r, g, b)
        case "H":
            channels = [_hue(r, g, b)]
        case _:
            raise ValueError(f"colour space {colour!r} is none of {', '.join(COLOURS)}")
    return np.stack(channels).astype(np.uint8)


def _intensity(r: Array, g: Array, b: Array) -> Array:
    # Rec. 601 luma in 1/65536, as MATLAB's rgb2gray.
    return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16


def _rounded_ratio(part: Array, whole: Array, empty: int) -> Array:
    """Round part / whole, in float32, for part >= 0; `empty` where the whole is 0."""
    ratio = part.astype(np.float32) / np.maximum(whole, 1).astype(np.float32)
    return np.where(whole > 0, (ratio + np.float32(0.5)).astype(np.int32), empty)


def _share(channel: Array, total: Array) -> Array:
    return _rounded_ratio(255 * channel, total, 85)  # black counts as grey, a third each


def _saturation(r: Array, g: Array, b: Array) -> Array:
    high, low = np.maximum(np.maximum(r, g), b), np.minimum(np.minimum(r, g), b)
    return _rounded_ratio(255 * (high - low), high, 0)


def _hue(r: Array, g: Array, b: Array) -> Array:
    """Angle on the colour hexagon, 256 to the turn; red and grey are 0."""
    high, low = np.maximum(np.maximum(r, g), b), np.minimum(np.minimum(r, g), b)
    chroma = high - low
    sixths = np.where(
        high == r,
        g - b + 6 * chroma,  # a turn more, since only what is not negative is rounded
        np.where(high == g, b - r + 2 * chroma, r - g + 4 * chroma),
    )
    return _rounded_ratio(256 * sixths, 6 * chroma, 0) & 255  # and without the whole turns


def _opponent(r: Array, g: Array, b: Array) -> list[Array]:
    # Opponent colours over the intensity: (R-G)/sum is in [-1, 1], (R+G-2B)/sum in [-2, 1]. Black
    # gets the bytes of grey, for which both are 0.
    total = r + g + b
    red_green = _rounded_ratio(255 * (total + r - g), 2 * total, 128)
    yellow_blue = _rounded_ratio(255 * (2 * total + r + g - 2 * b), 3 * total, 170)
    return [red_green, yellow_blue]


def _lab(r: Array, g: Array, b: Array) -> list[Array]:
    """CIE L*a*b* of sRGB under D65, in the usual bytes: L * 255 / 100, a + 128, b + 128."""
    linear = LINEAR[r], LINEAR[g], LINEAR[b]
    x, y, z = (
        CURVE[(row[0] * linear[0] + row[1] * linear[1] + row[2] * linear[2]) >> 12] for row in XYZ
    )
    lightness = ((116 * y - 16 * _UNIT) * 255 + 50 * _UNIT) // (100 * _UNIT)
    red_green = 128 + ((500 * (x - y) + _UNIT // 2) >> 14)
    yellow_blue = 128 + ((200 * (y - z) + _UNIT // 2) >> 14)
    return [np.clip(channel, 0, 255) for channel in (lightness, red_green, yellow_blue)]
