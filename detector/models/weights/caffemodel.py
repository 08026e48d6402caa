"""Reader of the weights in a `.caffemodel`, which parses only the few fields that hold them.

Neither Caffe nor its generated classes are needed; other fields are skipped.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.errors import WeightsError
from detector.models.weights.protobuf import as_bytes, fields, plausible_shape, varints

# (field of the layers in NetParameter, of the name in a layer, of the blobs in a layer)
_LAYOUTS = ((100, 1, 7), (2, 4, 6))  # the current layout, and that before the end of 2014
_DATA, _SHAPE, _DIMENSIONS, _OLD_SHAPE = 5, 7, 1, (1, 2, 3, 4)


def read_caffemodel(path: str | Path) -> dict[str, Tensor]:
    """Read `layer.weight` and `layer.bias` of every layer that has them, as float32.

    Raises WeightsError.
    """
    path = Path(path)
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    tensors: dict[str, Tensor] = {}
    try:
        for number, value in fields(data):
            for layers, name_field, blob_field in _LAYOUTS:
                if number == layers:
                    tensors |= _layer(as_bytes(value), name_field, blob_field)
    except (ValueError, IndexError, OverflowError) as error:
        raise WeightsError(f"{path}: not a .caffemodel ({error})") from None
    if not tensors:
        raise WeightsError(f"{path}: not a .caffemodel, or one without weights")
    return tensors


def _layer(data: memoryview, name_field: int, blob_field: int) -> dict[str, Tensor]:
    name, blobs = "", []
    for number, value in fields(data):
        if number == name_field:
            name = bytes(as_bytes(value)).decode()
        elif number == blob_field:
            blobs.append(_blob(as_bytes(value)))
    kinds = ("weight", "bias")
    tensors = {f"{name}.{kind}": blob for kind, blob in zip(kinds, blobs, strict=False)}
    if f"{name}.bias" in tensors:
        tensors[f"{name}.bias"] = tensors[f"{name}.bias"].flatten()
    return tensors


def _blob(data: memoryview) -> Tensor:
    parts: list[bytes] = []
    shape: list[int] = []
    old = [1, 1, 1, 1]
    for number, value in fields(data):
        if number == _DATA:
            parts.append(bytes(as_bytes(value)))
        elif number == _SHAPE:
            for field, dimension in fields(as_bytes(value)):
                if field == _DIMENSIONS:
                    shape += varints(dimension)
        elif number in _OLD_SHAPE and isinstance(value, int):
            old[number - 1] = value
    values = np.frombuffer(b"".join(parts), "<f4")
    shape = plausible_shape(shape or old)
    if math.prod(shape) != len(values):
        raise ValueError(f"a blob of shape {shape} holds {len(values)} numbers")
    return torch.from_numpy(values.copy()).reshape(shape)
