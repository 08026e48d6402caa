"""Selective search, ours against OpenCV's: the same images in one run, by turns."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benches.selective_search_stages import markdown as stages_table
from benches.selective_search_stages import stages
from detector.errors import ImageError
from detector.hardware import usable_cores
from detector.images.decoding import read_image
from detector.proposals.selective_search import SelectiveSearch, warm_up
from detector.structures import Array

SAME_WORK = tuple(
    f"{colour}-{k}-{terms}"
    for colour in ("HSV", "Lab")
    for k in (150, 300, 450)
    for terms in ("CTSF", "TSF")
)
"""What OpenCV calls fast: three k where the paper has two, and superpixels of 100 pixels and up."""
GROWTH = (0.1, 0.2, 0.4, 0.8, 1.6, 3.0)
"""Megapixels."""
LARGE = ((1600, 1200), (4000, 3000))

Run = Callable[[Array], int]


def measure(photographs: Path, *, images: int, rounds: int, large: bool) -> dict[str, Any]:
    """All figures of the table in docs/figures.md. `large` adds pictures of 2 and 12 megapixels."""
    import cv2

    warm_up(lambda said: print(said, file=sys.stderr))
    chosen = _read(photographs, images)
    found: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "images": f"{len(chosen)} of about {round(_megapixels(chosen) * 1e6):,} pixels",
        "rounds": rounds,
        "same_work_one_thread": _duel(_same_work(1), _opencv(1), chosen, rounds),
        "same_work_two_threads": _duel(_same_work(2), _opencv(2), chosen, rounds),
        "fast_doubled_two_threads": _duel(_ours(2), _opencv(2), chosen, rounds),
        "threads": _scaling(chosen, rounds),
        "growth": _growth(chosen[0], rounds),
        "stages": stages(chosen, rounds),
    }
    if large:
        found["large"] = [_large(chosen[0], size) for size in LARGE]
    return found


def _read(folder: Path, count: int) -> list[Array]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    if not paths:
        raise ImageError(f"{folder} holds no .jpg or .png photographs; name a folder that does")
    step = max(1, len(paths) // count)
    return [np.ascontiguousarray(read_image(path)) for path in paths[::step][:count]]


def _megapixels(images: Sequence[Array]) -> float:
    return statistics.mean(image.shape[0] * image.shape[1] for image in images) / 1e6


def _same_work(threads: int) -> Run:
    search = SelectiveSearch(
        strategies=SAME_WORK,
        superpixel_scale=1.0,
        min_size=100,
        min_box_side=1,
        longest_side=None,
        threads=threads,
    )
    return lambda image: len(search(image))


def _ours(threads: int, **settings: Any) -> Run:
    search = SelectiveSearch(threads=threads, longest_side=None, **settings)
    return lambda image: len(search(image))


def _opencv(threads: int) -> Run:
    import cv2

    def run(image: Array) -> int:
        cv2.setNumThreads(threads)
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))
        search.switchToSelectiveSearchFast()
        return len(search.process())

    return run


def _timed(run: Run, image: Array) -> tuple[float, float, int]:
    """Wall and processor seconds, and the number of boxes."""
    wall, processor = time.perf_counter(), time.process_time()
    boxes = run(image)
    return time.perf_counter() - wall, time.process_time() - processor, boxes


def _duel(ours: Run, theirs: Run, images: Sequence[Array], rounds: int) -> dict[str, Any]:
    """Both on every image, by turns: medians over rounds and images, quartiles of the ratios."""
    rows = []
    for image in images:
        ours(image)
        turns = [(_timed(ours, image), _timed(theirs, image)) for _ in range(rounds)]
        rows.append(
            [
                statistics.median(turn[who][what] for turn in turns)
                for who in (0, 1)
                for what in range(3)
            ]
        )
    table = np.array(rows)
    return {
        "ours_wall_ms": _ms(table[:, 0]),
        "opencv_wall_ms": _ms(table[:, 3]),
        "ours_cpu_ms": _ms(table[:, 1]),
        "opencv_cpu_ms": _ms(table[:, 4]),
        "wall_ratio": _quartiles(table[:, 3] / table[:, 0]),
        "cpu_ratio": _quartiles(table[:, 4] / table[:, 1]),
        "ours_boxes": round(float(table[:, 2].mean())),
        "opencv_boxes": round(float(table[:, 5].mean())),
    }


def _ms(seconds: Array) -> float:
    return round(1e3 * float(np.median(seconds)), 1)


def _quartiles(ratios: Array) -> dict[str, float]:
    low, middle, high = np.percentile(ratios, (25, 50, 75)).round(2).tolist()
    return {"median": middle, "low_quartile": low, "high_quartile": high}


def _scaling(images: Sequence[Array], rounds: int) -> dict[str, float]:
    """Milliseconds an image by number of threads: 1, 2, 4 ... up to the number of cores."""
    found = {}
    threads = 1
    while threads <= usable_cores():
        runs = [_best(_ours(threads), image, rounds) for image in images]
        found[str(threads)] = round(1e3 * statistics.mean(runs), 1)
        threads *= 2
    return found


def _best(run: Run, image: Array, rounds: int) -> float:
    return min(_timed(run, image)[0] for _ in range(rounds))


def _growth(photograph: Array, rounds: int) -> dict[str, Any]:
    """Processor time of one photograph at several sizes, and the exponent of its growth."""
    run = _ours(1)
    seconds = []
    for megapixels in GROWTH:
        image = _resized(photograph, megapixels)
        seconds.append(min(_timed(run, image)[1] for _ in range(rounds)))
    slope = np.polyfit(np.log(GROWTH), np.log(seconds), 1)[0]
    return {
        "megapixels": list(GROWTH),
        "cpu_ms": [round(1e3 * one, 1) for one in seconds],
        "exponent": round(float(slope), 3),
    }


def _resized(image: Array, megapixels: float) -> Array:
    factor = (megapixels * 1e6 / (image.shape[0] * image.shape[1])) ** 0.5
    return _stretched(image, round(image.shape[1] * factor), round(image.shape[0] * factor))


def _stretched(image: Array, width: int, height: int) -> Array:
    import cv2

    return np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))


def _large(photograph: Array, size: tuple[int, int]) -> dict[str, Any]:
    """One enlarged photograph at full resolution; OpenCV only where it ends within minutes."""
    image = _stretched(photograph, *size)
    wall, _, boxes = _timed(_ours(2), image)
    row: dict[str, Any] = {
        "size": f"{size[0]} x {size[1]}",
        "ours_wall_s": round(wall, 2),
        "ours_boxes": boxes,
        "ours_peak_mb": _peak_megabytes(photograph, size),
    }
    if image.shape[0] * image.shape[1] < 3_000_000:
        same = _timed(_same_work(2), image)[0]
        theirs = _timed(_opencv(2), image)[0]
        row |= {
            "same_work_wall_s": round(same, 2),
            "opencv_wall_s": round(theirs, 2),
            "same_work_ratio": round(theirs / same, 1),
            "fast_doubled_ratio": round(theirs / wall, 1),
        }
    return row


_CHILD = """
import io, resource, sys
import numpy as np
from benches.selective_search import _ours, _stretched
image = _stretched(np.load(io.BytesIO(sys.stdin.buffer.read())), {width}, {height})
_ours(2)(image)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def _peak_megabytes(photograph: Array, size: tuple[int, int]) -> int:
    """Largest resident memory of a process of its own that searches the enlarged photograph."""
    import io

    data = io.BytesIO()
    np.save(data, photograph)
    child = _CHILD.format(width=size[0], height=size[1])
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", child],
        input=data.getvalue(),
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    return int(done.stdout)


def markdown(path: Path) -> str:
    """The table of docs/figures.md from the figures in benchmarks/selective_search.json."""
    found = json.loads(path.read_text())
    lines = [
        f"{found['images']}, {found['cores']} cores, OpenCV {found['opencv']}",
        "",
        "| | ours | OpenCV | ratio (quartiles) |",
        "|---|---|---|---|",
    ]
    one, two = found["same_work_one_thread"], found["same_work_two_threads"]
    doubled = found["fast_doubled_two_threads"]
    lines += [
        _row("same work, one thread, processor time", one, "cpu"),
        _row("same work, two threads, wall time", two, "wall"),
        _row("`fast`, superpixel_scale 2, two threads, wall time", doubled, "wall"),
    ]
    for row in found.get("large", []):
        theirs = f"{row['opencv_wall_s']} s" if "opencv_wall_s" in row else "not waited for"
        ratio = f"{row['fast_doubled_ratio']}x" if "opencv_wall_s" in row else ""
        lines.append(
            f"| `fast`, superpixel_scale 2, {row['size']} | {row['ours_wall_s']} s, "
            f"{row['ours_peak_mb']} MB | {theirs} | {ratio} |"
        )
    by_threads = ", ".join(f"{ms} ms on {n}" for n, ms in found["threads"].items())
    growth = found["growth"]
    lines += [
        "",
        f"Threads: {by_threads}. Growth with pixels from {growth['megapixels'][0]} to "
        f"{growth['megapixels'][-1]} megapixels: n^{growth['exponent']}.",
        "",
        *stages_table(found["stages"]),
    ]
    return "\n".join(lines)


def _row(name: str, row: dict[str, Any], kind: str) -> str:
    ratio = row[f"{kind}_ratio"]
    return (
        f"| {name} | {row[f'ours_{kind}_ms']} ms | {row[f'opencv_{kind}_ms']} ms | "
        f"**{ratio['median']}x** ({ratio['low_quartile']} to {ratio['high_quartile']}) |"
    )
