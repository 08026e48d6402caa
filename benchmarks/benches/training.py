"""Speed of training a region classifier against its floor: operations over the rate of matrix
products.

A step's operations are the forward pass, the gradients of the weights that are trained, and the
gradients of the maps above the lowest of them; a multiply-add is two. The rate is that of a large
float32 (or bfloat16) matrix product on the same device, measured in the same run.
"""

from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benches.timing import by_turns, machine
from detector.hardware import search_kernels
from detector.models import build_model
from detector.models.traits import traits_of
from detector.training.engine.state import freeze
from detector.training.regions.loss import region_loss

# Of the matrices: large enough that a device is at its full rate.
SIDE = {"cpu": 2048, "cuda": 8192}


def measure(
    architecture: str, *, crops: int, rounds: int, threads: int, device: torch.device,
    precision: torch.dtype, compiled: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Crops a second of whole training steps, the matrix rate, and the share of it they reach."""
    torch.set_num_threads(threads)
    search_kernels(device)
    side, frozen = traits_of(architecture).side, traits_of(architecture).first
    network = build_model(architecture, 21).to(device).to(memory_format=torch.channels_last)
    freeze(network, frozen)
    inputs = torch.randn(crops, 3, side, side, device=device) / 4
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    allowed_classes = torch.zeros(crops, 21, dtype=torch.bool, device=device)
    allowed_classes[:, 20] = True
    forward: Any = torch.compile(network) if compiled else network
    size = SIDE.get(device.type, 2048)
    one, other = (torch.randn(size, size, device=device, dtype=precision) for _ in range(2))

    def wait() -> None:  # a GPU's calls return before its work is done
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def step(_: Any) -> None:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = forward(inputs)
        region_loss(logits, allowed_classes).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        wait()

    def product(_: Any) -> None:
        _ = one @ other
        wait()

    # Counted on the plain network: what is compiled hides its operators from the counter.
    with FlopCounterMode(display=False) as counter:
        region_loss(network(inputs), allowed_classes).mean().backward()
    optimizer.zero_grad(set_to_none=True)
    operations = counter.get_total_flops()
    step(None)  # kernels are chosen, and compiled
    times = by_turns({"product": product, "step": step}, [None], rounds)
    rate = 2 * size**3 / float(np.median(times["product"][:, 0]))
    taken = float(np.median(times["step"][:, 0]))
    about = {
        "network": architecture,
        "frozen": ", ".join(frozen),
        "crops": crops,
        "threads": threads,
        "device": str(device),
        "compiled": compiled,
        "matrix_gflops": round(rate / 1e9, 1),
        "step_gflop": round(operations / 1e9, 1),
    }
    row = {
        "crops a second": round(crops / taken, 1),
        "share of the matrix rate": round(operations / taken / rate, 3),
    }
    table = {str(precision).removeprefix("torch."): row}
    return {"about": machine() | about, "tables": {"precision": table}}
