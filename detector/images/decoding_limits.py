"""Checks of an image file's structure before it is decoded.

The time and memory of a decoder follow from what the file claims, not from the pixels of the
result: an icon of 16 pixels may hold a PNG of a hundred megapixels, a TIFF of 16 pixels one tile of
as many, and a JPEG of 30 kilobytes thousands of scans over all its coefficients. Pillow also skips
the checksums of a PNG's pixels, and ignores the length in a WebP's header.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.files import open_regular

# Limit of scans in a progressive JPEG; encoders write about ten.
MAX_SCANS = 64
# Matches the last of several 0xFF bytes: `\xff+` would make the search quadratic in a run of them.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# TIFF's tags, here and below.
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
# Limit of pictures in one icon file, each of which may extend to its end.
MAX_ICONS = 64
MAX_STRIPS = 1 << 17
_STRIPS, _TILES = 273, 324
# Limit in bytes for formats that Pillow decodes in Python, at a few megabytes a second.
MAX_SLOW = 16 << 20
_MAX_HEADER = 1 << 16
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])"
_NETPBM = re.compile(rb"P([1-6])%b+(\d{1,10})%b+(\d{1,10})(?:%b+(\d{1,10}))?\s" % ((_GAP,) * 3))
_GIF_FRAME, _GIF_EXTENSION, _GIF_END = b",!;"
_SAVE_IT = "save it as another image"
_WEBP_FRAME = b"ANMF"
_PNG = b"\x89PNG\r\n\x1a\n"
# Limit of parts that Pillow reads in a Python loop: a PNG's chunks, a GIF's blocks, a JPEG's
# segments. A photograph has some hundreds; 64 MB of full GIF blocks are 262,000.
MAX_PARTS = 1 << 18


def icon_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (width, height) of the pictures in an .ico file, from their own headers.

    Yields nothing where `data` is no icon.
    """
    for start in _icon_starts(data):
        head = data[start : start + 24].ljust(24, b"\0")
        if head.startswith(_PNG):
            yield struct.unpack_from(">II", head, 16)
        elif head[0] == 12:  # the oldest bitmap header; sizes are 16 bits there
            yield struct.unpack_from("<HH", head, 4)
        else:
            width, height = struct.unpack_from("<ii", head, 4)
            yield abs(width), abs(height) // 2  # colours above, transparency below


def _icon_starts(data: bytes) -> set[int]:
    """Distinct offsets of the pictures in an .ico file, of which several entries may name one."""
    if data[:4] != b"\0\0\1\0":
        return set()
    (count,) = struct.unpack_from("<H", data.ljust(6, b"\0"), 4)
    entries = range(6, min(6 + 16 * count, len(data) - 15), 16)
    return {struct.unpack_from("<I", data, entry + 12)[0] for entry in entries}


def tile_pixels(tags: Mapping[int, Any]) -> int:
    """Pixels of one tile of a TIFF, from its tags; 0 where it has no tiles."""
    sides = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    return sides[0] * sides[1] if all(isinstance(side, int) for side in sides) else 0


def jpeg_parts(data: bytes) -> tuple[int, int]:
    """Count (segments, scans) of a JPEG, to its end or to one more than MAX_PARTS or MAX_SCANS.

    Segments are skipped by their lengths, so thumbnails do not count; nor do bytes after the
    picture. A stray byte between two segments counts as one, since Pillow steps over each of them.
    """
    at, segments, passes = 2, 0, 0
    while segments <= MAX_PARTS and passes <= MAX_SCANS and (marker := _MARKER.search(data, at)):
        code = marker[1][0]
        segments += 1 if passes else 1 + marker.start() - at
        if code == _END_OF_IMAGE:
            break
        passes += code == _START_OF_SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return segments, passes


class Claims(NamedTuple):
    """Result of walking over the parts of a file, without decoding its pixels.

    fault       why the first picture is damaged, or None
    later_fault True where something after the first picture is damaged
    several     True where there is more than one frame
    instead     an equivalent file of the first picture, where the decoder would refuse this one for
                a later picture, or would read it number by number
    """

    fault: str | None = None
    later_fault: bool = False
    several: bool = False
    instead: bytes | None = None


def png_claims(data: bytes, start: int = 0) -> Claims:
    """Check the chunks of a PNG with their checksums.

    Damage in the frames of an APNG after the first one is only a `later_fault`.
    """
    at, animated, pictured = start + len(_PNG), False, False
    for _ in range(MAX_PARTS):
        if at + 12 > len(data):
            return _png_fault("it ends early", animated and pictured)
        length, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8 + length
        if body + 4 > len(data):
            return _png_fault("it ends early", animated and pictured)
        if zlib.crc32(memoryview(data)[at + 4 : body]) != struct.unpack_from(">I", data, body)[0]:
            name = kind.decode("ascii", "replace") if kind.isalpha() else "unknown"
            return _png_fault(f"the checksum of its {name} chunk is wrong", animated and pictured)
        animated |= kind == b"acTL" and not pictured
        pictured |= kind == b"IDAT"
        if kind == b"IEND":
            return Claims(several=animated)
        at = body + 4
    return Claims(f"over {MAX_PARTS:,} chunks; {_SAVE_IT}")


def _png_fault(reason: str, later: bool) -> Claims:
    return Claims(later_fault=True, several=True) if later else Claims(_damaged(reason))


def _damaged(reason: str) -> str:
    return f"damaged image ({reason}); copy or save it again"


def has_late_metadata(path: Path) -> bool:
    """True where a PNG has EXIF data or texts behind its pixels."""
    with open_regular(path) as file:
        pictured, at = False, len(_PNG)
        for _ in range(MAX_PARTS):
            file.seek(at)
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                break
            length, kind = struct.unpack(">I4s", head)
            if pictured and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pictured |= kind == b"IDAT"
            at += length + 12
    return False


def webp_claims(data: bytes) -> Claims:
    """Check that the chunks of a WebP fill the length in its header, and the file."""
    end = 8 + int.from_bytes(data[4:8], "little")
    at, frames, first_end = 12, 0, 0
    for _ in range(MAX_PARTS):
        if at + 8 > min(end, len(data)):
            break
        frames += data[at : at + 4] == _WEBP_FRAME
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        at += at % 2  # chunks begin at even offsets
        first_end = first_end or at * (frames == 1)
    else:
        return Claims(f"over {MAX_PARTS:,} chunks; {_SAVE_IT}")
    # The padding byte of the last chunk may be missing in the length or in the file.
    over = len(data) - max(at, end)
    if over <= 0 and len(data) >= max(at - 1, end):
        return Claims(several=frames > 1)
    if data[first_end : first_end + 4] == _WEBP_FRAME:
        first = b"RIFF" + (first_end - 8).to_bytes(4, "little") + data[8:first_end]
        return Claims(later_fault=True, several=True, instead=first)
    reason = f"it goes on for {over} bytes after its end" if over > 0 else "it ends early"
    return Claims(_damaged(reason))


def gif_claims(data: bytes) -> Claims:
    """Check the blocks of a GIF up to its second frame."""
    at, parts, pictured = 13 + _gif_colours(data, 10), 0, False
    while at < len(data) and data[at] != _GIF_END:
        if parts >= MAX_PARTS:
            return Claims() if pictured else Claims(f"over {MAX_PARTS:,} blocks; {_SAVE_IT}")
        kind, parts = data[at], parts + 1
        if kind == _GIF_FRAME:
            if pictured:
                return Claims(several=True)
            pictured = True
            at += 11 + _gif_colours(data, at + 9)
        elif kind == _GIF_EXTENSION:
            at += 2
        else:  # decoders step over it
            at += 1
            continue
        while at < len(data) and data[at] and parts < MAX_PARTS:
            at, parts = at + 1 + data[at], parts + 1
        at += 1
    return Claims()


def _gif_colours(data: bytes, at: int) -> int:
    """Bytes of the palette that the flags at `at` announce."""
    flags = data[at] if at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def netpbm_claims(data: bytes) -> Claims:
    """Check the header of a PPM, PGM or PBM, and replace forms that Pillow decodes in Python.

    Those are numbers as text, and samples whose maximum is neither 255 nor 65535.
    """
    header = _NETPBM.match(data[:_MAX_HEADER])
    # P1 and P4 are bits: they have no maximum.
    if header is None or (header[1] not in b"14" and header[4] is None):
        too_long = len(data) > _MAX_HEADER
        return Claims(f"no header in {_MAX_HEADER:,} bytes; {_SAVE_IT}" if too_long else None)
    kind, width, height, most = (int(field or 0) for field in header.groups())
    if kind <= 3 and len(data) > MAX_SLOW:
        return Claims(f"over {MAX_SLOW >> 20} MB of numbers written out; {_SAVE_IT}")
    if kind < 5 or most in (0, 255) or most > 65535 or (kind, most) == (5, 65535):
        return Claims()
    stored = np.dtype(np.uint8 if most < 256 else ">u2")
    samples = width * height * (3 if kind == 6 else 1)
    if len(data) - header.end() < samples * stored.itemsize:
        return Claims()  # Pillow says that it is cut off
    # As Pillow does: grey keeps 16 bits, colours are reduced to 8.
    full = 65535 if kind == 5 and most > 255 else 255
    table = np.minimum(np.round(np.arange(65536) / most * full), full)
    table = table.astype(">u2" if full > 255 else np.uint8)
    pixels = table[np.frombuffer(data, stored, samples, header.end())]
    return Claims(instead=b"P%d %d %d %d\n" % (kind, width, height, full) + pixels.tobytes())


def tiff_fault(data: bytes) -> str | None:
    """Refuse a TIFF with more strips or tiles in its first page than any encoder writes."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start, count, entry = (order + "Q", order + "Q", 20) if big else (order + "I", order + "H", 12)
    try:
        (at,) = struct.unpack_from(start, data, 8 if big else 4)
        (tags,) = struct.unpack_from(count, data, at)
        at += struct.calcsize(count)
        # BigTIFF counts in 64 bits, and a claim must not become a loop.
        for position in range(at, at + entry * min(tags, 65535), entry):
            tag, _, values = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, position)
            if tag in (_STRIPS, _TILES) and values > MAX_STRIPS:
                return f"over {MAX_STRIPS:,} strips or tiles; {_SAVE_IT}"
    except struct.error:  # cut off: Pillow says so
        pass
    return None


def claims_of(data: bytes) -> Claims:
    """Check a file of any format; one without parts passes."""
    if data.startswith(_PNG):
        return png_claims(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return webp_claims(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return gif_claims(data)
    if data.startswith(b"\xff\xd8"):
        segments, passes = jpeg_parts(data)
        if segments > MAX_PARTS:
            return Claims(f"over {MAX_PARTS:,} segments; {_SAVE_IT}")
        if passes > MAX_SCANS:
            return Claims(f"a progressive JPEG of over {MAX_SCANS} passes; {_SAVE_IT}")
        return Claims()
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Claims(tiff_fault(data))
    if data[:1] == b"P" and data[1:2] in b"123456" and len(data) > 1:
        return netpbm_claims(data)
    starts = _icon_starts(data)
    if len(starts) > MAX_ICONS:
        return Claims(f"an icon of over {MAX_ICONS} pictures; {_SAVE_IT}")
    bitmaps = {14} if data.startswith(b"BM") else starts
    # The run-length codes of bitmaps, which Pillow decodes in Python.
    codes = (int.from_bytes(data[start + 16 : start + 20], "little") for start in bitmaps)
    if len(data) > MAX_SLOW and any(code in (1, 2) for code in codes):
        return Claims(f"over {MAX_SLOW >> 20} MB of run-length codes; {_SAVE_IT}")
    pictures = [start for start in starts if data.startswith(_PNG, start)]
    return next(
        (claims for claims in map(partial(png_claims, data), pictures) if claims.fault), Claims()
    )
