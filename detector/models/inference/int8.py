"""GoogLeNet in 8-bit integers, for CPUs that multiply them (VNNI): twice as fast as bfloat16.

Maps are uint8 in steps of a 255th of their range, weights int8 with one scale for each output
channel, sums int32. The ranges come from sample crops: `activation_ranges`. All sums are exact
integers, so a crop's logits do not depend on the other crops of its batch.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from detector.errors import SettingsError
from detector.models.googlenet import GoogLeNet
from detector.models.inception import ConvReLU, Inception, LocalResponseNorm, MaxPool
from detector.models.inference import numba_operators
from detector.models.inference.folding import fold_batch_norm, halved_side
from detector.models.normalisation import CENTRED, Normalisation
from detector.models.weights.storage import quantise
from detector.structures import FILL_MEAN

OUTLIERS = 1e-5
"""Share of a layer's activations that may lie beyond its range, and are clipped to it."""
_BRANCHES = ("one", "three", "five", "project")
_LAST = "5b"


def activation_ranges(
    model: GoogLeNet, crops: Tensor, normalisation: Normalisation = CENTRED
) -> dict[str, float]:
    """Measure the largest activation of every quantised layer over sample crops (N, 3, S, S).

    The four branches of an Inception module share one range, since they are concatenated. A few
    dozen crops of the kind that will be classified are enough.
    """
    ranges: defaultdict[str, float] = defaultdict(float)

    def record(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            allowed = int(output.numel() * OUTLIERS)
            largest = output.flatten().float().topk(allowed + 1).values[-1]
            ranges[name] = max(ranges[name], float(largest))

        return hook

    handles = [
        module.register_forward_hook(record(_range_of(name)))
        for name, module in model.named_modules()
        if isinstance(module, ConvReLU | LocalResponseNorm) and not name.startswith("auxiliary")
    ]
    training = model.training
    try:
        with torch.inference_mode():
            for batch in crops.split(8):
                model.eval()(normalisation(batch))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return dict(ranges)


def _range_of(layer: str) -> str:
    """Name of a layer's range; the branches of a module share one."""
    *path, last = layer.removeprefix("inception.").split(".")
    return ".".join(path) if last in _BRANCHES else ".".join([*path, last])


def runs_in_8_bits(device: torch.device | str) -> bool:
    """True where the CPU multiplies 8-bit integers into exact sums, and torch supports it."""
    supported = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    has_operator = hasattr(torch.ops.onednn, "qconv_pointwise")
    return torch.device(device).type == "cpu" and bool(supported()) and has_operator


class QuantisedGoogLeNet(nn.Module):
    """Centred crops (N, 3, S, S) to float32 logits, by a GoogLeNet of any form in eight bits."""

    def __init__(
        self,
        model: nn.Module,
        ranges: Mapping[str, float] | None,
        normalisation: Normalisation = CENTRED,
    ) -> None:
        super().__init__()
        if not isinstance(model, GoogLeNet):
            raise SettingsError("8-bit inference is for GoogLeNet; use bfloat16 or float32")
        if not all(isinstance(layer, ConvReLU) for layer in (model.conv1, _five(model))):
            raise SettingsError(
                "8-bit inference is for 7x7 and 5x5 layers, not for separable_first or"
                " double_three; use bfloat16 or float32"
            )
        if not ranges:
            raise SettingsError(
                "8-bit inference needs the activation ranges of the member, and it has none;"
                " measure them with inception-rcnn fit int8 BUNDLE photos/, or use bfloat16 or"
                " float32"
            )
        if not runs_in_8_bits(next(model.parameters()).device):
            raise SettingsError("this device has no exact 8-bit products; use bfloat16 or float32")
        step = Steps({name: max(largest, 1e-9) / 255 for name, largest in ranges.items()})
        self.enter = ToSteps(normalisation)
        self.conv1 = QuantisedConvReLU(
            cast(ConvReLU, model.conv1), self.enter.step, self.enter.zero, step["conv1"]
        )
        self.pool1 = PoolInSteps(model.pool1)
        self.norm1, out1 = _norm(model.norm1, "conv1", "norm1", step)
        middle = step["conv2_reduce"]
        self.conv2_reduce = QuantisedConvReLU(model.conv2_reduce, out1, 0, middle)
        self.conv2 = QuantisedConvReLU(model.conv2, middle, 0, step["conv2"])
        self.norm2, source = _norm(model.norm2, "conv2", "norm2", step)
        self.pools = nn.ModuleDict(
            {name: PoolInSteps(cast(MaxPool, pool)) for name, pool in model.pools.items()}
        )
        self.inception = nn.ModuleDict()
        for name, block in model.inception.items():
            self.inception[name] = QuantisedInception(cast(Inception, block), name, source, step)
            source = step[name]
        self.classifier = copy.deepcopy(model.classifier)
        self.eval().requires_grad_(False)

    def features(self, crops: Tensor) -> Tensor:
        """Input of the last layer: (N, 1024) float32."""
        x = self.norm1(self.pool1(self.conv1(self.enter(crops))))
        x = self.norm2(self.conv2(self.conv2_reduce(x)))
        for name, block in self.inception.items():
            if name in self.pools:
                x = self.pools[name](x)
            x = block(x)
        return x.mean((2, 3))

    def forward(self, crops: Tensor) -> Tensor:
        return self.classifier(self.features(crops))


def _five(model: GoogLeNet) -> nn.Module:
    """The first 5x5 convolution, or its replacement."""
    return cast(Inception, model.inception["3a"]).five


class Steps(dict[str, float]):
    """Quantisation step of each layer, by the name of its range."""

    def __missing__(self, name: str) -> float:
        raise SettingsError(
            f"the activation ranges have no entry {name}; measure them with inception-rcnn fit int8"
        )


def _norm(norm: nn.Module, before: str, after: str, step: Steps) -> tuple[nn.Module, float]:
    """Quantise the response norm, if the form has one; return it and the step of its output."""
    if isinstance(norm, LocalResponseNorm):
        return NormInSteps(norm, step[before], step[after]), step[after]
    return nn.Identity(), step[before]


class QuantisedInception(nn.Module):
    """Inception module on uint8; the last one returns float32."""

    def __init__(self, block: Inception, name: str, source: float, step: Steps) -> None:
        super().__init__()
        out = None if name == _LAST else step[name]
        between3, between5 = step[f"{name}.reduce3"], step[f"{name}.reduce5"]
        self.one = QuantisedConvReLU(block.one, source, 0, out)
        self.reduce3 = QuantisedConvReLU(block.reduce3, source, 0, between3)
        self.three = QuantisedConvReLU(block.three, between3, 0, out)
        self.reduce5 = QuantisedConvReLU(block.reduce5, source, 0, between5)
        self.five = QuantisedConvReLU(cast(ConvReLU, block.five), between5, 0, out)
        self.pool = PoolInSteps(block.pool)
        self.project = QuantisedConvReLU(block.project, source, 0, out)

    def forward(self, x: Tensor) -> Tensor:
        branches = [
            self.one(x),
            self.three(self.reduce3(x)),
            self.five(self.reduce5(x)),
            self.project(self.pool(x)),
        ]
        return torch.cat(branches, 1)


class ToSteps(nn.Module):
    """Quantise centred crops to uint8, in steps that just cover every possible pixel and 0."""

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        scale, shift = normalisation.scale_and_shift()
        ends = [
            a * end + b
            for a, b, mean in zip(scale, shift, FILL_MEAN, strict=True)
            for end in (-mean, 1 - mean)
        ]
        low, high = min(0.0, *ends), max(0.0, *ends)
        self.step = (high - low) / 255
        self.zero = round(-low / self.step)
        self.register_buffer("gain", torch.tensor(scale) / self.step)
        self.register_buffer("offset", torch.tensor(shift) / self.step + self.zero)

    def forward(self, crops: Tensor) -> Tensor:
        x = crops.float().contiguous(memory_format=torch.channels_last)
        batch, _, height, width = x.shape
        out = _empty_map(batch, 3, height, width)
        length = 3 * width
        numba_operators.to_steps(
            _pixels(x).reshape(-1, length),
            self.get_buffer("gain").repeat(width).numpy(),
            self.get_buffer("offset").repeat(width).numpy(),
            _pixels(out).reshape(-1, length),
        )
        return out


class QuantisedConvReLU(nn.Module):
    """Convolution, folded batch norm and ReLU on uint8; the output is uint8 or float32."""

    def __init__(self, source: ConvReLU, step: float, zero: int, out_step: float | None) -> None:
        super().__init__()
        weight, bias = fold_batch_norm(source.conv, source.bn)
        integers, scale = quantise(weight)
        layout = torch.channels_last
        self.register_buffer("weight", integers.contiguous(memory_format=layout))
        self.register_buffer("scale", scale)
        self.register_buffer("zeros", torch.zeros(len(scale), dtype=torch.int32))
        self.register_buffer("bias", bias)
        self.stride: Any = list(source.conv.stride)
        self.padding: Any = list(source.conv.padding)
        self.step, self.zero, self.out_step = step, zero, out_step
        self.packed: tuple[torch.Size, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        packed = self.packed
        if packed is None or packed[0] != x.shape:
            packed = self.packed = x.shape, self._pack(x)
        shape = self.stride, self.padding, [1, 1], 1
        out = (1.0, 0, torch.float32) if self.out_step is None else (self.out_step, 0, torch.uint8)
        return torch.ops.onednn.qconv_pointwise(
            x, self.step, self.zero, packed[1], self.scale, self.zeros, self.bias,
            *shape, *out, "relu", [], "",
        )  # fmt: skip

    def _pack(self, x: Tensor) -> Tensor:
        shape = self.stride, self.padding, [1, 1], 1
        packed: Tensor = torch.ops.onednn.qconv_prepack(
            self.weight, self.scale, self.step, self.zero, *shape, list(x.shape)
        )
        return packed


class PoolInSteps(nn.Module):
    """Compiled max-pool of a uint8 map; torch's own refuses batches of uint8."""

    def __init__(self, pool: MaxPool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        pool = self.pool
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        if pool.kernel == 2:
            even = x.permute(0, 2, 3, 1)[:, : height // 2 * 2, : width // 2 * 2]
            blocks = even.reshape(batch, height // 2, 2, width // 2, 2, channels)
            return blocks.amax((2, 4)).permute(0, 3, 1, 2)
        if pool.stride == 2:
            height, width = (halved_side(side, pool.ceil) for side in (height, width))
        out = _empty_map(batch, channels, height, width)
        run = numba_operators.pool_in_place_of if pool.stride == 1 else numba_operators.pool_halving
        run(_pixels(x), _pixels(out))
        return out


class NormInSteps(nn.Module):
    """Response normalisation from one uint8 range to another."""

    def __init__(self, norm: LocalResponseNorm, step: float, out_step: float) -> None:
        super().__init__()
        self.scale = float(norm.band[0, 0, 0, 0])
        self.step, self.out_step = step, out_step

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        out = _empty_map(*x.shape)
        source, target = (_pixels(t).reshape(-1, x.shape[1]) for t in (x, out))
        numba_operators.response_norm_in_steps(source, target, self.scale, self.step, self.out_step)
        return out


def _empty_map(batch: int, channels: int, height: int, width: int) -> Tensor:
    return torch.empty(
        (batch, channels, height, width), dtype=torch.uint8, memory_format=torch.channels_last
    )


def _pixels(x: Tensor) -> Any:
    """NumPy view (N, H, W, C) of a channels-last map (N, C, H, W)."""
    return x.permute(0, 2, 3, 1).numpy()
