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
from detector.proposals.selective_search.native import grouping as native_grouping
from detector.proposals.selective_search.native import regions as native_regions
from detector.proposals.selective_search.native import segmentation as native_segmentation
from detector.proposals.selective_search.native import texture as native_texture
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
    """Planes, texture codes and sorted edges of one colour space."""
    height, width = image.shape[:2]
    hue = colour.SPACES[name].hue
    planes = planes_of(image, name)
    codes = np.empty((4 * len(planes), height, width), np.uint8)
    bell = filters.gaussian(filters.TEXTURE_SIGMA)
    slope = filters.gaussian_derivative(filters.TEXTURE_SIGMA)
    native_texture.texture_codes(planes, bell, slope, hue, similarity.texture_scale(), codes)
    weights = np.empty((4, height, width), np.uint16)
    native_segmentation.edge_weights(planes, filters.gaussian(sigma), hue, weights)
    ids, keys = np.empty(weights.size, np.uint32), np.empty(weights.size, np.uint16)
    starts, limits = native_segmentation.banded_edges(weights, ids, keys)
    return ColourSpace(planes, codes, weights, ids, keys, starts, limits)


def segment(space: ColourSpace, k: int, min_size: int) -> Superpixels:
    """Superpixels of one colour space for one k (in 1/128 grey levels), with all that grouping
    needs of them.
    """
    labels = np.empty(space.planes.shape[1:], np.int32)
    count = native_segmentation.segment(
        space.weights,
        space.ids,
        space.keys,
        space.starts,
        space.limits,
        k,
        min_size,
        labels,
    )
    sizes, boxes = np.empty(count, np.int32), np.empty((count, 4), np.int32)
    native_regions.outline(labels, sizes, boxes)
    counts = np.empty((count, len(space.planes) * 105), np.int32)
    native_regions.histograms(labels, space.planes, space.codes, counts)
    return Superpixels(labels, sizes, boxes, counts, native_regions.neighbours(labels, count))


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
        use, sizes, boxes, counts, split, leaves.pairs, leaves.labels.size, children, keys
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
