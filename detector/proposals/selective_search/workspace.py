"""Reused buffers: fresh pages from the system would cost a fifth of the time."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from detector.structures import Array

LARGEST = 64 * 1024 * 1024  # workspaces of more bytes are freed after use


class Workspace:
    """Uninitialised arrays by name; an array is valid until its name is requested again."""

    def __init__(self) -> None:
        self._held: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...] | int, dtype: npt.DTypeLike) -> Array:
        shape = (shape,) if isinstance(shape, int) else shape
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = self._held.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._held[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(shape)

    def size(self) -> int:
        """Bytes of all buffers."""
        return sum(len(held) for held in self._held.values())


class BufferPool:
    """Pool of idle workspaces, safe to share between threads."""

    def __init__(self) -> None:
        self._free: list[Workspace] = []

    @contextmanager
    def borrowed(self) -> Iterator[Workspace]:
        try:
            workspace = self._free.pop()  # atomic in CPython, so threads need no lock
        except IndexError:
            workspace = Workspace()
        yield workspace
        if workspace.size() <= LARGEST:
            self._free.append(workspace)

    def __getstate__(self) -> dict[str, object]:
        return {"_free": []}  # a searcher travels to another process without its memory
