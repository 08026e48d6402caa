"""Layers in other words: what inference in any precision makes of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def folded(conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does the work of both, in float32 where it lies.

    They are computed in float64 by the processor: Apple's devices have none.
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


def halved(side: int, ceil: bool) -> int:
    """How many 3-wide windows at stride 2 lie along `side`."""
    return (side - 3 + ceil) // 2 + 1
