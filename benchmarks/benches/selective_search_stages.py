"""Where selective search spends its time, and the floor below its largest part.

The floor of the segmentation: for one k every edge is read once (a number of four bytes and a
weight of two), and both its ends' components are looked up, through the pixel's number and the
component's name: four reads at random from tables that fit a core's cache. That is what remains of
Felzenszwalb-Huttenlocher's method if sorting, joining and all the rest cost nothing.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from detector.proposals.selective_search import SelectiveSearch
from detector.structures import Array

STAGES = {
    "planes_of": "colour planes",
    "prepare": "smoothing, edge weights, bands",
    "segment": "segmentation",
    "textures": "texture",
    "describe": "histograms, boxes, neighbours",
    "group": "grouping",
    "_rank": "ranking",
}
"""Python functions by what they do; `prepare` contains `planes_of`."""
EDGES = 4
"""Of a pixel: to the right, and the three below."""
LOOKUPS = 4
BYTES = 6


def stages(images: Sequence[Array], rounds: int) -> dict[str, Any]:
    """Nanoseconds a pixel of each stage of the doubled fast mode on one thread, and the floor."""
    search = SelectiveSearch(longest_side=None, threads=1)
    for image in images:
        search(image)
    profile = cProfile.Profile(time.process_time)
    for _ in range(rounds):
        for image in images:
            profile.runcall(search, image)
    pixels = rounds * sum(image.shape[0] * image.shape[1] for image in images)
    times = dict.fromkeys(STAGES, 0.0)
    for (file, _, name), row in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if name in times and "selective_search" in file and "numba" not in file:
            times[name] += 1e9 * row[3] / pixels
    times["prepare"] -= times["planes_of"]
    runs = len({(s.colour, s.k) for s in search.settings.chosen()})
    size = int(np.mean([image.shape[0] * image.shape[1] for image in images]))
    lookup, read = _lookup_ns(size), _read_ns_a_byte(size)
    floor = runs * EDGES * (LOOKUPS * lookup + BYTES * read)
    return {
        "ns_a_pixel": {STAGES[name]: round(value, 1) for name, value in times.items()},
        "segmentations": runs,
        "lookup_ns": round(lookup, 2),
        "floor_of_segmentation_ns_a_pixel": round(floor, 1),
        "segmentation_over_floor": round(times["segment"] / floor, 2),
    }


def _lookup_ns(size: int) -> float:
    """Of one independent read at random from a table of `size` numbers of four bytes."""
    rng = np.random.default_rng(0)
    table, out = np.arange(size, dtype=np.uint32), np.empty(size, np.uint32)
    # Neighbours are near each other in an image: places wander by a row or so.
    place = np.clip(np.arange(size) + rng.integers(-600, 600, size), 0, size - 1)
    return min(_timed(lambda: np.take(table, place, out=out, mode="clip")) for _ in range(9)) / size


def _read_ns_a_byte(size: int) -> float:
    data = np.ones(EDGES * BYTES * size, np.uint8).view(np.uint64)
    return min(_timed(data.sum) for _ in range(9)) / data.nbytes


def _timed(run: Any) -> float:
    start = time.perf_counter_ns()
    run()
    return float(time.perf_counter_ns() - start)


def markdown(found: dict[str, Any]) -> list[str]:
    """Lines for a page."""
    lines = ["| stage | ns a pixel |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in found["ns_a_pixel"].items()]
    return [
        *lines,
        "",
        f"Floor of the {found['segmentations']} segmentations:"
        f" {found['floor_of_segmentation_ns_a_pixel']} ns a pixel (a lookup takes"
        f" {found['lookup_ns']} ns); ours takes {found['segmentation_over_floor']} times as long.",
    ]
