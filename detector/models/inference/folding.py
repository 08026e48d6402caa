"""Batch-norm folding and pool sizes, shared by inference in all precisions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def fold_batch_norm(conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Fold batch norm into the convolution: float32 weight and bias, on its device.

    Computed in float64 on the CPU, since Apple's GPUs have no float64.
    """
    device = conv.weight.device
    weight = _double(conv.weight)
    bias = torch.zeros(len(weight)).double() if conv.bias is None else _double(conv.bias)
    if bn is not None:
        assert bn.running_mean is not None
        assert bn.running_var is not None
        scale = _double(bn.weight) * torch.rsqrt(_double(bn.running_var) + bn.eps)
        bias = _double(bn.bias) + (bias - _double(bn.running_mean)) * scale
        weight = weight * scale.view(-1, 1, 1, 1)
    return weight.float().to(device), bias.float().to(device)


def _double(values: Tensor) -> Tensor:
    return values.detach().cpu().double()


def halved_side(side: int, ceil: bool) -> int:
    """Number of 3-wide windows at stride 2 along `side`."""
    return (side - 3 + ceil) // 2 + 1
