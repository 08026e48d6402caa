"""Timing, and the layout of figures, of all benchmarks.

A benchmark's figures are {"about": {name: value}, "tables": {title: {row: {column: value}}}}. Ways
are run by turns, so that a machine that gets busy slows all of them, and compared by their ratios.
"""

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import ImageError
from detector.images.decoding import read_image
from detector.structures import Array

Ways = Mapping[str, Callable[[Any], object]]
Table = dict[str, dict[str, Any]]


def clocks() -> tuple[float, float]:
    """Wall time, and this process's time on all processors, in seconds."""
    return time.perf_counter(), time.process_time()


def seconds(run: Callable[[], object]) -> Array:
    """Wall and processor seconds (2,) of one call."""
    before = clocks()
    run()
    return np.subtract(clocks(), before)


def by_turns(ways: Ways, inputs: Sequence[Any], rounds: int) -> dict[str, Array]:
    """Wall and processor seconds (rounds, 2) of each way, on the next of `inputs` each round."""
    for way in ways.values():  # kernels are compiled, buffers filled
        way(inputs[0])
    times = {name: np.zeros((rounds, 2)) for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            value = inputs[number % len(inputs)]
            times[name][number] = seconds(lambda way=way, value=value: way(value))  # type: ignore[misc]
    return times


def median(values: Array, digits: int = 2) -> float:
    return round(float(np.median(values)), digits)


def machine() -> dict[str, str]:
    # processor() is empty on some systems.
    return {"processor": platform.processor() or platform.machine()}


def read_folder(folder: Path, most: int | None = None) -> list[Array]:
    """The photographs of a folder, or `most` of them, evenly spaced. Raises ImageError."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise ImageError(f"no .jpg or .png in {folder}; give a folder of them with --photographs")
    step = 1 if most is None else max(1, len(paths) // most)
    return [np.ascontiguousarray(read_image(path)) for path in paths[::step][:most]]


def markdown(figures: dict[str, Any]) -> str:
    """The figures as a list and tables in Markdown."""
    lines = [f"- {name.replace('_', ' ')}: {value}" for name, value in figures["about"].items()]
    for title, table in figures["tables"].items():
        columns = list(dict.fromkeys(column for row in table.values() for column in row))
        lines += ["", _row([title, *columns]), "|---" * (len(columns) + 1) + "|"]
        lines += [
            _row([name, *(row.get(column, "") for column in columns)])
            for name, row in table.items()
        ]
    return "\n".join(lines)


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
