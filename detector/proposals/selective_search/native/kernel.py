"""How a function becomes a compiled kernel: releases the GIL, and is kept on disk where the disk
allows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

KERNELS: list[Any] = []
"""Every kernel of this package, in the order of definition."""


class _ForgivingCache(FunctionCache):
    """A cache that is merely useless where its folder cannot be read or written, or holds damaged
    files.
    """

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception:  # whatever a damaged pickle raises: compile again
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            super().save_overload(*arguments)
        except (OSError, RuntimeError):
            return


def inner(function: Callable[..., Any]) -> Any:
    """Compile as a part of the kernels that call it."""
    bare: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(nogil=True, error_model="numpy", **bare)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first use, without the GIL, without threads of its own and without fast-math."""
    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError):  # no folder to write to: every process compiles
        dispatcher._cache = _ForgivingCache(function)
    KERNELS.append(dispatcher)
    return dispatcher


def on_disk() -> bool:
    """Whether every kernel is in memory already or can be loaded instead of compiled."""
    return all(one.signatures or _stored(one) for one in KERNELS)


def _stored(dispatcher: Any) -> bool:
    try:
        return bool(dispatcher._cache._cache_file._load_index())
    except Exception:  # no cache, or another numba's internals: say "not stored"
        return False
