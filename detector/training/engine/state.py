"""What changes while a network is trained: weights, momenta, averages; and how it is saved and
resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from detector.errors import SettingsError, TrainingError
from detector.files import write_atomically
from detector.training.engine.averaging import WeightAverage
from detector.training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.training.engine.schedule import rate_at
from detector.training.regions.box_loss import LAYER

HEAD = ("classifier.", f"{LAYER}.")
"""What is new on a pretrained network: its last layer, and that of box_loss.py."""


class Keeping(Protocol):
    """The settings that any run needs, whatever its optimiser."""

    @property
    def average_decay(self) -> float: ...
    @property
    def max_bad_steps(self) -> int: ...


class Optimisation(Keeping, Protocol):
    """The settings of gradient descent that a run needs, as OptimiserConfig has them."""

    @property
    def method(self) -> str: ...
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


def gather_statistics(network: nn.Module) -> None:
    """Let every batch normalisation learn that has the statistics it was made with: to fix them
    would be to train a deep network without normalisation, whose values overflow.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and _is_untouched(module):
            module.train()


def _is_untouched(norm: nn.BatchNorm2d) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    return (
        mean is not None and variance is not None and not mean.any() and bool((variance == 1).all())
    )


class TrainingState:
    """A network with its optimiser and its average, as one thing to step, save and resume."""

    def __init__(
        self,
        network: nn.Module,
        settings: Keeping,
        fingerprint: str,
        optimizer: torch.optim.Optimizer | None = None,
        rate: Callable[[int], float] | None = None,
    ) -> None:
        """Without an optimizer and its rate by step, `settings` must be an `Optimisation`.

        A parameter group may have a `factor` of the rate.
        """
        self.network, self.settings, self.fingerprint = network, settings, fingerprint
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self.trainable = [p for _, p in named]
        if optimizer is None or rate is None:
            optimizer, rate = _descent(named, cast("Optimisation", settings))
        self.optimizer, self.rate = optimizer, rate
        self.average = WeightAverage(network, settings.average_decay)
        self.extra: dict[str, Mapping[str, Tensor]] = {}
        """Further groups of tensors that are saved, and filled by `resume`."""
        buffers: dict[torch.dtype, list[Tensor]] = {}  # each kind in one launch
        for buffer in network.buffers():
            buffers.setdefault(buffer.dtype, []).append(buffer)
        self._buffers = [(own, [one.clone() for one in own]) for own in buffers.values()]

    def set_rate(self, step: int) -> float:
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        return rate

    def begin(self) -> None:
        """Before a step's forward passes, which move the statistics of batch normalisation: what
        `undo` goes back to.
        """
        for now, before in self._buffers:
            torch._foreach_copy_(before, now)

    def undo(self) -> None:
        """A step that is not taken leaves nothing: no gradient, and the statistics as they were,
        whatever the number of its parts; it may have made them infinite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        for now, before in self._buffers:
            torch._foreach_copy_(now, before)

    def gradient_norm(self) -> Tensor:
        """Of all gradients as one vector; a scalar."""
        return torch.nn.utils.get_total_norm([p.grad for p in self.trainable if p.grad is not None])

    def update(self, step: int) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, step)

    def skip(self, step: int, replay: Mapping[str, object], path: Path, in_a_row: int) -> None:
        """A loss or gradient that is not finite: leave the network as it was, keep what replays
        the step (JSON) at `path`, give up after a few.
        """
        self.undo()
        write_atomically(path, json.dumps({"step": step, **replay}))
        if in_a_row >= self.settings.max_bad_steps:
            raise TrainingError(
                f"step {step}: loss or gradient not finite {in_a_row} times in a row;"
                f" lower optimiser.rate in another --out, or replay {path}"
            )

    def save(self, folder: Path, step: int) -> None:
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": self.network.state_dict(),
            "average": self.average.values,
            **self.extra,
        }
        for name, parameter in zip(self._names, self.trainable, strict=True):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    group = groups.setdefault(_GROUP.get(key, f"optimiser.{key}"), {})
                    cast("dict[str, Tensor]", group)[name] = value
        save_checkpoint(folder, Checkpoint(step, self.fingerprint, groups))

    def resume(self, folder: Path, tell: Callable[[str], None] | None = None) -> int:
        """Continue from the folder's checkpoint; the step to begin with (0 without one). `tell` is
        told which damaged ones were passed over.
        """
        found = load_checkpoint(folder, self.fingerprint, tell)
        if found is None:
            return 0
        self.network.load_state_dict(dict(found.groups["model"]))
        keys = {_GROUP.get(key, f"optimiser.{key}"): key for key in _KEYS}
        for name, parameter in zip(self._names, self.trainable, strict=True):
            for group, key in keys.items():
                saved = found.groups.get(group, {}).get(name)
                if saved is not None:
                    self.optimizer.state[parameter][key] = _like(parameter, saved)
        device = self.trainable[0].device
        self.average.load({k: v.to(device) for k, v in found.groups["average"].items()})
        self.extra = {name: found.groups.get(name, {}) for name in self.extra}
        return found.step

    def averaged(self) -> dict[str, Tensor]:
        """The complete state that inference uses."""
        return self.average.state_dict(self.network)


_GROUP = {"momentum_buffer": "momentum"}
_KEYS = ("momentum_buffer", "square_avg", "exp_avg", "exp_avg_sq", "step")
"""What torch's SGD, RMSprop and AdamW keep of each parameter."""


def _like(parameter: nn.Parameter, saved: Tensor) -> Tensor:
    """A saved state in its parameter's memory format and place; a step counter stays on the CPU."""
    return torch.empty_like(parameter).copy_(saved) if saved.ndim == parameter.ndim else saved


def _descent(
    named: Sequence[tuple[str, nn.Parameter]], settings: Optimisation
) -> tuple[torch.optim.Optimizer, Callable[[int], float]]:
    """SGD with momentum, or AdamW, in which the last layer learns faster; and its rates."""
    head = [p for name, p in named if name.startswith(HEAD)]
    body = [p for name, p in named if not name.startswith(HEAD)]
    groups = [{"params": body, "factor": 1.0}, {"params": head, "factor": settings.head_factor}]
    if settings.method == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            groups, lr=settings.rate, betas=(settings.momentum, 0.999),
            weight_decay=settings.weight_decay,
        )  # fmt: skip
    else:
        optimizer = torch.optim.SGD(
            groups, lr=settings.rate, momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )  # fmt: skip

    def rate(step: int) -> float:
        return rate_at(
            step, base=settings.rate, steps=settings.steps,
            warmup=settings.warmup, kind=settings.schedule,
        )  # fmt: skip

    return optimizer, rate
