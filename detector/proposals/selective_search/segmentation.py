"""Felzenszwalb and Huttenlocher's graph-based segmentation (IJCV 2004): the superpixels.

The readable version: edges of the 8-neighbour grid in order of weight, two components join if the
weight is at most both their thresholds, weight of the last join + k / size. numba/ gives the same
labels.
"""

import numpy as np

from detector.proposals.selective_search.filters import SMOOTH_BITS
from detector.structures import Array

# East, south, south-east and south-west: every pair of 8-neighbours once. (dy, dx)
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))


def edge_weights(smoothed: Array, hue: bool) -> Array:
    """Edge weights (4, H, W) int32 of (C, H, W) planes in 1/128 grey levels, by direction.

    The Euclidean distance to the neighbour, rounded down; -1 where that is outside the image.
    """
    height, width = smoothed.shape[1:]
    weights = np.full((4, height, width), -1, np.int32)
    for d, (dy, dx) in enumerate(DIRECTIONS):
        left, right = max(0, -dx), width - max(0, dx)
        here = smoothed[:, : height - dy, left:right].astype(np.int64)
        there = smoothed[:, dy:, left + dx : right + dx].astype(np.int64)
        step = there - here
        if hue:
            turn = 256 << SMOOTH_BITS
            step[0] = ((step[0] + turn // 2) & (turn - 1)) - turn // 2
        squared = (step * step).sum(0)
        # In float32, as in numba/: IEEE's root is correctly rounded, so both floors are equal.
        weights[d, : height - dy, left:right] = np.sqrt(squared.astype(np.float32)).astype(np.int32)
    return weights


def sorted_edges(weights: Array) -> Array:
    """Edges (E, 3) int64 of (weight, pixel, other pixel), lightest first; ties by pixel, then by
    direction.
    """
    height, width = weights.shape[1:]
    edges = [
        (int(weights[d, y, x]), y * width + x, (y + dy) * width + x + dx)
        for y in range(height)
        for x in range(width)
        for d, (dy, dx) in enumerate(DIRECTIONS)
        if weights[d, y, x] >= 0
    ]
    edges.sort(key=lambda edge: edge[0])  # stable, like the counting sort of numba/
    return np.array(edges, np.int64).reshape(-1, 3)


def segment(weights: Array, k: int, min_size: int) -> Array:
    """Segment by (4, H, W) edge weights: labels (H, W) int32, 0..R-1 by first pixel.

    k is in the units of the weights. A component below `min_size` joins its nearest neighbour,
    lightest edge first.
    """
    height, width = weights.shape[1:]
    parent = list(range(height * width))
    size = [1] * (height * width)
    threshold = [k] * (height * width)

    def find(pixel: int) -> int:
        while parent[pixel] != pixel:
            parent[pixel] = parent[parent[pixel]]
            pixel = parent[pixel]
        return pixel

    def join(root: int, other: int) -> None:
        parent[other] = root
        size[root] += size[other]

    edges = sorted_edges(weights).tolist()
    for weight, p, q in edges:
        root, other = find(p), find(q)
        if root != other and weight <= threshold[root] and weight <= threshold[other]:
            join(root, other)
            # In integers weight <= last + k // size exactly where (weight - last) * size <= k.
            threshold[root] = weight + k // size[root]
    for _, p, q in edges:  # the authors' second pass, over all edges again
        root, other = find(p), find(q)
        if root != other and (size[root] < min_size or size[other] < min_size):
            join(root, other)
    roots = np.array([find(pixel) for pixel in range(height * width)])
    return in_order_of_appearance(roots).reshape(height, width)


def in_order_of_appearance(names: Array) -> Array:
    """Renumber labels as int32 0, 1, 2 ... by first appearance."""
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.reshape(-1)]


def neighbours(labels: Array) -> Array:
    """Pairs (E, 2) int32 (lower, higher) of regions that touch, corners included, sorted by
    (higher, lower).
    """
    height, width = labels.shape
    pairs: set[tuple[int, int]] = set()
    for dy, dx in DIRECTIONS:
        left, right = max(0, -dx), width - max(0, dx)
        here = labels[: height - dy, left:right].ravel()
        there = labels[dy:, left + dx : right + dx].ravel()
        low, high = np.minimum(here, there), np.maximum(here, there)
        apart = low != high
        pairs.update(zip(high[apart].tolist(), low[apart].tolist(), strict=True))
    return np.array([(low, high) for high, low in sorted(pairs)], np.int32).reshape(-1, 2)


def bounding_boxes(labels: Array) -> Array:
    """Bounding boxes (R, 4) int32 xyxy of the regions, x2 and y2 exclusive."""
    boxes = []
    for label in range(int(labels.max()) + 1):
        y, x = np.nonzero(labels == label)
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    return np.array(boxes, np.int32)
