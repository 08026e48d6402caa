"""Speed of training a region classifier against its floor: operations over the rate of matrix
products.

A step's operations are the forward pass, the gradients of the weights that are trained, and the
gradients of the maps above the lowest of them; a multiply-add is two. The rate is that of a large
float32 (or bfloat16) matrix product on the same device, measured in the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detector.hardware import search_kernels
from detector.models import build_model
from detector.models.traits import traits_of
from detector.training.engine.state import freeze
from detector.training.regions.loss import region_loss

SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the matrices: large enough that a device is at its full rate."""


def measure(
    architecture: str, *, crops: int, rounds: int, threads: int, device: torch.device,
    precision: torch.dtype, compiled: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Crops a second of whole training steps, the matrix rate, and how much of it they reach."""
    torch.set_num_threads(threads)
    search_kernels(device)
    side, frozen = traits_of(architecture).side, traits_of(architecture).first
    network = build_model(architecture, 21).to(device).to(memory_format=torch.channels_last)
    freeze(network, frozen)
    inputs = torch.randn(crops, 3, side, side, device=device) / 4
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    operations = 2 * sum(_multiply_adds(network, inputs[:1])) * crops
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    allowed_classes = torch.zeros(crops, 21, dtype=torch.bool, device=device)
    allowed_classes[:, 20] = True
    forward: Any = torch.compile(network) if compiled else network

    def step() -> None:
        _step(forward, inputs, allowed_classes, optimizer, precision)

    for _ in range(2):  # kernels are chosen, and compiled
        step()
    steps, rates = [], []
    for _ in range(rounds):
        rates.append(matrix_rate(device, precision))
        steps.append(_timed(step, device))
    seconds, rate = statistics.median(steps), statistics.median(rates)
    return {
        "network": architecture,
        "frozen": list(frozen),
        "crops": crops,
        "threads": threads,
        "device": str(device),
        "precision": str(precision).removeprefix("torch."),
        "compiled": compiled,
        "matrix_gflops": round(rate / 1e9, 1),
        "step_gflop": round(operations / 1e9, 1),
        "crops_per_second": round(crops / seconds, 1),
        "share_of_matrix_rate": round(operations / seconds / rate, 3),
    }


def matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """Operations a second of one product of two square matrices."""
    side = SIDE.get(device.type, 2048)
    one = torch.randn(side, side, device=device, dtype=precision)
    other = torch.randn(side, side, device=device, dtype=precision)
    _ = one @ other
    return 2 * side**3 / min(_timed(lambda: one @ other, device) for _ in range(3))


def _step(
    network: Callable[[Tensor], Tensor],
    inputs: Tensor,
    allowed_classes: Tensor,
    optimizer: torch.optim.Optimizer,
    precision: torch.dtype,
) -> None:
    half = precision != torch.float32
    with torch.autocast(inputs.device.type, precision, enabled=half):
        logits = network(inputs)
    region_loss(logits, allowed_classes).mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _timed(run: Any, device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def _multiply_adds(network: nn.Module, crop: Tensor) -> tuple[int, int, int]:
    """Of one crop: forward, gradients of the weights, gradients of the maps."""
    forward, weights, maps = 0, 0, 0
    above = False  # whether a layer below is trained, so that this one must hand a gradient down

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal forward, weights, maps, above
        weight = module.weight
        assert isinstance(weight, Tensor)
        cost = output.numel() * weight[0].numel()
        forward += cost
        maps += cost if above else 0
        if weight.requires_grad:
            weights += cost
            above = True

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            network(crop)
    finally:
        for handle in handles:
            handle.remove()
    return forward, weights, maps
