"""The compiled pipeline from one image to the hierarchies of all strategies, in parallel threads.

Shared results are computed once: planes, common joins, textures and histograms for a colour space;
superpixels and neighbours for a colour space and a k. The threads run kernels that release the GIL;
each writes only its own arrays, so their number changes nothing but the time.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from detector.jit import kernels_of, on_disk
from detector.proposals.selective_search.colour import ColourName
from detector.proposals.selective_search.grouping import Hierarchy
from detector.proposals.selective_search.numba import grouping as numba_grouping
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.strategies import Strategy
from detector.proposals.selective_search.superpixels import (
    ColourSpace,
    Parts,
    Segments,
    Superpixels,
    describe,
    divide,
    prepare,
    segment,
)
from detector.proposals.selective_search.workspace import BufferPool
from detector.structures import Array

# Above this many pixels the colour spaces are computed one at a time, to bound the memory.
TOGETHER = 1_000_000
# Above this many pixels the segmentations of the values of k run one at a time as well.
ABREAST = 6_000_000

# function, keys -> its results by key
Map = Callable[[Callable[[Any], Any], Sequence[Any]], dict[Any, Any]]


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
    # Size and fill read no histograms: with no columns none are added up at the merges.
    columns = leaves.counts.shape[1] if set(terms) & set("CT") else 0
    counts = np.empty((total, columns), np.int32)
    counts[:count] = leaves.counts[:, :columns]
    children, keys = np.empty((count - 1, 2), np.int32), np.empty(count - 1, np.int64)
    use = np.array([term in terms for term in "CTSF"])
    split = columns * 25 // 105  # of each plane's 25 + 8 * 10 bins, the 25 of colour come first
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
    colours: list[ColourName],
    settings: SelectiveSearchSettings,
    each: Map,
    buffer_pool: BufferPool,
) -> list[StrategyResult]:
    # Stage by stage: the jobs of a stage need nothing of each other, so they run in parallel.
    chosen = [strategy for strategy in settings.chosen() if strategy.colour in colours]
    start_of = {
        strategy: (strategy.colour, settings.scaled_k(strategy), settings.least_pixels(strategy))
        for strategy in chosen
    }
    # Strategies that differ only in their similarities have the same superpixels.
    starts = list(dict.fromkeys(start_of.values()))
    with ExitStack() as stack:
        workspaces = {name: stack.enter_context(buffer_pool.borrowed()) for name in colours}

        def prepare_for_all(name: ColourName) -> ColourSpace:
            ks = [k for space, k, _ in starts if space == name]
            return prepare(image, name, settings.sigma, ks, workspaces[name])

        spaces = each(prepare_for_all, colours)

        def segment_from(start: tuple[ColourName, int, int]) -> Segments:
            with buffer_pool.borrowed() as buffers:
                return segment(spaces[start[0]], *start[1:], buffers)

        def divide_space(name: ColourName) -> Parts:
            found = [segments[start] for start in starts if start[0] == name]
            return divide(spaces[name], found, workspaces[name])

        def describe_segments(start: tuple[ColourName, int, int]) -> Superpixels:
            superpixels = describe(segments[start], parts[start[0]])
            return superpixels._replace(
                labels=_compact(superpixels.labels, segments[start].regions)
            )

        wide = image.shape[0] * image.shape[1] > ABREAST
        segments = (_one_by_one if wide else each)(segment_from, starts)
        parts = each(divide_space, colours)
        leaves = each(describe_segments, starts)

    def group_job(strategy: Strategy) -> StrategyResult:
        superpixels = leaves[start_of[strategy]]
        return StrategyResult(strategy, group(superpixels, strategy.terms), superpixels.labels)

    return list(each(group_job, chosen).values())


def _compact(labels: Array, regions: int) -> Array:
    # Labels live as long as the result, so they take half the memory where they fit.
    return labels.astype(np.uint16) if regions <= 1 << 16 else labels


def _one_by_one(function: Callable[[Any], Any], keys: Sequence[Any]) -> dict[Any, Any]:
    return {key: function(key) for key in keys}


@contextmanager
def _threads(count: int) -> Iterator[Map]:
    # The threads end with the call, so that a later fork never inherits any.
    if count == 1:
        yield _one_by_one
        return
    with ThreadPoolExecutor(count) as pool:
        yield lambda function, keys: dict(zip(keys, pool.map(function, keys), strict=True))


def warm_up(announce: Callable[[str], None] | None = None) -> None:
    """Load all kernels from disk or, once on a machine, compile them.

    `announce` is called with a sentence if they have to be compiled.
    """
    if announce is not None and not on_disk(kernels_of("detector.proposals.selective_search")):
        announce("compiling selective search for this machine, once: about 10 s")
    # A tiny image of many colours passes through every kernel; each has one signature only.
    pixels = np.arange(24 * 24 * 3, dtype=np.uint32).reshape(24, 24, 3) * 97 % 251
    # Two k, since what divides the regions of several is not called for one.
    settings = SelectiveSearchSettings(strategies=("HSV-50-CTSF", "HSV-100-CTSF"))
    list(hierarchies(pixels.astype(np.uint8), settings, 1, BufferPool()))
