"""All kernels ready: loaded from the disk or, once on a machine, compiled by two processes that
share the work (a compiler of Python holds the interpreter's lock, so that threads would not).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numba.core.sigutils import normalize_signature

from detector.compiled import kept_on_disk, kernels_of, on_disk
from detector.hardware import usable_cores
from detector.proposals.selective_search.engine import hierarchies
from detector.proposals.selective_search.native import filters, grouping, regions
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.superpixels import prepare, segment
from detector.proposals.selective_search.workspace import Shelf

APART = {
    grouping.group: "boolean[::1], int32[::1], int32[:,::1], int32[:,::1], uint16[:,::1],"
    " int32[:,::1], int64, int64[::1], int64, int32[:,::1], int64[::1]",
    filters.texture_codes: "uint8[:,:,::1], int32[::1], int32[::1], boolean, int64, int32[::1],"
    " int32[::1], int16[:,:,::1], uint8[:,:,::1]",
    regions.histograms: "int32[:,::1], uint8[:,:,::1], uint8[:,:,::1], int32[:,::1], int32[:,::1]",
}
"""What the second process compiles, and for which arguments: those of every call."""
ROOM = "detector.proposals.selective_search"


def warm_up(announce: Callable[[str], None] | None = None) -> None:
    """Load or compile all kernels now. `announce` is told, in a sentence, if they have to be
    compiled.
    """
    missing = not on_disk(kernels_of(ROOM))
    if missing and announce is not None:
        announce("compiling selective search for this machine, once: a few seconds")
    pixels = np.arange(24 * 24 * 3, dtype=np.uint32).reshape(24, 24, 3) * 97 % 251
    image, shelf = pixels.astype(np.uint8), Shelf()
    if missing:
        with _helper(), shelf.borrowed() as room, shelf.borrowed() as own:
            segment(prepare(image, "RGB", 0.8, room), 50, 50, own)
    list(hierarchies(image, SelectiveSearchSettings(preset="single"), 1, shelf))


def compile_apart() -> None:
    """The second process's share."""
    for one, arguments in APART.items():
        # As a tuple of types, which is how a call asks the cache: a text is kept under another key.
        one.compile(tuple(normalize_signature(f"({arguments})")[0]))


@contextmanager
def _helper() -> Iterator[None]:
    """A process that compiles its share meanwhile, where there is a core for it and a disk that
    hands over the result; whatever it leaves undone is compiled here.
    """
    if usable_cores() < 2 or not sys.executable or not kept_on_disk(list(APART)):
        yield
        return
    program = f"from {__name__} import compile_apart; compile_apart()"
    paths = os.pathsep.join(path for path in sys.path if path)
    helper = None
    with contextlib.suppress(OSError):
        helper = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
    try:
        yield
    finally:
        if helper is not None:
            helper.wait()
