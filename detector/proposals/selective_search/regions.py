"""Proposals with what they were made of: superpixels and merge trees, from which any region's mask
follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.proposals.selective_search.engine import Found
from detector.structures import Array, Proposals


@dataclass(frozen=True, eq=False)
class Regions:
    """The proposals of one image and where each came from.

    proposals  in rank order, in the original image's pixels
    found      every strategy's hierarchy and superpixels, at the size of the computation
    rows       (N, 2) for each proposal its place in `found` and its region there
    """

    proposals: Proposals
    found: tuple[Found, ...]
    rows: Array

    @staticmethod
    def of(
        found: list[Found], rows: Array, inner: tuple[int, ...], outer: tuple[int, ...]
    ) -> Regions:
        """Boxes computed at `inner` (H, W) are reported in the pixels of `outer`."""
        boxes = np.empty((len(rows), 4))
        for place, one in enumerate(found):
            mine = rows[:, 0] == place
            boxes[mine] = one.hierarchy.boxes[rows[mine, 1]]
        if inner != outer:
            boxes = np.rint(boxes * ([outer[1] / inner[1], outer[0] / inner[0]] * 2))
        return Regions(Proposals(boxes, (outer[0], outer[1])), tuple(found), rows)

    def __len__(self) -> int:
        return len(self.rows)

    def mask(self, index: int) -> Array:
        """(H, W) bool in the original image: the pixels of one proposal's region."""
        place, region = self.rows[index]
        found = self.found[place]
        inside = np.zeros(len(found.hierarchy.sizes), bool)
        inside[leaves(found.hierarchy.children, int(region))] = True
        return _enlarged(inside[found.labels], self.proposals.size)

    def run_lengths(self, index: int) -> list[int]:
        """The mask as COCO's uncompressed run-length code: runs down the columns, zeros first."""
        flat = self.mask(index).ravel(order="F")
        turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        runs = np.diff(np.concatenate([[0], turns, [flat.size]]))
        return ([0] if flat[0] else []) + runs.tolist()


def leaves(children: Array, region: int) -> list[int]:
    """The superpixels under a region of a merge tree, `children` (R - 1, 2)."""
    count = len(children) + 1
    found, waiting = [], [region]
    while waiting:
        node = waiting.pop()
        if node < count:
            found.append(node)
        else:
            waiting.extend(children[node - count].tolist())
    return found


def _enlarged(mask: Array, size: tuple[int, int]) -> Array:
    """Nearest neighbour to (H, W)."""
    height, width = size
    y = (np.arange(height) * 2 + 1) * mask.shape[0] // (2 * height)
    x = (np.arange(width) * 2 + 1) * mask.shape[1] // (2 * width)
    return mask[np.ix_(y, x)]
