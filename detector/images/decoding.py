"""Decoding of image files: upright RGB uint8, or a typed error.

The treatment of each kind of file is fixed (tests hold golden hashes):

    EXIF orientation     applied; the raw size and the orientation are reported
    1-bit, grey, palette expanded to RGB
    LA, PA, RGBA         composited over white
    CMYK, YCbCr, Lab     converted by Pillow, without colour management
    16-bit grey          value / 257, rounded; with a warning where few of 256 levels remain
    32-bit integer       as 16-bit grey if all values fit it, else stretched from its minimum to its
                         maximum
    float                [0, 1] is multiplied by 255, [0, 255] stays, anything else is stretched;
                         NaN counts as 0
    animations, pages    the first frame, with a warning
    checksums, lengths   must be right in a PNG and a WebP; other formats have none

No other formats are opened, so that no file can reach a decoder that starts other programs.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.errors import ImageError
from detector.files import NOT_REGULAR, open_regular
from detector.images.decoding_limits import Claims, claims_of, icon_sizes, tile_pixels
from detector.images.levels import Array, is_deep, remark_on_levels
from detector.images.other_files import START, known_as, may_be_image, refusal

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "ICO", "TGA")
_SUFFIXES = "jpg jpeg jpe jfif mpo png apng gif webp tif tiff bmp dib ppm pgm pbm pnm ico tga"
SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
MAX_BYTES = 64 * 1024 * 1024
MAX_PIXELS = 64_000_000
_ORIENTATION = 0x0112
# Pixels converted at a time: wide intermediate values of a whole image would take gigabytes.
_BAND_PIXELS = 1 << 20
_SILENCE = threading.Lock()
_silent = 0  # number of threads that decode
_silencer: warnings.catch_warnings[None] = warnings.catch_warnings()


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded image and remarks on the decoding.

    pixels       (H, W, 3) uint8 RGB, upright
    raw_size     (H, W) as stored in the file, before the orientation was applied
    orientation  EXIF orientation 1..8 (1 where the file says nothing)
    warnings     remarks for a careful reader of the results
    """

    pixels: Array
    raw_size: tuple[int, int]
    orientation: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Size (H, W) of the upright pixels, the frame of all boxes."""
        return self.pixels.shape[0], self.pixels.shape[1]


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Array:
    """Read an image file: (H, W, 3) uint8 RGB, upright. Raises ImageError."""
    return decode(read_bytes(path), str(path), max_pixels=max_pixels).pixels


def read_bytes(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file of at most `max_bytes`. Raises ImageError, also for pipes and devices."""
    return _read(path, max_bytes + 1, max_bytes)


def check_start(path: str | Path) -> None:
    """Raise ImageError where the first bytes of a file show already that it is no image."""
    start = _read(path, START, MAX_BYTES)
    with _quiet():
        if not may_be_image(start, FORMATS):
            raise ImageError(f"{path}: {refusal(start)}")


def _read(path: str | Path, count: int, max_bytes: int) -> bytes:
    try:
        file = open_regular(path)
    except OSError as error:
        cure = "give an image file" if error.strerror == NOT_REGULAR else "check the path"
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); {cure}") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        try:
            # Of a file that is too large, enough to recognise a film or an archive.
            data = file.read(count if size <= max_bytes else START)
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    if size > max_bytes:
        if known_as(data):  # the advice for a film is not to make it smaller
            raise ImageError(f"{path}: {refusal(data)}")
        raise ImageError(
            f"{path}: {size / 1e6:.0f} MB is over the limit of {max_bytes / 1e6:.0f} MB;"
            " make it smaller first"
        )
    if size == 0:
        raise ImageError(f"{path}: the file is empty")
    return data


def check_pixels(image: object) -> None:
    """Raise ImageError unless `image` is a non-empty (H, W, 3) uint8 array, as of `read_image`."""
    if not isinstance(image, np.ndarray):
        actual = f"a {type(image).__name__}"
    elif image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        actual = f"{image.dtype} {image.shape}"
    else:
        return
    raise ImageError(
        f"an image is a (H, W, 3) uint8 array, RGB, of at least one pixel; this is {actual};"
        " read_image makes one of a file, numpy.asarray(picture.convert('RGB')) of Pillow's"
    )


def content_hash(data: bytes) -> str:
    """SHA-256 of a file's bytes, the key of its proposals in the cache."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode an image in memory. Raises ImageError, which calls it `name`."""
    from PIL import Image, UnidentifiedImageError

    # Silences Pillow's size limit and remarks on odd metadata: ours are stricter and typed.
    with _quiet():
        try:
            for size in icon_sizes(data):  # Pillow decodes an icon as soon as it is opened
                _check_size(*size, name, max_pixels)
            claims = claims_of(data)
            if claims.fault:
                raise ImageError(f"{name}: {claims.fault}")
            with Image.open(io.BytesIO(claims.instead or data), formats=FORMATS) as image:
                _check_size(*image.size, name, max_pixels)
                tile = tile_pixels(getattr(image, "tag_v2", {}))
                if tile > max_pixels:
                    raise ImageError(
                        f"{name}: a tile of {tile / 1e6:.0f} megapixels is over the limit of"
                        f" {max_pixels / 1e6:.0f}; save it with smaller tiles"
                    )
                return _decode_first_frame(image, claims)
        except ImageError:
            raise
        except UnidentifiedImageError:
            raise ImageError(f"{name}: {refusal(data[:START])}") from None
        except Image.DecompressionBombError:
            raise ImageError(
                f"{name}: over the limit of {max_pixels / 1e6:.0f} megapixels"
            ) from None
        except MemoryError:
            raise ImageError(f"{name}: does not fit into memory") from None
        except Exception as error:  # Pillow's decoders raise nearly every type on damaged files
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise ImageError(f"{name}: damaged or truncated image ({reason})") from None


def picture_pixels(picture: Image) -> Array:
    """The pixels of a Pillow picture, by the same rules as those of a file. Raises ImageError."""
    with _quiet():
        try:
            _check_size(*picture.size, "the picture", MAX_PIXELS)
            if 0 in picture.size:
                raise ImageError("the picture has no pixels")
            picture.load()
            pixels = _upright(_rgb_pixels(picture), _orientation(picture)[0])
        except (OSError, SyntaxError, ValueError) as error:  # a file that Pillow had only opened
            reason = " ".join(str(error).split())[:120]
            raise ImageError(f"the picture cannot be loaded ({reason}); open it again") from None
    return np.ascontiguousarray(pixels)


@contextmanager
def _quiet() -> Iterator[None]:
    # Warning filters belong to the process: of the threads that decode, the first replaces them and
    # the last restores them.
    global _silent, _silencer
    with _SILENCE:
        if _silent == 0:
            _silencer = warnings.catch_warnings()
            _silencer.__enter__()
            warnings.simplefilter("ignore")
        _silent += 1
    try:
        yield
    finally:
        with _SILENCE:
            _silent -= 1
            if _silent == 0:
                _silencer.__exit__(None, None, None)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} is over the limit of {max_pixels / 1e6:.0f} megapixels;"
            " make it smaller first"
        )


def _decode_first_frame(image: Image, claims: Claims) -> Decoded:
    remarks, deep = [], is_deep(image)
    # Asking a PNG for EXIF data loads it and hides errors; so its pixels are loaded first. Pillow
    # rotates a TIFF while loading it and then drops the orientation, so that one is read before.
    before_loading = _orientation(image) if image.format == "TIFF" else None
    image.load()
    pixels = _rgb_pixels(image)
    if deep and (levels := remark_on_levels(pixels, image)):
        remarks.append(levels)
    after = _orientation(image)
    orientation, remark = before_loading or after
    if after[0] == orientation:  # else Pillow has rotated a TIFF already
        pixels = _upright(pixels, orientation)
    if claims.several or (image.format == "TIFF" and getattr(image, "is_animated", False)):
        remarks.append("more than one frame or page; only the first was used")
    if claims.later_fault:
        remarks.append("what follows the first frame is damaged")
    if remark:
        remarks.append(remark)
    height, width = pixels.shape[:2]
    raw_size = (width, height) if orientation >= 5 else (height, width)  # 5 to 8 swap the sides
    return Decoded(np.ascontiguousarray(pixels), raw_size, orientation, tuple(remarks))


def _orientation(image: Image) -> tuple[int, str | None]:
    """EXIF orientation, and a remark or None; the pixels must be loaded, except a TIFF's."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        orientation = int(value)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1, "unreadable EXIF data was ignored"
    if not 1 <= orientation <= 8:
        return 1, f"EXIF orientation {orientation} does not exist and was ignored"
    return orientation, None


def _upright(pixels: Array, orientation: int) -> Array:
    """Undo the EXIF orientation: 2 mirror, 3 half turn, 4 flip, 5..8 the same after a
    transposition.
    """
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _rgb_pixels(image: Image) -> Array:
    """Convert to (H, W, 3) uint8 in bands of rows."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    to_rgb = _conversion(image)
    for top, band in _bands(image):
        pixels[top : top + band.height] = to_rgb(band)
    return pixels


def _bands(image: Image) -> Iterator[tuple[int, Image]]:
    """Yield (first row, band of rows) from top to bottom."""
    rows = max(1, _BAND_PIXELS // image.width)
    if image.height <= rows:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _conversion(image: Image) -> Callable[[Image], Array]:
    """Choose the conversion of a band of rows: to (h, W, 3) RGB, or (h, W, 1) grey."""
    if image.mode.startswith(("I", "F")):
        scale, low = _range_to_8_bit(image)
        return lambda band: _to_8_bit(band, scale, low)[:, :, None]
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return lambda band: _over_white(np.asarray(band.convert("RGBA")))
    return lambda band: np.asarray(band.convert("RGB"))


def _finite(band: Image) -> Array:
    values = np.asarray(band).astype(np.float64)
    return np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _range_to_8_bit(image: Image) -> tuple[float, float]:
    """Scale and lowest value of the whole image: 8 bits are (value - lowest) * scale."""
    ends = [(values.min(), values.max()) for values in (_finite(band) for _, band in _bands(image))]
    low, high = float(min(end[0] for end in ends)), float(max(end[1] for end in ends))
    # 257 = 65535 / 255: white stays white.
    known = ((1, 255.0), (255, 1.0)) if image.mode == "F" else ((65535, 1 / 257),)
    for most, scale in known:
        if low >= 0 and high <= most:
            return scale, 0.0
    return 255 / max(high - low, 1e-12), low  # an image of one value becomes black


def _to_8_bit(band: Image, scale: float, low: float) -> Array:
    values = (_finite(band) - low) * scale
    return np.round(values).clip(0, 255).astype(np.uint8)


def _over_white(rgba: Array) -> Array:
    colour, alpha = rgba[:, :, :3].astype(np.uint32), rgba[:, :, 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)  # rounded
