"""Lossless compression of the proposals of one image to one row of the cache.

Region proposals grow out of each other and share sides, so that LZMA brings the 16 bytes of a box
down to about four, rank included.
"""

import lzma
import struct
import zlib

import numpy as np

from detector.errors import ProposalError
from detector.structures import Proposals

MAX_BOXES = 10_000_000  # a forged row must not ask for more memory than there is

# True where there are scores; number of boxes; height and width of the image.
_HEAD = struct.Struct("<?III")
# The best of all combinations: floats repeat at multiples of 4 bytes. The preset's own dictionary
# of 64 MB would take 50 ms to set up, and few images have more boxes than fit into this one.
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 1, "pb": 2, "dict_size": 1 << 20}]


def encode(proposals: Proposals) -> bytes:
    """Encode boxes, order and scores exactly, with a checksum at the end."""
    scores = proposals.scores
    values = [proposals.boxes.ravel(), *([] if scores is None else [scores])]
    data = np.concatenate(values).astype("<f4").tobytes()
    row = _HEAD.pack(scores is not None, len(proposals), *proposals.size)
    # Raw: a container would add a header and a checksum of its own to every row.
    row += lzma.compress(data, format=lzma.FORMAT_RAW, filters=_LZMA)
    return row + zlib.crc32(row).to_bytes(4, "little")


def decode(row: bytes) -> Proposals:
    """Decode a row of `encode`. Raises ProposalError where the row is damaged."""
    if len(row) < 4 or zlib.crc32(row[:-4]) != int.from_bytes(row[-4:], "little"):
        raise ProposalError("the stored row is damaged: its checksum does not match")
    try:
        scored, count, height, width = _HEAD.unpack_from(row)
        if count > MAX_BOXES:
            raise ValueError(f"{count} boxes")
        wanted = count * (20 if scored else 16)
        # Never unpacked further than that, whatever the row holds.
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
        data = decoder.decompress(row[_HEAD.size : -4], wanted)
        if len(data) != wanted:
            raise ValueError(f"{len(data)} bytes for {count} boxes")
        values = np.frombuffer(data, "<f4")
        boxes, scores = values[: 4 * count].reshape(count, 4), values[4 * count :]
        return Proposals(boxes, (height, width), scores if scored else None)
    except (ValueError, struct.error, MemoryError, lzma.LZMAError) as error:
        raise ProposalError(f"the stored row cannot be decoded ({error})") from None
