"""Layers in other words: what inference in any precision makes of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def folded(conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does the work of both, in float32."""
    weight = conv.weight.detach().float()
    bias = torch.zeros(len(weight), device=weight.device) if conv.bias is None else conv.bias
    bias = bias.detach().float()
    if bn is None:
        return weight, bias
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = bn.weight.double() * torch.rsqrt(bn.running_var.double() + bn.eps)
    shift = bn.bias.double() + (bias.double() - bn.running_mean.double()) * scale
    return (weight.double() * scale.view(-1, 1, 1, 1)).float(), shift.float()


def halved(side: int, ceil: bool) -> int:
    """How many 3-wide windows at stride 2 lie along `side`."""
    return (side - 3 + ceil) // 2 + 1
