"""Reads the weights of a `.caffemodel`: Google's wire format, only the few fields that hold them.

Nothing of Caffe or its generated classes is needed; what is not a blob is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.errors import WeightsError

# (field of the layers in NetParameter, of the name in a layer, of the blobs in a layer)
_LAYOUTS = ((100, 1, 7), (2, 4, 6))  # today's, and the one before 2014's end
_DATA, _SHAPE, _DIMENSIONS, _OLD_SHAPE = 5, 7, 1, (1, 2, 3, 4)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Value = int | memoryview


def read_caffemodel(path: str | Path) -> dict[str, Tensor]:
    """`layer.weight` and `layer.bias` of every layer that has them, float32."""
    path = Path(path)
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    tensors: dict[str, Tensor] = {}
    try:
        for number, value in _fields(data):
            for layers, name_field, blob_field in _LAYOUTS:
                if number == layers:
                    tensors |= _layer(_as_bytes(value), name_field, blob_field)
    except (ValueError, IndexError, OverflowError) as error:
        raise WeightsError(f"{path}: not a .caffemodel ({error})") from None
    if not tensors:
        raise WeightsError(f"{path}: not a .caffemodel, or one without weights")
    return tensors


def _layer(data: memoryview, name_field: int, blob_field: int) -> dict[str, Tensor]:
    name, blobs = "", []
    for number, value in _fields(data):
        if number == name_field:
            name = bytes(_as_bytes(value)).decode()
        elif number == blob_field:
            blobs.append(_blob(_as_bytes(value)))
    kinds = ("weight", "bias")
    found = {f"{name}.{kind}": blob for kind, blob in zip(kinds, blobs, strict=False)}
    if f"{name}.bias" in found:
        found[f"{name}.bias"] = found[f"{name}.bias"].flatten()
    return found


def _blob(data: memoryview) -> Tensor:
    parts: list[bytes] = []
    shape: list[int] = []
    old = [1, 1, 1, 1]
    for number, value in _fields(data):
        if number == _DATA:
            parts.append(bytes(_as_bytes(value)))
        elif number == _SHAPE:
            for field, dimension in _fields(_as_bytes(value)):
                if field == _DIMENSIONS:
                    shape += _varints(dimension)
        elif number in _OLD_SHAPE and isinstance(value, int):
            old[number - 1] = value
    values = np.frombuffer(b"".join(parts), "<f4")
    shape = shape or old
    if math.prod(shape) != len(values):
        raise ValueError(f"a blob of shape {shape} holds {len(values)} numbers")
    return torch.from_numpy(values.copy()).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """The (field number, value) pairs of one message; fixed-width values as their bytes."""
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


def _varints(value: Value) -> list[int]:
    """A repeated integer field: one of its values, or all of them packed."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        one, at = _varint(value, at)
        found.append(one)
    return found


def _as_bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value
