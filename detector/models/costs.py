"""What a network costs: its parameters and multiply-adds, beside the published figures."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Cost(NamedTuple):
    """Of one crop; biases and norms count as parameters, not as multiply-adds."""

    parameters: int
    multiply_adds: int


class Published(NamedTuple):
    """What the source says of the network with 1,000 classes; None where it says nothing."""

    parameters: float | None
    multiply_adds: float | None
    source: str
    note: str = ""


_TORCHVISION = "torchvision's meta data"
PUBLISHED: dict[str, Published] = {
    "googlenet": Published(
        6797.7 * 1024, 1.502e9, "arXiv 1409.4842, columns of Table 1 added up (K is 1024 there)",
        "slips in the table: conv1 does 118M, not 34M; 4c has 498K, not 463K",
    ),
    "bn_googlenet": Published(None, 1.5e9, "arXiv 1512.00567, Table 3", "conv1 is 118M here"),
    "torchvision_googlenet": Published(6_624_904, 1.498e9, _TORCHVISION),
    "bn_inception": Published(
        13.6e6, 2.0e9, "arXiv 1502.03167 (parameters) and 1512.00567 (operations)",
        "the columns of figure 5 give 11.3M, as do public ports",
    ),
    "inception_v2": Published(
        None, 3.8e9, "arXiv 1512.00567, Table 3",
        "the paper does not give the widths inside its modules; these are v3's",
    ),
    "inception_v3": Published(
        23_834_568, 5.713e9, _TORCHVISION + " (parameters less the auxiliary head)",
        "the paper says 4.8G; the released network counts 5.7G",
    ),
    "nin": Published(7.6e6, None, "Caffe model zoo, a 29 MB file of float32"),
    "alexnet": Published(61_100_840, 0.714e9, _TORCHVISION),
    "vgg16": Published(138_357_544, 15.47e9, _TORCHVISION),
    "resnet50": Published(25_557_032, 4.089e9, _TORCHVISION),
    "densenet121": Published(7_978_856, 2.834e9, _TORCHVISION),
}  # fmt: skip
INPUT_SIZES = {"inception_v2": 299, "inception_v3": 299}
"""Sides of the published figures, where they are not 224."""


def cost(model: nn.Module, input_size: int) -> Cost:
    """Counted on one crop while it runs: convolutions and linear layers, grouped ones rightly."""
    multiply_adds = 0

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal multiply_adds
        weight = module.weight
        assert isinstance(weight, Tensor)
        multiply_adds += output.numel() * weight[0].numel()

    handles = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    training = model.training
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, input_size, input_size, device=device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return Cost(sum(p.numel() for p in model.parameters()), multiply_adds)
