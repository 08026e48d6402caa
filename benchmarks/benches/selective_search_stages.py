"""The time of each stage of selective search, and the floor below its largest part.

The floor of the segmentation: for each colour space every edge is read once (a number of four bytes
and a weight of two), and both its ends' components are looked up, through the pixel's number and
the component's name: four reads at random from tables that fit a core's cache. That is what remains
of Felzenszwalb-Huttenlocher's method if sorting, joining, all but one k and the rest cost nothing.
"""

import cProfile
import pstats
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benches.timing import Table, seconds
from detector.proposals.selective_search import SelectiveSearch
from detector.structures import Array

# Python functions by what they do. `prepare` contains the two above it, `divide` `_textures`.
STAGES = {
    "planes_of": "colour planes",
    "_condensed": "segmentation, what all k share",
    "prepare": "smoothing, edge weights",
    "segment": "segmentation, each k",
    "_textures": "texture",
    "divide": "histograms",
    "describe": "boxes, neighbours, histograms of each k",
    "group": "grouping",
    "_rank": "ranking",
}
EDGES = 4  # of a pixel: to the right, and the three below
LOOKUPS = 4
BYTES = 6


def stages(images: Sequence[Array], rounds: int) -> tuple[Table, dict[str, Any]]:
    """Nanoseconds a pixel of each stage of the doubled fast mode on one thread, and the floor."""
    search = SelectiveSearch(longest_side=None, threads=1)
    for image in images:  # kernels are compiled, buffers filled
        search(image)
    profile = cProfile.Profile(time.process_time)
    for _ in range(rounds):
        for image in images:
            profile.runcall(search, image)
    pixels = rounds * sum(image.shape[0] * image.shape[1] for image in images)
    times = dict.fromkeys(STAGES, 0.0)
    for (file, _, name), row in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if name in times and "selective_search" in file and "numba" not in file:
            times[name] += 1e9 * row[3] / pixels  # 3: seconds with what it calls
    times["prepare"] -= times["planes_of"] + times["_condensed"]
    times["divide"] -= times["_textures"]
    chosen = search.settings.chosen()
    colours = len({s.colour for s in chosen})
    size = int(np.mean([image.shape[0] * image.shape[1] for image in images]))
    lookup, read = _lookup_ns(size), _read_ns_a_byte(size)
    floor = colours * EDGES * (LOOKUPS * lookup + BYTES * read)
    table = {STAGES[name]: {"ns a pixel": round(value, 1)} for name, value in times.items()}
    return table, {
        "colour_spaces": colours,
        "segmentations": len({(s.colour, s.k) for s in chosen}),
        "lookup_ns": round(lookup, 2),
        "floor_of_segmentation_ns_a_pixel": round(floor, 1),
        "segmentation_over_floor": round((times["_condensed"] + times["segment"]) / floor, 2),
    }


def _lookup_ns(size: int) -> float:
    rng = np.random.default_rng(0)
    table, out = np.arange(size, dtype=np.uint32), np.empty(size, np.uint32)
    # Neighbours are near each other in an image: places wander by a row or so.
    place = np.clip(np.arange(size) + rng.integers(-600, 600, size), 0, size - 1)
    return _best_ns(lambda: np.take(table, place, out=out, mode="clip")) / size


def _read_ns_a_byte(size: int) -> float:
    data = np.ones(EDGES * BYTES * size, np.uint8).view(np.uint64)
    return _best_ns(data.sum) / data.nbytes


def _best_ns(run: Any) -> float:
    return 1e9 * min(float(seconds(run)[0]) for _ in range(9))
