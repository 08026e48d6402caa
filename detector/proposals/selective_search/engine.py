"""The compiled pipeline from one image to the hierarchies of all strategies, in parallel threads.

Shared results are computed once: planes, sorted edges and textures for a colour space; superpixels,
neighbours and histograms for a colour space and a k. The threads run kernels that release the GIL;
each writes only its own arrays, so their number changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from detector.proposals.selective_search.colour import ColourName
from detector.proposals.selective_search.grouping import Hierarchy
from detector.proposals.selective_search.numba import grouping as numba_grouping
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
"""Above this many pixels the colour spaces are computed one at a time, to bound the memory."""
ABREAST = 6_000_000
"""Above this many pixels the values of k are computed one at a time as well."""

Map = Callable[[Callable[..., Any], list[Any]], list[Any]]


class StrategyResult(NamedTuple):
    """Hierarchy of one strategy over its superpixels `labels`, (H, W) integers."""

    strategy: Strategy
    hierarchy: Hierarchy
    labels: Array


def group(leaves: Superpixels, terms: str) -> Hierarchy:
    """Group the superpixels under the chosen similarities (letters of CTSF)."""
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
    numba_grouping.group(
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
    image: Array, settings: SelectiveSearchSettings, threads: int, buffer_pool: BufferPool
) -> Iterator[list[StrategyResult]]:
    """Yield the hierarchies of all strategies, in the order of the colour spaces in the settings.

    One list holds them all; large images and an early stop (`stop_at`) give one list a colour
    space.
    """
    colours = list(dict.fromkeys(strategy.colour for strategy in settings.chosen()))
    apart = settings.stop_at is not None or image.shape[0] * image.shape[1] > TOGETHER
    waves = [[name] for name in colours] if apart else [colours]
    with _threads(threads) as each:
        for wave in waves:
            yield _wave(image, wave, settings, each, buffer_pool)


def _wave(
    image: Array,
    wave: list[ColourName],
    settings: SelectiveSearchSettings,
    each: Map,
    buffer_pool: BufferPool,
) -> list[StrategyResult]:
    chosen = [strategy for strategy in settings.chosen() if strategy.colour in wave]
    starts = [(s.colour, settings.scaled_k(s), settings.least_pixels(s)) for s in chosen]
    distinct = list(dict.fromkeys(starts))
    with ExitStack() as stack:
        workspaces = [stack.enter_context(buffer_pool.borrowed()) for _ in wave]
        spaces = dict(
            zip(
                wave,
                each(
                    lambda pair: prepare(image, pair[0], settings.sigma, pair[1]),
                    list(zip(wave, workspaces, strict=True)),
                ),
                strict=True,
            )
        )

        def segment_start(start: tuple[ColourName, int, int]) -> tuple[Array, int]:
            with buffer_pool.borrowed() as buffers:
                return segment(spaces[start[0]], start[1], start[2], buffers)

        def describe_segments(
            segmentation: tuple[tuple[ColourName, int, int], tuple[Array, int]],
        ) -> Superpixels:
            (name, _, _), (labels, count) = segmentation
            with buffer_pool.borrowed() as buffers:
                superpixels = describe(spaces[name].planes, codes[name], labels, count, buffers)
            return superpixels._replace(labels=_compact(labels, count))

        wide = image.shape[0] * image.shape[1] > ABREAST
        labels = (
            [segment_start(start) for start in distinct] if wide else each(segment_start, distinct)
        )
        spaced = list(zip(spaces.values(), workspaces, strict=True))
        codes = dict(zip(wave, each(lambda pair: textures(*pair), spaced), strict=True))
        all_superpixels = each(describe_segments, list(zip(distinct, labels, strict=True)))
        leaves = dict(zip(distinct, all_superpixels, strict=True))

    def group_job(job: tuple[Strategy, tuple[ColourName, int, int]]) -> StrategyResult:
        strategy, start = job
        return StrategyResult(strategy, group(leaves[start], strategy.terms), leaves[start].labels)

    return each(group_job, list(zip(chosen, starts, strict=True)))


def _compact(labels: Array, regions: int) -> Array:
    """Store labels as uint16 where they fit: they live as long as the result."""
    return labels.astype(np.uint16) if regions <= 1 << 16 else labels


@contextmanager
def _threads(count: int) -> Iterator[Map]:
    """Yield a `map` over `count` threads, which end with the call: a fork never inherits any."""
    if count == 1:
        yield lambda function, items: [function(item) for item in items]
        return
    with ThreadPoolExecutor(count) as pool:
        yield lambda function, items: list(pool.map(function, items))
