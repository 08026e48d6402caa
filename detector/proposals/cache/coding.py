"""Lossless compression of the proposals of one image to one row of the cache.

Proposals are computed on a grid (the image at a longer side of 500, say) and reported in the
original's pixels, so their coordinates are integers times a fixed ratio. The ratio is recovered
from the boxes themselves, and the integers, two bytes each, go through LZMA: region proposals grow
out of each other and share sides, which brings eight bytes a box down to four. Where there is no
such ratio (boxes of a network), the floats are stored. Decoding is exact in either case.
"""

from __future__ import annotations

import lzma
import zlib

import numpy as np

from detector.errors import ProposalError
from detector.structures import Array, Proposals

LARGEST_GRID = 4096
LARGEST_SIDE = 0xFFFF
MOST_BOXES = 10_000_000

_ON_GRID, _SCORED = 1, 2
# The best of all combinations: coordinates of two bytes and floats repeat at multiples of 2.
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 1, "pb": 2}]
# The preset's dictionary of 64 MB takes 50 ms to set up. A smaller one gives the same bytes for
# data no longer than itself; the decoder always takes the large one, and so reads both.
_SMALL_DICTIONARY = 1 << 20


def encode(proposals: Proposals) -> bytes:
    """Encode boxes, order and scores exactly, with a checksum at the end."""
    boxes, size = proposals.boxes, proposals.size
    grid = find_grid(boxes, size)
    flags = _ON_GRID * (grid is not None) + _SCORED * (proposals.scores is not None)
    head = b"".join(_varint(n) for n in (flags, len(boxes), *size, *(grid or ())))
    body = _squeeze(boxes, "<f4") if grid is None else _squeeze(to_grid(boxes, size, grid), "<u2")
    if proposals.scores is not None:
        body = _varint(len(body)) + body + _squeeze(proposals.scores, "<f4")
    row = head + body
    return row + zlib.crc32(row).to_bytes(4, "little")


def decode(row: bytes) -> Proposals:
    """Decode a row of `encode`. Raises ProposalError where the row is damaged."""
    if len(row) < 8 or zlib.crc32(row[:-4]) != int.from_bytes(row[-4:], "little"):
        raise ProposalError("the stored row is damaged: its checksum does not match")
    try:
        return _decode(row[:-4])
    except (ValueError, IndexError, ArithmeticError, MemoryError, lzma.LZMAError) as error:
        raise ProposalError(f"the stored row cannot be decoded ({error})") from None


def _decode(row: bytes) -> Proposals:
    flags, at = _read_varint(row, 0)
    count, at = _read_varint(row, at)
    height, at = _read_varint(row, at)
    width, at = _read_varint(row, at)
    if flags > _ON_GRID | _SCORED or count > MOST_BOXES:
        raise ValueError(f"{count} boxes of kind {flags:#x}")
    rows = columns = 0
    if flags & _ON_GRID:
        rows, at = _read_varint(row, at)
        columns, at = _read_varint(row, at)
    end = len(row)
    if flags & _SCORED:
        length, at = _read_varint(row, at)
        end = at + length
    kind = "<u2" if flags & _ON_GRID else "<f4"
    boxes = _unsqueeze(row[at:end], 4 * count, kind).reshape(count, 4)
    if flags & _ON_GRID:
        boxes = from_grid(boxes, (height, width), (rows, columns))
    scores = _unsqueeze(row[end:], count, "<f4") if flags & _SCORED else None
    return Proposals(boxes, (height, width), scores)


def find_grid(boxes: Array, size: tuple[int, int]) -> tuple[int, int] | None:
    """Find the grid (rows, columns) on whose borders all boxes lie exactly, or None.

    `size` is the (H, W) of the image.
    """
    grid = _cells(boxes[:, 1::2], size[0]), _cells(boxes[:, 0::2], size[1])
    return grid if grid[0] and grid[1] else None


def _cells(values: Array, side: int) -> int:
    """The least number of equal cells in `side` pixels whose borders hold all values; 0 if none."""
    distinct = np.unique(values).astype(np.float64)
    if len(distinct) == 0:
        return 1
    if distinct[0] < 0 or distinct[-1] > side:
        return 0
    if side <= LARGEST_SIDE and (distinct == np.round(distinct)).all():
        return side // int(np.gcd.reduce([side, *distinct.astype(np.int64)]))
    for cells in range(2, LARGEST_GRID + 1):
        index = np.round(distinct * cells / side)
        if np.array_equal(grid_borders(index, side, cells), distinct.astype(np.float32)):
            return cells
    return 0


def grid_borders(index: Array, side: int, cells: int) -> Array:
    """Pixel coordinates (float32) of a grid's borders, as proposals are scaled back."""
    return (np.asarray(index, np.float64) * (side / cells)).astype(np.float32)


def to_grid(boxes: Array, size: tuple[int, int], grid: tuple[int, int]) -> Array:
    """Convert boxes in pixels of an image of `size` (H, W) to integers on `grid` (rows, cols)."""
    ratio = np.array([grid[1] / size[1], grid[0] / size[0]] * 2)
    return np.round(boxes.astype(np.float64) * ratio).astype(np.int64)


def from_grid(whole: Array, size: tuple[int, int], grid: tuple[int, int]) -> Array:
    """Invert `to_grid` exactly."""
    x, y = (
        grid_borders(whole[:, 0::2], size[1], grid[1]),
        grid_borders(whole[:, 1::2], size[0], grid[0]),
    )
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


def _squeeze(values: Array, kind: str) -> bytes:
    data = values.astype(kind).tobytes()
    small = [{**_LZMA[0], "dict_size": _SMALL_DICTIONARY}]
    filters = small if len(data) <= _SMALL_DICTIONARY else _LZMA
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters)


def _unsqueeze(data: bytes, count: int, kind: str) -> Array:
    """Decompress `count` numbers of a kind, and never more, whatever the row claims."""
    wanted = count * np.dtype(kind).itemsize
    unpacked = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA).decompress(data, wanted)
    if len(unpacked) != wanted:
        raise ValueError(f"{len(unpacked)} bytes for {count} numbers")
    return np.frombuffer(unpacked, kind)


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first; the high bit says that more follow."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _read_varint(row: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while row[at] & 0x80 and shift < 56:
        number |= (row[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | row[at] << shift, at + 1
