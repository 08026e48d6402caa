"""A network's own layers in their prepared forms: folded and fused convolutions, compiled pools.

torch's compiler for CPUs has the fused convolutions as private operators, so they are probed before
use. The compiled pools and norms are in numba_operators.py.
"""

import warnings
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.errors import DetectorWarning
from detector.models.inference import numba_operators
from detector.models.layers import ConvReLU, LocalResponseNorm, MaxPool

# As integers, since NumPy has no bfloat16 and the kernels compare bits (numba_operators.py).
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.uint8: torch.uint8}


def fold_batch_norm(conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Fold batch norm into the convolution: float32 weight and bias, on its device."""
    # In float64 on the CPU, since Apple's GPUs have no float64.
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


class PackedConvolution(nn.Module):
    """A convolution whose weights are stored in the CPU's own blocked layout for one input shape.

    For other shapes than the packed one, oneDNN may reorder the weights at each call.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, source: ConvReLU, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.stride: list[int] = list(source.conv.stride)
        self.padding: Any = list(source.conv.padding)
        self._packed: tuple[torch.Size, Tensor] | None = None

    def packed(self, x: Tensor) -> Tensor:
        """The weights in the layout for inputs of the shape of `x`."""
        if self._packed is None or self._packed[0] != x.shape:
            self._packed = x.shape, self._pack(x)
        return self._packed[1]

    def _pack(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class FusedConvReLU(PackedConvolution):
    """Convolution, folded batch norm and ReLU: one operator on a CPU, two elsewhere."""

    def __init__(self, source: ConvReLU, dtype: torch.dtype) -> None:
        super().__init__(source, *(t.to(dtype) for t in fold_batch_norm(source.conv, source.bn)))
        self.fused = _has_fused_convolution(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return F.relu(F.conv2d(x, self.weight, self.bias, self.stride, self.padding), True)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.packed(x), self.bias, self.padding, self.stride, [1, 1], 1, "relu", [], ""
        )

    def _pack(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._reorder_convolution_weight(
            self.weight, self.padding, self.stride, [1, 1], 1, list(x.shape)
        )


def _has_fused_convolution(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    works = _probe_fused_convolution(weight.dtype)
    # In bfloat16 it is the processor that lacks them, and nothing to tell.
    if not works and weight.dtype == torch.float32:
        _warn_of_slower()
    return works


@cache
def _warn_of_slower() -> None:
    warnings.warn(
        f"torch {torch.__version__} lacks the fused convolutions in use here: the networks give the"
        " same results, but slower; another version of torch may have them",
        DetectorWarning, stacklevel=2,
    )  # fmt: skip


def _probe_fused_convolution(dtype: torch.dtype) -> bool:
    # Private operators of torch's compiler: a build may lack them, or change their arguments.
    probe = torch.ones(1, 1, 1, 1, dtype=dtype)
    plain = [0, 0], [1, 1], [1, 1], 1
    try:
        packed = torch.ops.mkldnn._reorder_convolution_weight(probe, *plain, [1, 1, 1, 1])
        out = torch.ops.mkldnn._convolution_pointwise(probe, packed, None, *plain, "relu", [], "")
    except (RuntimeError, AttributeError, TypeError):
        return False
    return bool((out == 1).all())


class NumbaMaxPool(nn.Module):
    """Compiled 3x3 max-pool of a map without negative numbers: bfloat16, float32 or uint8."""

    def __init__(self, pool: MaxPool) -> None:
        super().__init__()
        self.stride, self.ceil = pool.stride, pool.ceil
        self.run = (
            numba_operators.pool_in_place_of if pool.stride == 1 else numba_operators.pool_halving
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, *sides = x.shape
        if self.stride == 2:  # so many 3-wide windows
            sides = [(side - 3 + self.ceil) // 2 + 1 for side in sides]
        out = empty_map(batch, channels, *sides, dtype=x.dtype)
        self.run(pixels(x), pixels(out))
        return out


class NumbaResponseNorm(nn.Module):
    """Compiled LocalResponseNorm: one pass over the channels of each pixel."""

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        self.scale = float(norm.band[0, 0, 0, 0])

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        out = empty_map(*x.shape, dtype=x.dtype)
        rows = (pixels(one).reshape(-1, x.shape[1]) for one in (x, out))
        self.run(*rows)
        return out

    def run(self, x: Any, out: Any) -> None:
        """Normalise rows of bits (P, C)."""
        numba_operators.response_norm(x, out, self.scale)


def empty_map(*shape: int, dtype: torch.dtype) -> Tensor:
    """A channels-last map (N, C, H, W), not filled."""
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)


def pixels(x: Tensor) -> Any:
    """NumPy view (N, H, W, C) of the bits of a channels-last map (N, C, H, W)."""
    return x.permute(0, 2, 3, 1).view(_BITS[x.dtype]).numpy()
