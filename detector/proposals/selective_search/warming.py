"""Warm-up of the kernels: load them from disk or, once on a machine, compile them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detector.jit import kernels_of, on_disk
from detector.proposals.selective_search.engine import hierarchies
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.workspace import BufferPool

ROOM = "detector.proposals.selective_search"


def warm_up(announce: Callable[[str], None] | None = None) -> None:
    """Load or compile all kernels now.

    `announce` is called with a sentence if they have to be compiled.
    """
    if announce is not None and not on_disk(kernels_of(ROOM)):
        announce("compiling selective search for this machine, once: about 10 s")
    pixels = np.arange(24 * 24 * 3, dtype=np.uint32).reshape(24, 24, 3) * 97 % 251
    list(
        hierarchies(
            pixels.astype(np.uint8), SelectiveSearchSettings(preset="single"), 1, BufferPool()
        )
    )
