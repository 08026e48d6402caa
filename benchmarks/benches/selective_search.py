"""Our selective search against OpenCV's: the same images in one run, by turns."""

import io
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benches.selective_search_stages import stages
from benches.timing import Table, by_turns, machine, median, read_folder, seconds
from detector.hardware import usable_cores
from detector.proposals.selective_search import SelectiveSearch, warm_up
from detector.structures import Array

# What OpenCV calls fast: three k where the paper has two, and superpixels of 100 pixels and up.
SAME_WORK = tuple(
    f"{colour}-{k}-{terms}"
    for colour in ("HSV", "Lab")
    for k in (150, 300, 450)
    for terms in ("CTSF", "TSF")
)
GROWTH = (0.1, 0.2, 0.4, 0.8, 1.6, 3.0)  # megapixels
LARGE = ((1600, 1200), (4000, 3000))

Run = Callable[[Array], int]


def measure(photographs: Path, *, images: int, rounds: int, large: bool) -> dict[str, Any]:
    """Time, threads, growth with size and stages; `large` adds pictures of 2 and 12 megapixels."""
    warm_up(lambda said: print(said, file=sys.stderr))
    chosen = read_folder(photographs, images)
    pixels = round(float(np.mean([image.shape[0] * image.shape[1] for image in chosen])))
    duels = {
        "same work, one thread, processor time": _duel(
            _same_work(1), _opencv(1), chosen, rounds, 1
        ),
        "same work, two threads, wall time": _duel(_same_work(2), _opencv(2), chosen, rounds, 0),
        "`fast`, superpixel_scale 2, two threads, wall time": _duel(
            _ours(2), _opencv(2), chosen, rounds, 0
        ),
    }
    exponent, growth = _growth(chosen[0], rounds)
    about = machine() | {
        "cores": usable_cores(),
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "images": f"{len(chosen)} of about {pixels:,} pixels",
        "rounds": rounds,
        "growth_with_pixels": f"n^{exponent}",
    }
    found_stages, floor = stages(chosen, rounds)
    tables = {"mode": duels, "threads": _scaling(chosen, rounds), "megapixels": growth,
              "stage": found_stages}  # fmt: skip
    if large:
        tables["`fast`, superpixel_scale 2"] = dict(_large(chosen[0], size) for size in LARGE)
    return {"about": about | floor, "tables": tables}


def _same_work(threads: int) -> Run:
    search = SelectiveSearch(
        strategies=SAME_WORK,
        superpixel_scale=1.0,
        min_size=100,
        min_box_side=1,  # OpenCV drops no small box
        longest_side=None,
        threads=threads,
    )
    return lambda image: len(search(image))


def _ours(threads: int, **settings: Any) -> Run:
    search = SelectiveSearch(threads=threads, longest_side=None, **settings)
    return lambda image: len(search(image))


def _opencv(threads: int) -> Run:
    def run(image: Array) -> int:
        cv2.setNumThreads(threads)
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        # OpenCV expects BGR.
        search.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))
        search.switchToSelectiveSearchFast()
        return len(search.process())

    return run


def _duel(
    ours: Run, theirs: Run, images: Sequence[Array], rounds: int, clock: int
) -> dict[str, Any]:
    """Time both on every image, by turns: medians over rounds and images, quartiles of the ratios.

    clock  0 for wall time, 1 for the processors'
    """
    times = by_turns({"ours": ours, "opencv": theirs}, images, rounds * len(images))
    of_images = {
        name: np.median(taken[:, clock].reshape(rounds, -1), 0) for name, taken in times.items()
    }
    low, middle, high = np.percentile(of_images["opencv"] / of_images["ours"], (25, 50, 75))
    return {
        "ours ms": median(1e3 * of_images["ours"], 1),
        "OpenCV ms": median(1e3 * of_images["opencv"], 1),
        "ratio": f"{middle:.1f}x",
        "quartiles": f"{low:.1f} to {high:.1f}",
    }


def _best(run: Run, image: Array, rounds: int) -> Array:
    # The least: whatever else the machine does only adds.
    return np.min([seconds(lambda: run(image)) for _ in range(rounds)], 0)


def _scaling(images: Sequence[Array], rounds: int) -> Table:
    """Milliseconds an image by number of threads: 1, 2, 4 ... up to the number of cores."""
    counts = [1 << n for n in range(usable_cores().bit_length())]
    return {
        str(threads): {
            "ms": round(
                1e3 * float(np.mean([_best(_ours(threads), i, rounds)[0] for i in images])), 1
            )
        }
        for threads in counts
    }


def _growth(photograph: Array, rounds: int) -> tuple[float, Table]:
    """Processor time of one photograph at several sizes, and the exponent of its growth."""
    run, taken = _ours(1), []
    for megapixels in GROWTH:
        factor = (megapixels * 1e6 / (photograph.shape[0] * photograph.shape[1])) ** 0.5
        width, height = (round(photograph.shape[1 - axis] * factor) for axis in (0, 1))
        taken.append(_best(run, _stretched(photograph, width, height), rounds)[1])
    slope = np.polyfit(np.log(GROWTH), np.log(taken), 1)[0]
    table = {
        str(m): {"processor ms": round(1e3 * t, 1)} for m, t in zip(GROWTH, taken, strict=True)
    }
    return round(float(slope), 3), table


def _stretched(image: Array, width: int, height: int) -> Array:
    return np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))


def _large(photograph: Array, size: tuple[int, int]) -> tuple[str, dict[str, Any]]:
    """One enlarged photograph at full resolution; OpenCV only where it ends within minutes."""
    image = _stretched(photograph, *size)
    ours = seconds(lambda: _ours(2)(image))[0]
    row: dict[str, Any] = {"ours s": round(ours, 2), "ours MB": _peak_megabytes(photograph, size)}
    if image.shape[0] * image.shape[1] < 3_000_000:
        theirs = seconds(lambda: _opencv(2)(image))[0]
        row |= {"OpenCV s": round(theirs, 2), "ratio": f"{theirs / ours:.1f}x"}
    return f"{size[0]} x {size[1]}", row


_CHILD = """
import io, resource, sys
import numpy as np
from benches.selective_search import _ours, _stretched
image = _stretched(np.load(io.BytesIO(sys.stdin.buffer.read())), {width}, {height})
_ours(2)(image)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def _peak_megabytes(photograph: Array, size: tuple[int, int]) -> int:
    # In a process of its own: the largest so far includes what else this one did.
    data = io.BytesIO()
    np.save(data, photograph)
    child = _CHILD.format(width=size[0], height=size[1])
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", child],
        input=data.getvalue(), stdout=subprocess.PIPE, check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    return int(done.stdout)
