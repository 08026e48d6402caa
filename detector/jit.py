"""Compilation of kernels by numba: without the GIL, cached on disk where that is possible.

Without fast-math (unless a kernel asks for it) and without numba's own threads: results are the
same everywhere, and callers may use their own threads.
"""

import contextlib
import mmap
from collections.abc import Callable
from typing import Any

import numba.core.boxing
import numba.core.runtime.context  # noqa: F401  (imported at the first call otherwise; see below)
from numba import njit
from numba.core.caching import FunctionCache, NullCache
from numba.core.registry import cpu_target

# Import now what numba would import at the first call of any kernel, scipy's OpenBLAS among it:
# that call may come from a thread and when memory is short, where OpenBLAS waits for it for ever.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()

# More than loading or compiling one kernel takes.
_ROOM_BYTES = 128 << 20

# Gets a sentence before the first kernel is compiled that no cache holds; a command sets it.
when_compiling: Callable[[str], None] | None = None
# All imported kernels, in the order of definition.
KERNELS: list[Any] = []


# Skipped where its folder cannot be read or written, or is damaged: only time is lost.
class _ForgivingCache(FunctionCache):
    def load_overload(self, *arguments: Any) -> Any:
        _need_room()
        found = None
        with contextlib.suppress(Exception):  # whatever a damaged pickle raises: compile again
            found = super().load_overload(*arguments)
        if found is None:
            _say_compiling()
        return found

    def save_overload(self, *arguments: Any) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            super().save_overload(*arguments)


# Where no folder can be written to: every process compiles.
class _NoCache(NullCache):
    def load_overload(self, *arguments: Any) -> None:
        _say_compiling()


def _say_compiling() -> None:
    global when_compiling
    if when_compiling is not None:
        when_compiling("first run: compiling kernels for this machine, once (about 20 s)")
        when_compiling = None


def _need_room() -> None:
    # LLVM, which is about to load or to compile a kernel, ends the process without a word where
    # memory is short; MemoryError can be handled.
    try:
        mmap.mmap(-1, _ROOM_BYTES).close()
    except OSError:
        raise MemoryError from None


def inner(function: Callable[..., Any]) -> Any:
    """Compile a function as a part of the kernels that call it."""
    # No wrappers for calls from Python and C: only kernels call it, and they take time to compile.
    bare: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(nogil=True, error_model="numpy", **bare)(function)


def kernel(function: Callable[..., Any], *, fastmath: bool = False) -> Any:
    """Compile a kernel on first use; cached beside the source or in the user's cache folder."""
    # numpy's error model: a division by zero is inf, not a check that keeps a loop from SIMD.
    dispatcher: Any = njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
    try:
        dispatcher._cache = _ForgivingCache(function)
    except RuntimeError:  # no folder to write to
        dispatcher._cache = _NoCache()
    KERNELS.append(dispatcher)
    return dispatcher


def kernels_of(room: str) -> list[Any]:
    """List the imported kernels of a module or package, such as "detector.crops.warp_numba"."""
    return [
        dispatcher
        for dispatcher in KERNELS
        if f"{dispatcher.py_func.__module__}.".startswith(f"{room}.")
    ]


def on_disk(kernels: list[Any] | None = None) -> bool:
    """True where the kernels (by default all imported ones) need no compilation."""
    return all(
        dispatcher.signatures or _is_cached(dispatcher)
        for dispatcher in (KERNELS if kernels is None else kernels)
    )


def _is_cached(dispatcher: Any) -> bool:
    try:
        return bool(dispatcher._cache._cache_file._load_index())
    except Exception:  # no cache, or another numba's internals: say "not stored"
        return False
