"""The compiled pipeline from one image to the hierarchies of all strategies, in parallel threads.

What strategies have in common is computed once: planes, sorted edges and textures for a colour
space; superpixels, neighbours and histograms for a colour space and a k. The threads run kernels
that release the GIL; each writes only its own arrays, so their number changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from detector.proposals.selective_search.colour import ColourName
from detector.proposals.selective_search.grouping import Hierarchy
from detector.proposals.selective_search.numba import grouping as native_grouping
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.strategies import Strategy
from detector.proposals.selective_search.superpixels import (
    Superpixels,
    describe,
    prepare,
    segment,
    textures,
)
from detector.proposals.selective_search.workspace import BufferPool
from detector.structures import Array

TOGETHER = 1_000_000
"""Images of more pixels than this take their colour spaces one after the other, to bound memory."""
ABREAST = 6_000_000
"""And of more than this, their k as well."""

Map = Callable[[Callable[..., Any], list[Any]], list[Any]]


class Found(NamedTuple):
    """One strategy's result: its hierarchy over the superpixels `labels`, (H, W) integers."""

    strategy: Strategy
    hierarchy: Hierarchy
    labels: Array


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
    image: Array, settings: SelectiveSearchSettings, threads: int, shelf: BufferPool
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
            yield _wave(image, wave, settings, each, shelf)


def _wave(
    image: Array,
    wave: list[ColourName],
    settings: SelectiveSearchSettings,
    each: Map,
    shelf: BufferPool,
) -> list[Found]:
    chosen = [strategy for strategy in settings.chosen() if strategy.colour in wave]
    starts = [(s.colour, settings.scaled_k(s), settings.least_pixels(s)) for s in chosen]
    distinct = list(dict.fromkeys(starts))
    with ExitStack() as room:
        rooms = [room.enter_context(shelf.borrowed()) for _ in wave]
        spaces = dict(
            zip(
                wave,
                each(
                    lambda one: prepare(image, one[0], settings.sigma, one[1]),
                    list(zip(wave, rooms, strict=True)),
                ),
                strict=True,
            )
        )

        def segmented(start: tuple[ColourName, int, int]) -> tuple[Array, int]:
            with shelf.borrowed() as own:
                return segment(spaces[start[0]], start[1], start[2], own)

        def described(one: tuple[tuple[ColourName, int, int], tuple[Array, int]]) -> Superpixels:
            (name, _, _), (labels, count) = one
            with shelf.borrowed() as own:
                found = describe(spaces[name].planes, codes[name], labels, count, own)
            return found._replace(labels=_compact(labels, count))

        wide = image.shape[0] * image.shape[1] > ABREAST
        labels = [segmented(start) for start in distinct] if wide else each(segmented, distinct)
        spaced = list(zip(spaces.values(), rooms, strict=True))
        codes = dict(zip(wave, each(lambda one: textures(*one), spaced), strict=True))
        found = each(described, list(zip(distinct, labels, strict=True)))
        leaves = dict(zip(distinct, found, strict=True))

    def grouped(one: tuple[Strategy, tuple[ColourName, int, int]]) -> Found:
        strategy, start = one
        return Found(strategy, group(leaves[start], strategy.terms), leaves[start].labels)

    return each(grouped, list(zip(chosen, starts, strict=True)))


def _compact(labels: Array, regions: int) -> Array:
    """The same numbers in half the memory, where they fit: they stay as long as the result does."""
    return labels.astype(np.uint16) if regions <= 1 << 16 else labels


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
