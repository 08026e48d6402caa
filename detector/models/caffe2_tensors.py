"""Reads the tensors of Caffe2's `TensorProtos` files, such as `multibox_tensors.pb.part00`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.errors import WeightsError
from detector.files import read_regular
from detector.models.wire import as_bytes, fields, plausible_shape, varints

_TENSORS, _DIMENSIONS, _TYPE, _FLOATS, _NAME = 1, 1, 2, 3, 7
_FLOAT = 1


def read_caffe2_tensors(parts: Sequence[str | Path]) -> dict[str, Tensor]:
    """The named float32 tensors of a file that was cut into `parts`, given in their order."""
    paths = [Path(part) for part in parts]
    names = ", ".join(map(str, paths)) or "no file"
    try:
        data = memoryview(b"".join(map(read_regular, paths)))
    except OSError as error:
        raise WeightsError(f"{error.filename}: cannot be read ({error.strerror})") from None
    try:
        messages = [as_bytes(value) for number, value in fields(data) if number == _TENSORS]
        tensors = dict(_tensor(message) for message in messages)
    except (ValueError, IndexError, OverflowError) as error:
        raise WeightsError(
            f"{names}: not Caffe2's tensors, or not all parts in their order ({error})"
        ) from None
    if not tensors:
        raise WeightsError(f"{names}: no tensors in it")
    return tensors


def _tensor(data: memoryview) -> tuple[str, Tensor]:
    name, kind = "", _FLOAT
    shape: list[int] = []
    floats: list[bytes] = []
    for number, value in fields(data):
        if number == _DIMENSIONS:
            shape += varints(value)
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _FLOATS:
            floats.append(bytes(as_bytes(value)))
        elif number == _NAME:
            name = bytes(as_bytes(value)).decode()
    if kind != _FLOAT:
        raise ValueError(f"tensor {name!r} is of type {kind}, expected float")
    values = np.frombuffer(b"".join(floats), "<f4")
    if math.prod(plausible_shape(shape)) != len(values):
        raise ValueError(f"tensor {name!r} of shape {shape} holds {len(values)} numbers")
    return name, torch.from_numpy(values.copy()).reshape(shape)
