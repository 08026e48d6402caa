"""The compiled pipeline from one image to the hierarchies of all strategies, in parallel threads.

What strategies have in common is computed once: planes, textures and sorted edges for a colour
space; superpixels, neighbours and histograms for a colour space and a k. The threads run kernels
that release the GIL; each writes only its own arrays, so their number changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from detector.proposals.selective_search import colour, filters, similarity
from detector.proposals.selective_search.grouping import Hierarchy
from detector.proposals.selective_search.native import colour as native_colour
from detector.proposals.selective_search.native import filters as native_filters
from detector.proposals.selective_search.native import grouping as native_grouping
from detector.proposals.selective_search.native import regions as native_regions
from detector.proposals.selective_search.native import segmentation as native_segmentation
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.strategies import Strategy
from detector.structures import Array

TOGETHER = 1_000_000
"""Images of more pixels than this take their colour spaces one after the other, to bound the
memory.
"""

Map = Callable[[Callable[..., Any], list[Any]], list[Any]]


class Found(NamedTuple):
    """One strategy's result: its hierarchy over the superpixels `labels`, (H, W) int32."""

    strategy: Strategy
    hierarchy: Hierarchy
    labels: Array


class ColourSpace(NamedTuple):
    """What all k of a colour space share.

    planes   (C, H, W) uint8
    codes    (C * 4, H, W) uint8 texture bins, or no planes where no strategy looks at texture
    weights  (4, H, W) uint16 edge weights
    ids      (4 * H * W,) uint32 edges in bands of weight
    keys     (4 * H * W,) uint16 their weights
    starts   (bands + 1,) the first edge of each band
    limits   (bands + 1,) its lowest weight
    """

    planes: Array
    codes: Array
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


def planes_of(image: Array, name: colour.ColourName) -> Array:
    """(H, W, 3) uint8 RGB -> (C, H, W) uint8, the same as colour.planes."""
    found = np.empty((colour.SPACES[name].planes, *image.shape[:2]), np.uint8)
    code = colour.COLOURS.index(name)
    native_colour.convert(image, code, colour.LINEAR, colour.CURVE, colour.XYZ, found)
    return found


def prepare(image: Array, name: colour.ColourName, sigma: float) -> ColourSpace:
    """Planes, texture codes and edges in bands of weight, of one colour space."""
    height, width = image.shape[:2]
    hue = colour.SPACES[name].hue
    planes = planes_of(image, name)
    kernel = filters.gaussian(sigma)
    bell, slope = (
        filters.gaussian(filters.TEXTURE_SIGMA),
        filters.gaussian_derivative(filters.TEXTURE_SIGMA),
    )
    padded = np.empty(width + max(len(kernel), len(bell)), np.int32)
    row = np.empty(width, np.int32)
    codes = np.empty((4 * len(planes), height, width), np.uint8)
    room = np.empty((3, height, width), np.int16)
    native_filters.texture_codes(
        planes, bell, slope, hue, similarity.texture_scale(), padded, row, room, codes
    )
    smoothed = np.empty(planes.shape, np.int16)
    native_filters.smooth(planes, kernel, hue, padded, row, room[0], smoothed)
    weights = np.empty((4, height, width), np.uint16)
    native_filters.edge_weights(smoothed, hue, row.view(np.uint32), weights)
    return ColourSpace(planes, codes, weights, *_banded(weights))


def _banded(weights: Array) -> tuple[Array, Array, Array, Array]:
    """Edges in bands: their numbers and weights, the bands' first edges and lowest weights."""
    coarse = np.zeros(native_segmentation.COARSE, np.int64)
    native_segmentation.count_weights(weights, coarse)
    until = coarse[:-1].cumsum()  # the last bin holds what leaves the image
    ends = np.searchsorted(until, until[-1] * np.array(native_segmentation.SHARES[:-1])) + 1
    band_of = np.searchsorted(ends, np.arange(len(coarse)), side="right").astype(np.uint8)
    band_of[-1] = native_segmentation.BANDS
    starts = np.concatenate([[0], until[ends - 1], until[-1:]])
    limits = np.concatenate([[0], ends, [len(until)]]) * (65536 // len(coarse))
    ids, keys = np.empty(weights.size, np.uint32), np.empty(weights.size, np.uint16)
    native_segmentation.distribute(weights, band_of, starts.copy(), ids, keys)
    return ids, keys, starts, limits


def segment(space: ColourSpace, k: int, least: int) -> Superpixels:
    """Superpixels of a colour space for one k (in 1/128 grey levels), and all that grouping needs.

    Each has `least` pixels or more.
    """
    labels, count = _labels(space, k, least)
    sizes, boxes = np.empty(count, np.int32), np.empty((count, 4), np.int32)
    native_regions.outline(labels, sizes, boxes)
    counts = np.zeros((count, len(space.planes) * 105), np.int32)
    signed = np.zeros((count, len(space.codes) * 20), np.int32)
    native_regions.histograms(labels, space.planes, space.codes, signed, counts)
    table = native_regions.neighbours(labels, count)
    return Superpixels(labels, sizes, boxes, counts, np.sort(table[table >= 0]))


def _labels(space: ColourSpace, k: int, least: int) -> tuple[Array, int]:
    """(H, W) int32 labels of the superpixels, and their number."""
    height, width = space.planes.shape[1:]
    parent = np.arange(height * width, dtype=np.uint32)
    name, labels = parent.copy(), parent.copy()
    size, last = np.ones(height * width, np.int32), np.zeros(height * width, np.int32)
    at = np.empty(1 << 16, np.int32)
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
        *_room_for_edges(int(np.diff(space.starts).max())),
        at,
    )
    large = (size[:components] >= least).astype(np.uint8)
    small = components - int(large.sum())
    if small and components > 1:
        near, near_keys, pairs, pair_keys = _room_for_edges(space.weights.size)
        inside = np.zeros((height + 1, width + 2), np.uint8)
        length = native_segmentation.collect_small(
            space.weights, labels.reshape(height, width), large, inside, near, near_keys
        )
        native_segmentation.absorb(
            near, near_keys, length, least, small, parent, size, pairs, pair_keys, at
        )
    found = np.empty(height * width, np.int32)
    name[:components] = native_segmentation.MARK
    count = native_segmentation.relabel(labels, parent, name, found)
    return found.reshape(height, width), count


def _room_for_edges(count: int) -> tuple[Array, Array, Array, Array]:
    """Pairs and weights, twice. Memory that is not written to costs nothing."""
    return (
        np.empty(count, np.uint64),
        np.empty(count, np.uint16),
        np.empty(count, np.uint64),
        np.empty(count, np.uint16),
    )


def group(leaves: Superpixels, terms: str) -> Hierarchy:
    """The hierarchy over the superpixels under the chosen similarities."""
    count = len(leaves.sizes)
    total = 2 * count - 1
    sizes, boxes = np.empty(total, np.int32), np.empty((total, 4), np.int32)
    sizes[:count], boxes[:count] = leaves.sizes, leaves.boxes
    columns = leaves.counts.shape[1] if set(terms) & set("CT") else 0
    counts = np.empty((total, columns), np.int32)
    counts[:count] = leaves.counts[:, :columns]
    children, keys = np.empty((count - 1, 2), np.int32), np.empty(count - 1, np.int64)
    use = np.array([term in terms for term in "CTSF"])
    split = columns * 25 // 105
    native_grouping.group(
        use,
        sizes,
        boxes,
        counts,
        np.empty(counts.shape, np.uint16),
        np.full((4, total), -1, np.int32),
        split,
        leaves.pairs,
        leaves.labels.size,
        children,
        keys,
    )
    return Hierarchy(boxes, sizes, children, keys)


def hierarchies(
    image: Array, settings: SelectiveSearchSettings, threads: int
) -> Iterator[list[Found]]:
    """All strategies' hierarchies in the order in which the settings name their colour spaces.

    They come in one list, or, where memory or an early stop asks for it, in one list a colour
    space.
    """
    colours = list(dict.fromkeys(strategy.colour for strategy in settings.chosen()))
    apart = settings.stop_at is not None or image.shape[0] * image.shape[1] > TOGETHER
    waves = [[name] for name in colours] if apart else [colours]
    with _threads(threads) as each:
        for wave in waves:
            yield _wave(image, wave, settings, each)


def _wave(
    image: Array, wave: list[colour.ColourName], settings: SelectiveSearchSettings, each: Map
) -> list[Found]:
    chosen = [strategy for strategy in settings.chosen() if strategy.colour in wave]
    spaces = dict(
        zip(wave, each(lambda name: prepare(image, name, settings.sigma), wave), strict=True)
    )
    starts = list(
        dict.fromkeys((s.colour, settings.scaled_k(s), settings.least_pixels(s)) for s in chosen)
    )
    found = each(lambda start: segment(spaces[start[0]], start[1], start[2]), starts)
    leaves = dict(zip(starts, found, strict=True))

    def grouped(strategy: Strategy) -> Found:
        under = leaves[
            strategy.colour, settings.scaled_k(strategy), settings.least_pixels(strategy)
        ]
        return Found(strategy, group(under, strategy.terms), under.labels)

    return each(grouped, chosen)


@contextmanager
def _threads(count: int) -> Iterator[Map]:
    """A `map` over `count` threads that live as long as the call, so that a forked process never
    inherits any.
    """
    if count == 1:
        yield lambda function, items: [function(item) for item in items]
        return
    with ThreadPoolExecutor(count) as pool:
        yield lambda function, items: list(pool.map(function, items))
