"""Superpixels by the compiled kernels, and the features that all strategies over them share."""

from typing import NamedTuple

import numpy as np

from detector.proposals.selective_search import colour, filters, similarity
from detector.proposals.selective_search.numba import colour as numba_colour
from detector.proposals.selective_search.numba import filters as numba_filters
from detector.proposals.selective_search.numba import regions as numba_regions
from detector.proposals.selective_search.numba import segmentation as numba_segmentation
from detector.proposals.selective_search.workspace import Workspace
from detector.structures import Array


class ColourSpace(NamedTuple):
    """Planes and edges of a colour space, shared by all k.

    planes   (C, H, W) uint8
    hue      True where the first plane is an angle
    weights  (4, H, W) uint16 edge weights
    ids      (4 * H * W,) uint32 edges in bands of weight
    keys     (4 * H * W,) uint16 their weights
    starts   (bands + 1,) the first edge of each band
    limits   (bands + 1,) its lowest weight
    """

    planes: Array
    hue: bool
    weights: Array
    ids: Array
    keys: Array
    starts: Array
    limits: Array


class Superpixels(NamedTuple):
    """Superpixels of a colour space and a k, with one row a region; shared by all similarities."""

    labels: Array
    sizes: Array
    boxes: Array
    counts: Array
    pairs: Array


def planes_of(image: Array, name: colour.ColourName, workspace: Workspace) -> Array:
    """Convert (H, W, 3) uint8 RGB to planes (C, H, W) uint8, the same as colour.planes."""
    shape = (colour.SPACES[name].planes, *image.shape[:2])
    out = workspace.array("planes", shape, np.uint8)
    code = colour.COLOURS.index(name)
    numba_colour.convert(image, code, colour.LINEAR, colour.CURVE, colour.XYZ, out)
    return out


def prepare(
    image: Array, name: colour.ColourName, sigma: float, workspace: Workspace
) -> ColourSpace:
    """Compute the planes, and the edges in bands of weight, of a colour space in `workspace`."""
    height, width = image.shape[:2]
    hue = colour.SPACES[name].hue
    planes = planes_of(image, name, workspace)
    kernel = filters.gaussian(sigma)
    padded, row = np.empty(width + len(kernel), np.int32), np.empty(width, np.int32)
    # Intermediate maps use the buffers of the edges, which are written only after them.
    between = workspace.array("keys", (height, width), np.int16)
    smoothed = workspace.array("ids", planes.shape, np.int16)
    numba_filters.smooth(planes, kernel, hue, padded, row, between, smoothed)
    weights = workspace.array("weights", (4, height, width), np.uint16)
    # Unsigned: three squared differences, 3 * 32640**2, exceed int32.
    numba_filters.edge_weights(smoothed, hue, row.view(np.uint32), weights)
    return ColourSpace(planes, hue, weights, *_banded(weights, workspace))


def textures(space: ColourSpace, workspace: Workspace) -> Array:
    """Texture bins (C * 4, H, W) uint8 of a colour space.

    They overwrite the buffers of its edges, so call it after all its superpixels are segmented.
    """
    count, height, width = space.planes.shape
    bell = filters.gaussian(filters.TEXTURE_SIGMA)
    slope = filters.gaussian_derivative(filters.TEXTURE_SIGMA)
    padded, row = np.empty(width + len(bell), np.int32), np.empty(width, np.int32)
    passes = workspace.array("keys", (3, height, width), np.int16)
    codes = workspace.array("ids", (4 * count, height, width), np.uint8)
    numba_filters.texture_codes(
        space.planes, bell, slope, space.hue, similarity.texture_scale(), padded, row, passes, codes
    )
    return codes


def _banded(weights: Array, workspace: Workspace) -> tuple[Array, Array, Array, Array]:
    """Distribute edges to bands: ids, weights, and each band's first edge and lowest weight."""
    coarse = np.zeros(numba_segmentation.COARSE, np.int64)
    numba_segmentation.count_weights(weights, coarse)
    until = coarse[:-1].cumsum()  # the last bin holds edges that leave the image
    ends = np.searchsorted(until, until[-1] * np.array(numba_segmentation.SHARES[:-1])) + 1
    band_of = np.searchsorted(ends, np.arange(len(coarse)), side="right").astype(np.uint8)
    band_of[-1] = numba_segmentation.BANDS  # behind all bands, where nobody reads them
    starts = np.concatenate([[0], until[ends - 1], until[-1:]])
    limits = np.concatenate([[0], ends, [len(until)]]) * (65536 // len(coarse))
    ids = workspace.array("ids", weights.size, np.uint32)
    keys = workspace.array("keys", weights.size, np.uint16)
    numba_segmentation.distribute(weights, band_of, starts.copy(), ids, keys)  # counts it up
    return ids, keys, starts, limits


def describe(
    planes: Array, codes: Array, labels: Array, count: int, workspace: Workspace
) -> Superpixels:
    """Measure sizes, boxes, histograms and neighbours of `count` superpixels `labels`."""
    sizes, boxes = np.empty(count, np.int32), np.empty((count, 4), np.int32)
    numba_regions.outline(labels, sizes, boxes)
    counts = np.zeros((count, len(planes) * 105), np.int32)
    signed = workspace.array("signed", (count, len(codes) * 20), np.int32)
    signed[:] = 0  # a workspace's arrays hold what was there before
    numba_regions.histograms(labels, planes, codes, signed, counts)
    table = numba_regions.neighbours(labels, count)
    # Sorted by (higher, lower): the order of a hash table must not decide ties.
    return Superpixels(labels, sizes, boxes, counts, np.sort(table[table >= 0]))


def segment(space: ColourSpace, k: int, least: int, workspace: Workspace) -> tuple[Array, int]:
    """Segment for one k (in 1/128 grey levels): labels (H, W) int32, and their number.

    Each superpixel has at least `least` pixels.
    """
    height, width = space.planes.shape[1:]
    pixels = height * width
    parent, name, labels = (
        workspace.array(buffer, pixels, np.uint32) for buffer in ("parent", "name", "labels")
    )
    size, last = (
        workspace.array("size", pixels, np.int32),
        workspace.array("last", pixels, np.uint16),
    )
    at = workspace.array("at", 1 << 16, np.int32)
    components = numba_segmentation.grow(
        space.ids,
        space.keys,
        space.starts,
        space.limits,
        np.array([1, width, width + 1, width - 1], np.uint32),
        k,
        labels,
        parent,
        size,
        last,
        name,
        *_for_edges(int(np.diff(space.starts).max()), workspace),
        at,
    )
    large = (size[:components] >= least).astype(np.uint8)
    small = components - int(large.sum())
    if small and components > 1:  # a single one has no neighbour to join
        near, near_keys, pairs, pair_keys = _for_edges(space.weights.size, workspace)
        inside = np.zeros((height + 1, width + 2), np.uint8)
        length = numba_segmentation.collect_small(
            space.weights, labels.reshape(height, width), large, inside, near, near_keys
        )
        numba_segmentation.absorb(
            near, near_keys, length, least, small, parent, size, pairs, pair_keys, at
        )
    regions = np.empty(pixels, np.int32)
    name[:components] = numba_segmentation.MARK
    count = numba_segmentation.relabel(labels, parent, name, regions)
    return regions.reshape(height, width), count


def _for_edges(count: int, workspace: Workspace) -> tuple[Array, Array, Array, Array]:
    # As many as could be needed: pages that are never written cost no memory.
    return (
        workspace.array("near", count, np.uint64),
        workspace.array("near_keys", count, np.uint16),
        workspace.array("pairs", count, np.uint64),
        workspace.array("pair_keys", count, np.uint16),
    )
