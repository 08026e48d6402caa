"""Proposals as few bytes, and back bit for bit: what the cache keeps in a row.

Proposals are computed on a grid (the image at a longer side of 500, say) and reported in the original's pixels, so
their float coordinates are whole numbers times a fixed ratio. The ratio is found again from the boxes themselves;
where there is none (boxes of a network), the floats are kept as they are. Either way decoding is exact.
"""

from __future__ import annotations

import lzma
import struct
import zlib

import numpy as np

from detector.errors import ProposalError
from detector.structures import Array, Proposals

LARGEST_GRID = 4096

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 0, "pb": 0}]
_HEAD = struct.Struct("<BBIIIII")


def encode(proposals: Proposals) -> bytes:
    """A self-contained row: order, coordinates and scores survive exactly."""
    boxes, (height, width) = proposals.boxes, proposals.size
    columns, rows = find_grid(boxes[:, 0::2], width), find_grid(boxes[:, 1::2], height)
    exact = columns > 0 and rows > 0
    scored = proposals.scores is not None
    head = _HEAD.pack(exact, scored, len(boxes), height, width, rows, columns)
    if exact:
        whole = to_grid(boxes, proposals.size, (rows, columns))
        body = whole.T.astype("<u2").tobytes()
    else:
        body = boxes.astype("<f4").tobytes()
    if proposals.scores is not None:
        body += proposals.scores.astype("<f4").tobytes()
    packed = head + lzma.compress(body, format=lzma.FORMAT_RAW, filters=_FILTERS)
    return packed + struct.pack("<I", zlib.crc32(packed))


def decode(row: bytes) -> Proposals:
    """The proposals that `encode` was given. A damaged row is a ProposalError, never other boxes."""
    if len(row) < _HEAD.size + 4 or zlib.crc32(row[:-4]) != struct.unpack("<I", row[-4:])[0]:
        raise ProposalError("the stored row is damaged: its checksum does not match")
    exact, scored, count, height, width, rows, columns = _HEAD.unpack(row[: _HEAD.size])
    body = lzma.decompress(row[_HEAD.size : -4], format=lzma.FORMAT_RAW, filters=_FILTERS)
    if exact:
        whole = np.frombuffer(body, "<u2", 4 * count).reshape(4, count).T
        boxes = from_grid(whole, (height, width), (rows, columns))
    else:
        boxes = np.frombuffer(body, "<f4", 4 * count).reshape(count, 4)
    scores = np.frombuffer(body, "<f4", offset=len(body) - 4 * count) if scored else None
    return Proposals(boxes, (height, width), scores)


def find_grid(values: Array, side: int) -> int:
    """Fewest cells along `side` pixels on whose borders all values lie exactly; 0 where no grid does."""
    distinct = np.unique(values).astype(np.float64)
    if len(distinct) and (distinct[0] < 0 or distinct[-1] > side):
        return 0
    if side <= 0xFFFF and (distinct == np.round(distinct)).all():
        return side
    for cells in range(1, LARGEST_GRID + 1):
        position = distinct * cells / side
        if np.abs(position - np.round(position)).max() > 1e-2:
            continue
        if np.array_equal(on_grid(np.round(position), side, cells), distinct.astype(np.float32)):
            return cells
    return 0


def on_grid(index: Array, side: int, cells: int) -> Array:
    """Pixel coordinates (float32) of grid borders: the one formula by which proposals are scaled."""
    return (np.asarray(index, np.float64) * (side / cells)).astype(np.float32)


def to_grid(boxes: Array, size: tuple[int, int], grid: tuple[int, int]) -> Array:
    """Boxes in pixels of an image of `size` (H, W) as whole numbers on `grid` (rows, columns)."""
    ratio = np.array([grid[1] / size[1], grid[0] / size[0]] * 2)
    return np.round(boxes.astype(np.float64) * ratio).astype(np.int64)


def from_grid(whole: Array, size: tuple[int, int], grid: tuple[int, int]) -> Array:
    x, y = on_grid(whole[:, 0::2], size[1], grid[1]), on_grid(whole[:, 1::2], size[0], grid[0])
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
