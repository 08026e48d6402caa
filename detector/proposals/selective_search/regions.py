"""Proposals with their superpixels and merge trees, which give the mask of any region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.proposals.selective_search.engine import StrategyResult
from detector.structures import Array, Proposals


@dataclass(frozen=True, eq=False)
class Regions:
    """Proposals of one image with the region that each box bounds.

    proposals  in rank order, in the original image's pixels
    results    every strategy's hierarchy and superpixels, at the size of the computation
    rows       (N, 2) index into `results`, and the region there, of each proposal
    """

    proposals: Proposals
    results: tuple[StrategyResult, ...]
    rows: Array

    @staticmethod
    def of(
        found: list[StrategyResult], rows: Array, inner: tuple[int, ...], outer: tuple[int, ...]
    ) -> Regions:
        """Scale boxes from the size of the computation, `inner` (H, W), to the image's, `outer`."""
        boxes = np.empty((len(rows), 4))
        for index, strategy in enumerate(found):
            of_strategy = rows[:, 0] == index
            boxes[of_strategy] = strategy.hierarchy.boxes[rows[of_strategy, 1]]
        if inner != outer:
            boxes = np.rint(boxes * ([outer[1] / inner[1], outer[0] / inner[0]] * 2))
        return Regions(Proposals(boxes, (outer[0], outer[1])), tuple(found), rows)

    def __len__(self) -> int:
        return len(self.rows)

    def mask(self, index: int) -> Array:
        """Mask (H, W) bool of one proposal's region in the original image."""
        strategy, region = self.rows[index]
        searched = self.results[strategy]
        inside = np.zeros(len(searched.hierarchy.sizes), bool)
        inside[leaves(searched.hierarchy.children, int(region))] = True
        return _enlarge(inside[searched.labels], self.proposals.size)


def leaves(children: Array, region: int) -> list[int]:
    """List the superpixels under a region of a merge tree, `children` (R - 1, 2)."""
    count = len(children) + 1
    superpixels, waiting = [], [region]  # no recursion: a tree may be as deep as it has leaves
    while waiting:
        node = waiting.pop()
        if node < count:
            superpixels.append(node)
        else:
            waiting.extend(children[node - count].tolist())
    return superpixels


def _enlarge(mask: Array, size: tuple[int, int]) -> Array:
    # Nearest neighbour by the centres of pixels, in whole numbers, so that none falls between two.
    height, width = size
    y = (np.arange(height) * 2 + 1) * mask.shape[0] // (2 * height)
    x = (np.arange(width) * 2 + 1) * mask.shape[1] // (2 * width)
    return mask[np.ix_(y, x)]
