"""The layers that Inception networks are made of."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvReLU(nn.Module):
    """Convolution and ReLU: with a bias as published, or with batch normalisation in its place."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], *, norm: bool, **conv: Any
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=not norm, **conv)
        # eps as in torchvision's Inception networks, whose weights are loaded as they are.
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return F.relu(x, inplace=True)


class SeparableConvReLU(nn.Module):
    """Separable convolution: `multiplier` k x k filters a channel, then 1x1 across, then ReLU.

    With k = 7 and multiplier 8 it is the first layer of BN-Inception (arXiv 1502.03167, appendix).
    7*7*3*8 + 24*64 = 2,712 weights and 34.0M multiply-adds on 112 x 112 are also what
    Table 1 of arXiv 1409.4842 prints for "convolution 7x7/2" (2.7K and 34M).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        norm: bool,
        multiplier: int = 8,
        **conv: Any,
    ) -> None:
        super().__init__()
        between = inputs * multiplier
        self.depthwise = nn.Conv2d(inputs, between, kernel, groups=inputs, bias=False, **conv)
        self.pointwise = ConvReLU(between, outputs, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class MaxPool(nn.Module):
    """Max-pool; with `ceil`, as in Caffe, windows may extend beyond the edge."""

    def __init__(self, kernel: int = 3, *, stride: int, padding: int = 0, ceil: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.ceil = kernel, stride, padding, ceil

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel, self.stride, self.padding, ceil_mode=self.ceil)


class HalvingPool(nn.Module):
    """Max-pool 3x3 at stride 2 of a map after a ReLU: n rows become ceil(n / 2).

    A padded 3x3 convolution at stride 2 gives as many, so both can be concatenated on any grid. On
    an even side the last window extends beyond the edge, on an odd side the first and the last do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = MaxPool(stride=2, ceil=True)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            # With zeros: after a ReLU no maximum is below them.
            x = F.pad(x, (width % 2, 0, height % 2, 0))
        return self.pool(x)


class LocalResponseNorm(nn.Module):
    """Local response normalisation across channels: size 5, alpha 1e-4, beta 0.75 (BVLC GoogLeNet).

    The window sum over channels is a 1x1 convolution of the squares with a band matrix: one matrix
    product, in any memory format and precision, where torch's own operator is float32 only and slow
    on a CPU.
    """

    band: Tensor

    def __init__(self, channels: int, *, size: int = 5, alpha: float = 1e-4) -> None:
        super().__init__()
        # Never on the meta device, whose arithmetic imports torch's compiler, which takes seconds.
        index = torch.arange(channels, device="cpu")
        near = (index[:, None] - index[None]).abs() <= size // 2
        # Not persistent: a constant that no file of weights has.
        self.register_buffer("band", (near * (alpha / size))[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:  # the meta device has shapes only, and no autocast
            return x
        # Autocast on CUDA would take the root, and all maps that follow, to float32.
        with torch.autocast(x.device.type, enabled=False):
            y = F.conv2d(x * x, self.band.to(x.dtype)) + 1
            root = torch.rsqrt(y)
            return x * (root * torch.sqrt(root))  # y ** -0.75
