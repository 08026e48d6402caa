"""How a function becomes a compiled kernel: without the interpreter's lock, kept on disk where the
disk allows it.

No fast-math and no threads of numba's own: the same numbers everywhere, and callers may use their
own threads.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable
from typing import Any

import numba.core.boxing
import numba.core.runtime.context  # noqa: F401  (imported at the first call otherwise; see below)
from numba import njit
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

# What numba imports at the first call of any kernel, scipy's OpenBLAS among it, comes now: before
# photographs are in memory and not in a thread. Without memory OpenBLAS waits for ever for some.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()

_ROOM_BYTES = 128 << 20
"""More than loading or compiling one kernel takes."""

KERNELS: list[Any] = []
"""Every kernel that has been imported, in the order of definition."""


class _ForgivingCache(FunctionCache):
    """A cache that is merely useless where its folder cannot be read or written, or is damaged."""

    def load_overload(self, *arguments: Any) -> Any:
        _need_room()
        try:
            return super().load_overload(*arguments)
        except Exception:  # whatever a damaged pickle raises: compile again
            return None

    def save_overload(self, *arguments: Any) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            super().save_overload(*arguments)


def _need_room() -> None:
    """Raises MemoryError where there is too little memory left for a kernel: LLVM, which is about
    to load or to compile it, ends the process without a word.
    """
    try:
        mmap.mmap(-1, _ROOM_BYTES).close()
    except OSError:
        raise MemoryError from None


def inner(function: Callable[..., Any]) -> Any:
    """Compile as a part of the kernels that call it."""
    bare: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(nogil=True, error_model="numpy", **bare)(function)


def kernel(function: Callable[..., Any], *, fastmath: bool = False) -> Any:
    """Compile on first use; the result is kept beside the source or in the user's cache folder."""
    dispatcher: Any = njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
    with contextlib.suppress(RuntimeError):  # no folder to write to: every process compiles
        dispatcher._cache = _ForgivingCache(function)
    KERNELS.append(dispatcher)
    return dispatcher


def kernels_of(room: str) -> list[Any]:
    """The imported kernels of one module or package, such as "detector.crops.warp_numba"."""
    return [one for one in KERNELS if f"{one.py_func.__module__}.".startswith(f"{room}.")]


def on_disk(kernels: list[Any] | None = None) -> bool:
    """Whether all kernels (imported so far) are in memory already, or can be loaded instead of
    compiled.
    """
    return all(one.signatures or _stored(one) for one in (KERNELS if kernels is None else kernels))


def _stored(dispatcher: Any) -> bool:
    try:
        return bool(dispatcher._cache._cache_file._load_index())
    except Exception:  # no cache, or another numba's internals: say "not stored"
        return False
