"""Minimal decoder of protocol buffers: messages as fields and values.

Damaged data raise ValueError or IndexError; the caller adds the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Value = int | memoryview


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield (field number, value) pairs of a message; fixed-width values as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + length > len(data):
            raise ValueError(f"truncated at byte {at}")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number without end at byte {at}")


def varints(value: Value) -> list[int]:
    """Decode a repeated integer field: one value, or all of them packed."""
    if isinstance(value, int):
        return [value]
    values, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        values.append(number)
    return values


def plausible_shape(shape: list[int]) -> list[int]:
    """Return the shape, or raise ValueError where no tensor can have it."""
    if len(shape) > 8 or any(side >= 2**31 for side in shape):
        raise ValueError(f"a shape of {len(shape)} sides up to {max(shape)}")
    return shape


def as_bytes(value: Value) -> memoryview:
    """Return the bytes of a message; raises ValueError for a number."""
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value
