"""What changes while a network is trained: weights, momenta, averages; and how it is saved and
resumed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from detector.errors import SettingsError, TrainingError
from detector.files import write_atomically
from detector.training.averaging import WeightAverage
from detector.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.training.regions import RegionBatch
from detector.training.schedule import rate_at

HEAD = "classifier."


class Optimisation(Protocol):
    """The settings of stochastic gradient descent that a run needs (build.OptimiserConfig has
    them).
    """

    @property
    def steps(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def head_factor(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def warmup(self) -> int: ...
    @property
    def average_decay(self) -> float: ...
    @property
    def max_bad_steps(self) -> int: ...


def freeze(network: nn.Module, prefixes: Sequence[str]) -> None:
    """Fix the parameters whose names begin with a prefix, and the statistics of every batch
    normalisation.
    """
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise SettingsError(
                f"member.freeze: no parameter begins with {prefix!r}; they begin with "
                + ", ".join(sorted({name.split(".")[0] for name in names}))
            )
    for name, parameter in network.named_parameters():
        parameter.requires_grad = not name.startswith(tuple(prefixes)) if prefixes else True
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


class TrainingState:
    """A network with its optimiser and its average, as one thing to step, save and resume."""

    def __init__(self, network: nn.Module, settings: Optimisation, fingerprint: str) -> None:
        self.network, self.settings, self.fingerprint = network, settings, fingerprint
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self.trainable = [p for _, p in named]
        head = [p for name, p in named if name.startswith(HEAD)]
        body = [p for name, p in named if not name.startswith(HEAD)]
        self.optimizer = torch.optim.SGD(
            [{"params": body, "factor": 1.0}, {"params": head, "factor": settings.head_factor}],
            lr=settings.rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.average = WeightAverage(network, settings.average_decay)

    def set_rate(self, step: int) -> float:
        rate = rate_at(
            step, base=self.settings.rate, steps=self.settings.steps,
            warmup=self.settings.warmup, kind=self.settings.schedule,
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        return rate

    def gradient_norm(self) -> float:
        grads = [p.grad for p in self.trainable if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(grads))

    def update(self, step: int) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, step)

    def skip(self, step: int, batch: RegionBatch, folder: Path, in_a_row: int) -> None:
        """A loss or gradient that is not finite: leave the weights, keep what replays the step,
        give up after a few.
        """
        self.optimizer.zero_grad(set_to_none=True)
        replay = {"step": step, "image": batch.image.tolist(), "boxes": batch.boxes.tolist()}
        write_atomically(folder / f"not-finite-{step:07d}.json", json.dumps(replay))
        if in_a_row >= self.settings.max_bad_steps:
            raise TrainingError(
                f"step {step}: loss or gradient not finite {in_a_row} times in a row;"
                " lower optimiser.rate,"
                f" or replay {folder}/not-finite-{step:07d}.json"
            )

    def save(self, folder: Path, step: int) -> None:
        momentum = {}
        for name, parameter in zip(self._names, self.trainable, strict=True):
            buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                momentum[name] = buffer
        groups = {
            "model": self.network.state_dict(),
            "momentum": momentum,
            "average": self.average.values,
        }
        save_checkpoint(folder, Checkpoint(step, self.fingerprint, groups))

    def resume(self, folder: Path) -> int:
        """Continue from the folder's checkpoint; the step to begin with (0 without one)."""
        found = load_checkpoint(folder, self.fingerprint)
        if found is None:
            return 0
        self.network.load_state_dict(dict(found.groups["model"]))
        for name, parameter in zip(self._names, self.trainable, strict=True):
            saved = found.groups.get("momentum", {}).get(name)
            if saved is not None:
                buffer = torch.empty_like(parameter).copy_(saved)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        device = self.trainable[0].device
        self.average.load({k: v.to(device) for k, v in found.groups["average"].items()})
        return found.step

    def averaged(self) -> dict[str, Tensor]:
        """The complete state that inference uses."""
        return self.average.state_dict(self.network)
