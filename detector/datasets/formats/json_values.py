"""What JSON of strangers holds: true is no number, and a whole number may be beyond a float."""

from __future__ import annotations

import math
from typing import Any, TypeGuard


def is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_float(value: int | float) -> float:
    """An integer beyond the range of a float is infinite, so that its box is left out."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
