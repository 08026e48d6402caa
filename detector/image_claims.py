"""What an image file claims of itself beyond its size: looked at before a decoder believes it.

A decoder's work and memory follow these claims, not the pixels that come out: an icon of 16 pixels
may hold a PNG of a hundred megapixels, a TIFF of 16 pixels one tile of as many, and a JPEG of 30
kilobytes thousands of passes over all its coefficients.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

MAX_SCANS = 64
"""Of a progressive JPEG. Encoders write about ten."""
_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PNG = b"\x89PNG\r\n\x1a\n"


def icon_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """(width, height) of the pictures inside an .ico file, by their own headers; none if `data` is
    none.
    """
    if data[:4] != b"\0\0\1\0":
        return
    (count,) = struct.unpack_from("<H", data.ljust(6, b"\0"), 4)
    for entry in range(6, min(6 + 16 * count, len(data) - 15), 16):
        (start,) = struct.unpack_from("<I", data, entry + 12)
        head = data[start : start + 24].ljust(24, b"\0")
        if head.startswith(_PNG):
            yield struct.unpack_from(">II", head, 16)
        elif head[0] == 12:  # the oldest bitmap header; sizes are 16 bits there
            yield struct.unpack_from("<HH", head, 4)
        else:
            width, height = struct.unpack_from("<ii", head, 4)
            yield abs(width), abs(height) // 2  # colours above, transparency below


def tile_pixels(tags: Mapping[int, Any]) -> int:
    """The pixels of one tile of a TIFF, by its tags; 0 where it has none."""
    sides = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    return sides[0] * sides[1] if all(isinstance(side, int) for side in sides) else 0


def scans(data: bytes, most: int = MAX_SCANS) -> int:
    """The passes over a JPEG's coefficients, counted to its end or to one more than `most`.

    Segments are skipped by their lengths, so that thumbnails do not count; nor does what follows
    the picture.
    """
    at, found = 2, 0
    while found <= most and (marker := _MARKER.search(data, at)):
        code, at = marker[1][0], marker.end()
        if code == _END_OF_IMAGE:
            break
        found += code == _START_OF_SCAN
        at += int.from_bytes(data[at : at + 2], "big")
    return found
