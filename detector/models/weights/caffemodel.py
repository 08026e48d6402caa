"""Reader of the weights in a `.caffemodel`, which parses only the few fields that hold them.

Neither Caffe nor its generated classes are needed. The file is one protocol buffer; its messages
are sequences of numbered fields, and those that are not named here are skipped.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.errors import WeightsError

Value = int | memoryview

# (field of the layers in NetParameter, of the name in a layer, of the blobs in a layer)
_LAYOUTS = ((100, 1, 7), (2, 4, 6))  # the current layout, and that before the end of 2014
_DATA, _SHAPE, _DIMENSIONS, _OLD_SHAPE = 5, 7, 1, (1, 2, 3, 4)
_VARINT, _BYTES, _FIXED = 0, 2, {5: 4, 1: 8}  # wire types; bytes of the fixed ones


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Read `layer.weight` and `layer.bias` of every layer that has them, as float32.

    Raises WeightsError.
    """
    tensors: dict[str, Tensor] = {}
    try:
        for number, value in _fields(memoryview(path.read_bytes())):
            for layers, name_field, blob_field in _LAYOUTS:
                if number == layers:
                    tensors |= _layer(_message(value), name_field, blob_field)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, IndexError, OverflowError) as error:
        raise WeightsError(f"{path}: not a .caffemodel ({error})") from None
    if not tensors:
        raise WeightsError(f"{path}: not a .caffemodel, or one without weights")
    return tensors


def _layer(data: memoryview, name_field: int, blob_field: int) -> dict[str, Tensor]:
    name, blobs = "", []
    for number, value in _fields(data):
        if number == name_field:
            name = bytes(_message(value)).decode()
        elif number == blob_field:
            blobs.append(_blob(_message(value)))
    tensors = {f"{name}.weight": blob for blob in blobs[:1]}
    return tensors | {f"{name}.bias": blob.flatten() for blob in blobs[1:2]}


def _blob(data: memoryview) -> Tensor:
    parts: list[memoryview] = []
    shape: list[int] = []
    old = [1, 1, 1, 1]
    for number, value in _fields(data):
        if number == _DATA:
            parts.append(_message(value))
        elif number == _SHAPE:
            for field, dimension in _fields(_message(value)):
                if field == _DIMENSIONS:
                    shape += _varints(dimension)
        elif number in _OLD_SHAPE and isinstance(value, int):
            old[number - 1] = value
    values = np.frombuffer(b"".join(parts), "<f4")
    shape = shape or old
    # Checked first: the product of many such sides would take forever.
    if len(shape) > 8 or any(side >= 2**31 for side in shape):
        raise ValueError(f"a shape of {len(shape)} sides up to {max(shape)}")
    if math.prod(shape) != len(values):
        raise ValueError(f"a blob of shape {shape} holds {len(values)} numbers")
    return torch.from_numpy(values.copy()).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
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
        elif wire in _FIXED:
            length = _FIXED[wire]
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
        if shift > 63:  # numbers of the format have 64 bits
            raise ValueError(f"a number without end at byte {at}")


def _varints(value: Value) -> list[int]:
    """Decode a repeated integer field: one value, or all of them packed."""
    if isinstance(value, int):
        return [value]
    values, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        values.append(number)
    return values


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value
