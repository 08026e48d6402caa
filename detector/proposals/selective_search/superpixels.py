"""Superpixels by the compiled kernels, and what all strategies over them have in common."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detector.proposals.selective_search import colour, filters, similarity
from detector.proposals.selective_search.numba import colour as native_colour
from detector.proposals.selective_search.numba import filters as native_filters
from detector.proposals.selective_search.numba import regions as native_regions
from detector.proposals.selective_search.numba import segmentation as native_segmentation
from detector.proposals.selective_search.workspace import Workspace
from detector.structures import Array


class ColourSpace(NamedTuple):
    """What all k of a colour space share.

    planes   (C, H, W) uint8
    hue      whether the first plane is an angle
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
    """What all similarities of a colour space and a k share; arrays have a row for each of R
    regions.
    """

    labels: Array
    sizes: Array
    boxes: Array
    counts: Array
    pairs: Array


def planes_of(image: Array, name: colour.ColourName, room: Workspace) -> Array:
    """(H, W, 3) uint8 RGB -> (C, H, W) uint8, the same as colour.planes."""
    shape = (colour.SPACES[name].planes, *image.shape[:2])
    found = room.array("planes", shape, np.uint8)
    code = colour.COLOURS.index(name)
    native_colour.convert(image, code, colour.LINEAR, colour.CURVE, colour.XYZ, found)
    return found


def prepare(image: Array, name: colour.ColourName, sigma: float, room: Workspace) -> ColourSpace:
    """Planes and edges in bands of weight, of one colour space; all in `room`."""
    height, width = image.shape[:2]
    hue = colour.SPACES[name].hue
    planes = planes_of(image, name, room)
    kernel = filters.gaussian(sigma)
    padded, row = np.empty(width + len(kernel), np.int32), np.empty(width, np.int32)
    # what is over before the edges are distributed may lie where they will be
    between = room.array("keys", (height, width), np.int16)
    smoothed = room.array("ids", planes.shape, np.int16)
    native_filters.smooth(planes, kernel, hue, padded, row, between, smoothed)
    weights = room.array("weights", (4, height, width), np.uint16)
    native_filters.edge_weights(smoothed, hue, row.view(np.uint32), weights)
    return ColourSpace(planes, hue, weights, *_banded(weights, room))


def textures(space: ColourSpace, room: Workspace) -> Array:
    """(C * 4, H, W) uint8 texture bins, in the place of the space's edges: for when all
    superpixels of the space are found.
    """
    count, height, width = space.planes.shape
    bell = filters.gaussian(filters.TEXTURE_SIGMA)
    slope = filters.gaussian_derivative(filters.TEXTURE_SIGMA)
    padded, row = np.empty(width + len(bell), np.int32), np.empty(width, np.int32)
    passes = room.array("keys", (3, height, width), np.int16)
    codes = room.array("ids", (4 * count, height, width), np.uint8)
    native_filters.texture_codes(
        space.planes, bell, slope, space.hue, similarity.texture_scale(), padded, row, passes, codes
    )
    return codes


def _banded(weights: Array, room: Workspace) -> tuple[Array, Array, Array, Array]:
    """Edges in bands: their numbers and weights, the bands' first edges and lowest weights."""
    coarse = np.zeros(native_segmentation.COARSE, np.int64)
    native_segmentation.count_weights(weights, coarse)
    until = coarse[:-1].cumsum()  # the last bin holds what leaves the image
    ends = np.searchsorted(until, until[-1] * np.array(native_segmentation.SHARES[:-1])) + 1
    band_of = np.searchsorted(ends, np.arange(len(coarse)), side="right").astype(np.uint8)
    band_of[-1] = native_segmentation.BANDS
    starts = np.concatenate([[0], until[ends - 1], until[-1:]])
    limits = np.concatenate([[0], ends, [len(until)]]) * (65536 // len(coarse))
    ids = room.array("ids", weights.size, np.uint32)
    keys = room.array("keys", weights.size, np.uint16)
    native_segmentation.distribute(weights, band_of, starts.copy(), ids, keys)
    return ids, keys, starts, limits


def describe(
    planes: Array, codes: Array, labels: Array, count: int, room: Workspace
) -> Superpixels:
    """All that grouping needs of `count` superpixels `labels`."""
    sizes, boxes = np.empty(count, np.int32), np.empty((count, 4), np.int32)
    native_regions.outline(labels, sizes, boxes)
    counts = np.zeros((count, len(planes) * 105), np.int32)
    signed = room.array("signed", (count, len(codes) * 20), np.int32)
    signed[:] = 0
    native_regions.histograms(labels, planes, codes, signed, counts)
    table = native_regions.neighbours(labels, count)
    return Superpixels(labels, sizes, boxes, counts, np.sort(table[table >= 0]))


def segment(space: ColourSpace, k: int, least: int, room: Workspace) -> tuple[Array, int]:
    """(H, W) int32 labels of the superpixels for one k (in 1/128 grey levels), and their number.

    Each has `least` pixels or more.
    """
    height, width = space.planes.shape[1:]
    pixels = height * width
    parent, name, labels = (
        room.array(one, pixels, np.uint32) for one in ("parent", "name", "labels")
    )
    size, last = room.array("size", pixels, np.int32), room.array("last", pixels, np.uint16)
    at = room.array("at", 1 << 16, np.int32)
    components = native_segmentation.grow(
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
        *_for_edges(int(np.diff(space.starts).max()), room),
        at,
    )
    large = (size[:components] >= least).astype(np.uint8)
    small = components - int(large.sum())
    if small and components > 1:
        near, near_keys, pairs, pair_keys = _for_edges(space.weights.size, room)
        inside = np.zeros((height + 1, width + 2), np.uint8)
        length = native_segmentation.collect_small(
            space.weights, labels.reshape(height, width), large, inside, near, near_keys
        )
        native_segmentation.absorb(
            near, near_keys, length, least, small, parent, size, pairs, pair_keys, at
        )
    found = np.empty(pixels, np.int32)
    name[:components] = native_segmentation.MARK
    count = native_segmentation.relabel(labels, parent, name, found)
    return found.reshape(height, width), count


def _for_edges(count: int, room: Workspace) -> tuple[Array, Array, Array, Array]:
    """Room for pairs and weights, twice. What is not written to costs no memory."""
    return (
        room.array("near", count, np.uint64),
        room.array("near_keys", count, np.uint16),
        room.array("pairs", count, np.uint64),
        room.array("pair_keys", count, np.uint16),
    )
