"""Superpixels by the compiled kernels, and the features that all strategies over them share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detector.proposals.selective_search import colour, filters, similarity
from detector.proposals.selective_search.numba import colour as numba_colour
from detector.proposals.selective_search.numba import filters as numba_filters
from detector.proposals.selective_search.numba import regions as numba_regions
from detector.proposals.selective_search.numba import segmentation as numba_segmentation
from detector.proposals.selective_search.workspace import Workspace
from detector.structures import Array

# Pixels of a strip of the image, in which edges are sorted and joined while its tables stay in the
# cache; a strip has at least MIN_ROWS, since what touches its borders waits.
STRIP_PIXELS = 1 << 14
MIN_ROWS = 32


class ColourSpace(NamedTuple):
    """Planes of a colour space, and what segmentations with all its k have in common.

    planes      (C, H, W) uint8
    hue         True where the first plane is an angle
    labels      (H * W,) uint32 components of pixels that every k joins
    sizes       (components,) int32 pixels
    last        (components,) uint16 weight of the last join
    pairs       (E,) uint64 pairs of components with an edge between them, sorted by weight
    pair_keys   (E,) uint16 the weights
    """

    planes: Array
    hue: bool
    labels: Array
    sizes: Array
    last: Array
    pairs: Array
    pair_keys: Array


class Segments(NamedTuple):
    """Regions of one segmentation, 0, 1, 2 ... by first appearance.

    labels      (H, W) int32
    regions     their number
    components  (components,) uint32 the region of each of the colour space's components
    """

    labels: Array
    regions: int
    components: Array


class Parts(NamedTuple):
    """What all segmentations of a colour space leave undivided: histograms are counted here.

    components  (components,) uint32 the part of each of the colour space's components
    counts      (parts, bins) int32
    """

    components: Array
    counts: Array


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
    image: Array, name: colour.ColourName, sigma: float, ks: Sequence[int], workspace: Workspace
) -> ColourSpace:
    """Compute a colour space's planes, and the components that all `ks` have, in `workspace`."""
    height, width = image.shape[:2]
    hue = colour.SPACES[name].hue
    planes = planes_of(image, name, workspace)
    kernel = filters.gaussian(sigma)
    padded, row = np.empty(width + len(kernel), np.int32), np.empty(width, np.int32)
    # Intermediate maps use the buffers of the edges, which are written only after them.
    between = workspace.array("rest_keys", (height, width), np.int16)
    smoothed = workspace.array("rest", planes.shape, np.int16)
    numba_filters.smooth(planes, kernel, hue, padded, row, between, smoothed)
    weights = workspace.array("weights", (4, height, width), np.uint16)
    # Unsigned: three squared differences, 3 * 32640**2, exceed int32.
    numba_filters.edge_weights(smoothed, hue, row.view(np.uint32), weights)
    return ColourSpace(planes, hue, *_condensed(weights, ks, workspace))


def _condensed(weights: Array, ks: Sequence[int], workspace: Workspace) -> tuple[Array, ...]:
    """Labels, sizes, last weights, pairs and their weights of a ColourSpace."""
    height, width = weights.shape[1:]
    pixels = height * width
    offset = np.array([1, width, width + 1, width - 1], np.uint32)
    rows = max(MIN_ROWS, STRIP_PIXELS // width)
    parent, name, labels = (
        workspace.array(buffer, pixels, np.uint32) for buffer in ("parent", "name", "labels")
    )
    size = workspace.array("size", pixels, np.int32)
    last = workspace.array("last", pixels, np.uint16)
    at = workspace.array("at", 1 << 16, np.int32)
    in_strip = 4 * width * min(rows + 1, height)
    rest, rest_keys = _for_edges("rest", weights.size, np.uint32, workspace)
    used = numba_segmentation.condense(
        *(weights, rows, min(ks), max(ks), offset, parent, size, last, at),
        *_for_edges("strip", in_strip, np.uint32, workspace),
        *(np.zeros(1 << numba_segmentation.SEEN_BITS, np.uint64), rest, rest_keys),
    )
    components = numba_segmentation.number(parent, size, last, name, labels)
    pairs, pair_keys = _for_edges("pairs", used, np.uint64, workspace)
    numba_segmentation.sort_rest(
        rest[:used], rest_keys[:used], offset, labels, at, pairs, pair_keys
    )
    return labels, size[:components], last[:components], pairs, pair_keys


def _for_edges(
    name: str, count: int, dtype: npt.DTypeLike, workspace: Workspace
) -> tuple[Array, Array]:
    # As many as could be needed: pages that are never written cost no memory.
    weights = workspace.array(f"{name}_keys", count, np.uint16)
    return workspace.array(name, count, dtype), weights


def divide(space: ColourSpace, found: Sequence[Segments], workspace: Workspace) -> Parts:
    """Count the histograms of the parts of all segmentations of a colour space.

    Textures overwrite the buffers of its edges.
    """
    codes = _textures(space, workspace)
    parts, count = found[0].components.copy(), found[0].regions
    bits = numba_segmentation.SEEN_BITS
    for segments in found[1:]:
        seen = np.full(1 << bits, -1).view(np.uint64)
        number = np.empty(1 << bits, np.int32)
        count = numba_segmentation.divide(parts, segments.components, seen, number)
    labels = _painted(space, parts)
    counts = np.zeros((count, len(space.planes) * 105), np.int32)
    signed = workspace.array("signed", (count, len(codes) * 20), np.int32)
    signed[:] = 0  # a workspace's arrays hold what was there before
    numba_regions.histograms(labels, space.planes, codes, signed, counts)
    return Parts(parts, counts)


def _textures(space: ColourSpace, workspace: Workspace) -> Array:
    """Texture bins (C * 4, H, W) uint8 of a colour space."""
    count, height, width = space.planes.shape
    bell = filters.gaussian(filters.TEXTURE_SIGMA)
    slope = filters.gaussian_derivative(filters.TEXTURE_SIGMA)
    padded, row = np.empty(width + len(bell), np.int32), np.empty(width, np.int32)
    passes = workspace.array("rest_keys", (3, height, width), np.int16)
    codes = workspace.array("rest", (4 * count, height, width), np.uint8)
    numba_filters.texture_codes(
        space.planes, bell, slope, space.hue, similarity.texture_scale(), padded, row, passes, codes
    )
    return codes


def describe(segments: Segments, parts: Parts) -> Superpixels:
    """Measure sizes, boxes, histograms and neighbours of superpixels."""
    labels, count, components = segments
    sizes, boxes = np.empty(count, np.int32), np.empty((count, 4), np.int32)
    numba_regions.outline(labels, sizes, boxes)
    region = np.empty(len(parts.counts), np.uint32)
    region[parts.components] = components
    counts = np.zeros((count, parts.counts.shape[1]), np.int32)
    numba_regions.add_rows(parts.counts, region, counts)
    table = numba_regions.neighbours(labels, count)
    # Sorted by (higher, lower): the order of a hash table must not decide ties.
    return Superpixels(labels, sizes, boxes, counts, np.sort(table[table >= 0]))


def segment(space: ColourSpace, k: int, least: int, workspace: Workspace) -> Segments:
    """Segment for one k (in 1/128 grey levels): superpixels of at least `least` pixels each."""
    parent = workspace.array("parent", len(space.sizes), np.uint32)
    numba_segmentation.grow(
        space.pairs, space.pair_keys, k, least, parent, space.sizes.copy(), space.last.copy()
    )
    components = np.empty(len(parent), np.uint32)
    regions = numba_segmentation.name_regions(parent, components)
    return Segments(_painted(space, components), regions, components)


def _painted(space: ColourSpace, components: Array) -> Array:
    labels = np.empty(space.planes.shape[1:], np.int32)
    numba_segmentation.paint(space.labels, components, labels.reshape(-1))
    return labels
