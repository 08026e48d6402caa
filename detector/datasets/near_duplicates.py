"""Images that show nearly the same: copies, other sizes and qualities, mirrored, next to each other
in a film.

By the difference hash: a bit for each of 16 x 16 pixels of the shrunken image, set where it is
darker than the one to its right.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from detector.errors import ImageError
from detector.images.decoding import read_image
from detector.structures import Array

SIDE = 16
# Of 256 bits: of 3,798 different photographs of VOC no two differ by fewer than 45.
MAX_DIFFERING_BITS = 26
# Levels of grey by which the shrunken pixels vary; flatter images show nothing to compare.
MIN_CONTRAST = 4.0


def near_duplicates(paths: Iterable[Path]) -> Array:
    """(N,) group of each image, 0, 1, ...: those that are alike, directly or through others, share
    one. An image that cannot be read, or is flat, is alone.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    hashes = [difference_hash(path) for path in paths]
    known = {row: bits for row, bits in enumerate(hashes) if bits is not None}
    pairs = np.zeros((0, 2), np.int64)
    if known:
        pairs = np.array(list(known), np.int64)[alike(np.stack(list(known.values())))]
    shape = (len(hashes), len(hashes))
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape)
    return connected_components(links, directed=False)[1]


def difference_hash(path: Path) -> Array | None:
    """(16, 16) bool; None for an image that is flat or cannot be read."""
    import cv2

    try:
        grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    except ImageError:
        return None
    # Area averaging avoids aliasing.
    small = cv2.resize(grey, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < MIN_CONTRAST:
        return None
    return small[:, :-1] < small[:, 1:]


def alike(bits: Array, block: int = 1024) -> Array:
    """(P, 2) rows of (N, 16, 16) hashes that differ in few bits, as they are or mirrored."""
    mirrored = ~bits[:, :, ::-1]  # what rises to the right falls in the mirror
    # The product of two hashes in signs is 256 less twice the number of bits that differ.
    signs, others = (
        (2.0 * hashes.reshape(len(bits), -1) - 1).astype(np.float32) for hashes in (bits, mirrored)
    )
    least = signs.shape[1] - 2 * MAX_DIFFERING_BITS  # of a product of signs
    pairs_by_block = []
    # By blocks: all products of 100,000 images would take 40 GB.
    for start in range(0, len(bits), block):
        rows = signs[start : start + block]
        close = np.maximum(rows @ signs.T, rows @ others.T) >= least
        first, second = np.nonzero(close)
        pairs_by_block.append(np.stack([first + start, second], 1))
    pairs = np.concatenate(pairs_by_block) if pairs_by_block else np.zeros((0, 2), np.int64)
    return pairs[pairs[:, 0] < pairs[:, 1]]
