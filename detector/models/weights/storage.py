"""Stored weights: float32, float16, or 8-bit integers with a scale for each output channel."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from detector.errors import WeightsError

StoredAs = Literal["float32", "float16", "int8"]
# Suffix of the scales (outputs,) float32 of an 8-bit tensor: value = byte * scale.
SCALE = ".scale"


def encode(state: Mapping[str, Tensor], precision: StoredAs) -> dict[str, Tensor]:
    """Encode tensors; only matrices and kernels are rounded, not biases and statistics.

    Raises WeightsError for values that are not finite, or too large for float16.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        if not value.is_floating_point():
            stored[name] = value
            continue
        value = value.float()
        if not torch.isfinite(value).all():
            raise WeightsError(f"tensor {name} has values that are not finite; it is not saved")
        if precision == "float16" and value.ndim > 1:
            if value.abs().max() > torch.finfo(torch.float16).max:
                raise WeightsError(f"tensor {name} has values too large for float16; use float32")
            value = value.half()
        elif precision == "int8" and value.ndim > 1:
            value, stored[name + SCALE] = quantise(value)
        stored[name] = value
    return stored


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise (O, ...) to int8 in -127..127 with scales (O,): symmetric, so zero stays zero."""
    rows = weight.flatten(1)
    # A row of zeros still has a scale to divide by.
    scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny * 127) / 127
    return (rows / scale[:, None]).round().to(torch.int8).view_as(weight), scale


def stored_layout(wanted: Mapping[str, Tensor], precision: StoredAs) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the result of `encode` for a state dict."""
    layout = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    if precision == "int8":
        for name, tensor in wanted.items():
            if tensor.is_floating_point() and tensor.ndim > 1:
                layout[name + SCALE] = (len(tensor),)
    return layout


def decode(stored: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Invert `encode`, in float32 (integers as they are).

    Raises WeightsError that names `source`.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if tensor.dtype == torch.int8:
            scale = stored.get(name + SCALE)
            if tensor.ndim < 2 or scale is None or scale.shape != tensor.shape[:1]:
                raise WeightsError(
                    f"{source}: tensor {name} is stored in 8 bits, without {name + SCALE}, a number"
                    " for each of its outputs; save it again"
                )
            state[name] = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
        elif not (name.endswith(SCALE) and name.removesuffix(SCALE) in stored):
            state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state
