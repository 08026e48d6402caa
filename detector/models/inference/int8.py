"""GoogLeNet in 8-bit integers, for CPUs that multiply them (VNNI): twice as fast as bfloat16.

Maps are uint8 in steps of a 255th of their range, weights int8 with one scale for each output
channel, sums int32. The ranges come from sample crops: `activation_ranges`. All sums are exact
integers, so a crop's logits do not depend on the other crops of its batch.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.errors import SettingsError
from detector.models.googlenet import GoogLeNet
from detector.models.inference import numba_operators
from detector.models.inference.operators import (
    NumbaMaxPool,
    NumbaResponseNorm,
    PackedConvolution,
    empty_map,
    fold_batch_norm,
    pixels,
)
from detector.models.input_normalisation import CENTRED, Normalisation
from detector.models.layers import ConvReLU, LocalResponseNorm, MaxPool
from detector.models.weights.storage import quantise
from detector.structures import FILL_MEAN

# Share of a layer's activations that may lie beyond its range, and are clipped to it.
OUTLIERS = 1e-5
_BRANCHES = ("one", "three", "five", "project")
_LAST = "5b"  # its map stays float32, for the average


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
    # The branches of a module share one, since they are concatenated.
    *path, last = layer.removeprefix("inception.").split(".")
    return ".".join(path) if last in _BRANCHES else ".".join([*path, last])


def runs_in_8_bits(device: torch.device | str) -> bool:
    """True where the CPU multiplies 8-bit integers into exact sums, and torch supports it."""
    return torch.device(device).type == "cpu" and has_vnni() and has_int8_convolution()


def has_vnni() -> bool:
    """True where the CPU adds products of 8-bit integers in 32 bits."""
    # Without VNNI the products are added in pairs in 16 bits, where they saturate.
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())


def has_int8_convolution() -> bool:
    """True where torch has the private operators of this file, with the arguments used here."""
    conv = ConvReLU(1, 1, 1, norm=False)
    nn.init.ones_(conv.conv.weight)
    nn.init.zeros_(conv.conv.bias)  # type: ignore[arg-type]
    ones = torch.ones(1, 1, 1, 1, dtype=torch.uint8)
    try:
        return float(QuantisedConvReLU(conv, 1.0, 0, 1.0)(ones)) == 1
    except (RuntimeError, AttributeError, TypeError):
        return False


class Steps(dict[str, float]):
    """Quantisation step of each layer, by the name of its range."""

    def __missing__(self, name: str) -> float:
        raise SettingsError(
            f"the activation ranges have no entry {name}; measure them with inception-rcnn fit int8"
        )


def quantised(model: nn.Module, ranges: Mapping[str, float] | None, enter: ToSteps) -> GoogLeNet:
    """Make a copy of a GoogLeNet of any form that takes the uint8 of `enter`.

    Logits and features are float32. Raises SettingsError where that is not possible.
    """
    if not isinstance(model, GoogLeNet):
        raise SettingsError("8-bit inference is for GoogLeNet; use bfloat16 or float32")
    five = model.inception["3a"].get_submodule("five")
    if not all(isinstance(layer, ConvReLU) for layer in (model.conv1, five)):
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
    # At least 1e-9: a layer that was never active has a range of 0.
    step = Steps({name: max(largest, 1e-9) / 255 for name, largest in ranges.items()})
    net = copy.deepcopy(model).eval().requires_grad_(False)
    net.auxiliary = nn.ModuleDict()  # for training only
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, MaxPool):
                setattr(module, name, PoolInSteps(child))

    def convolve(parent: nn.Module, name: str, given: float, made: float | None) -> None:
        layer: Any = parent.get_submodule(name)
        zero = enter.zero if name == "conv1" else 0
        setattr(parent, name, QuantisedConvReLU(layer, given, zero, made))

    def normalise(name: str, given: str) -> float:
        norm = net.get_submodule(name)
        if not isinstance(norm, LocalResponseNorm):  # the forms with batch norm have none
            return step[given]
        setattr(net, name, NormInSteps(norm, step[given], step[name]))
        return step[name]

    convolve(net, "conv1", enter.step, step["conv1"])
    convolve(net, "conv2_reduce", normalise("norm1", "conv1"), step["conv2_reduce"])
    convolve(net, "conv2", step["conv2_reduce"], step["conv2"])
    source = normalise("norm2", "conv2")
    for name, block in net.inception.items():
        out = None if name == _LAST else step[name]
        between3, between5 = step[f"{name}.reduce3"], step[f"{name}.reduce5"]
        convolve(block, "one", source, out)
        convolve(block, "reduce3", source, between3)
        convolve(block, "three", between3, out)
        convolve(block, "reduce5", source, between5)
        convolve(block, "five", between5, out)
        convolve(block, "project", source, out)
        source = step[name]
    return net


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
        self.zero = round(-low / self.step)  # whole, so that padding and the filling are exactly 0
        self.register_buffer("gain", torch.tensor(scale) / self.step)
        self.register_buffer("offset", torch.tensor(shift) / self.step + self.zero)

    def forward(self, crops: Tensor) -> Tensor:
        x = crops.float().contiguous(memory_format=torch.channels_last)
        out = empty_map(*x.shape, dtype=torch.uint8)
        length = 3 * x.shape[3]
        numba_operators.to_steps(
            x.permute(0, 2, 3, 1).numpy().reshape(-1, length),
            *(self.get_buffer(name).repeat(x.shape[3]).numpy() for name in ("gain", "offset")),
            pixels(out).reshape(-1, length),
        )
        return out


class QuantisedConvReLU(PackedConvolution):
    """Convolution, folded batch norm and ReLU on uint8; the output is uint8 or float32."""

    scale: Tensor
    zeros: Tensor

    def __init__(self, source: ConvReLU, step: float, zero: int, out_step: float | None) -> None:
        weight, bias = fold_batch_norm(source.conv, source.bn)
        integers, scale = quantise(weight)
        super().__init__(source, integers, bias)
        self.register_buffer("scale", scale)
        self.register_buffer("zeros", torch.zeros(len(scale), dtype=torch.int32))
        self.step, self.zero = step, zero
        self.out = (1.0, 0, torch.float32) if out_step is None else (out_step, 0, torch.uint8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.onednn.qconv_pointwise(
            x, self.step, self.zero, self.packed(x), self.scale, self.zeros, self.bias,
            self.stride, self.padding, [1, 1], 1, *self.out, "relu", [], "",
        )  # fmt: skip

    def _pack(self, x: Tensor) -> Tensor:
        return torch.ops.onednn.qconv_prepack(
            self.weight, self.scale, self.step, self.zero,
            self.stride, self.padding, [1, 1], 1, list(x.shape),
        )  # fmt: skip


class PoolInSteps(NumbaMaxPool):
    """Max-pool of a uint8 map; torch's own refuses batches of uint8."""

    def __init__(self, pool: MaxPool) -> None:
        super().__init__(pool)
        self.kernel = pool.kernel

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel == 3:
            return super().forward(x)
        batch, channels, height, width = x.shape
        odd = (height % 2, width % 2)
        if self.ceil:  # windows extend beyond the edge; no number of these maps is below 0
            x = F.pad(x, (0, odd[1], 0, odd[0]))
            height, width = height + odd[0], width + odd[1]
        even = x.permute(0, 2, 3, 1)[:, : height // 2 * 2, : width // 2 * 2]
        blocks = even.reshape(batch, height // 2, 2, width // 2, 2, channels)
        return blocks.amax((2, 4)).permute(0, 3, 1, 2)


class NormInSteps(NumbaResponseNorm):
    """Response normalisation from one uint8 range to another."""

    def __init__(self, norm: LocalResponseNorm, step: float, out_step: float) -> None:
        super().__init__(norm)
        self.steps = step, out_step

    def run(self, x: Any, out: Any) -> None:
        numba_operators.response_norm_in_steps(x, out, self.scale, *self.steps)
