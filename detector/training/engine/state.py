"""The state of a training: weights, momenta and averages, with saving and resuming."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from detector.errors import SettingsError, TrainingError
from detector.files import write_atomically
from detector.training.engine.averaging import WeightAverage
from detector.training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.training.engine.optimisers import DescentSettings, build_optimiser, rate_by_step


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
    """Let batch normalisations with untouched statistics learn them."""
    # With those fixed at 0 and 1 a deep network trains as if without normalisation, and overflows.
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
        settings: DescentSettings,
        fingerprint: str,
        steps: int,
        steps_per_epoch: float = 1.0,
    ) -> None:
        """Begin a training of so many `steps`; `steps_per_epoch` is 1 where the settings count in
        steps. A checkpoint is bound to the `fingerprint`.
        """
        self.network, self.settings, self.fingerprint = network, settings, fingerprint
        self.steps = steps
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self.trainable = [p for _, p in named]
        self.optimizer = build_optimiser(network, settings)
        self.rate = rate_by_step(settings, steps, steps_per_epoch)
        self.average = WeightAverage(network, settings.average_decay)
        # Further groups of tensors that are saved, and filled by `resume`.
        self.extra: dict[str, Mapping[str, Tensor]] = {}
        buffers: dict[torch.dtype, list[Tensor]] = {}  # by type: one fused copy each
        for buffer in network.buffers():
            buffers.setdefault(buffer.dtype, []).append(buffer)
        self._buffers = [(kind, [b.clone() for b in kind]) for kind in buffers.values()]

    def set_rate(self, step: int) -> float:
        """Set the learning rate of `step`; returns it."""
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        return rate

    def begin(self) -> None:
        """Remember the statistics of batch normalisation, which a step's forward passes move, for
        `undo`.
        """
        for current, before in self._buffers:
            torch._foreach_copy_(before, current)

    def undo(self) -> None:
        """Drop the gradients of a step that is not taken, and restore the statistics."""
        self.optimizer.zero_grad(set_to_none=True)
        # Statistics of an infinite batch are no numbers, and no checkpoint could be saved again.
        for current, before in self._buffers:
            torch._foreach_copy_(current, before)

    def gradient_norm(self) -> Tensor:
        """The norm of all gradients as one vector; a scalar."""
        return torch.nn.utils.get_total_norm([p.grad for p in self.trainable if p.grad is not None])

    def update(self, step: int) -> None:
        """Take the optimiser's step and move the average."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, step)

    def skip(self, step: int, replay: Mapping[str, object], path: Path, in_a_row: int) -> None:
        """Leave the network as it was after a loss or gradient that is not finite, and write what
        replays the step (JSON) to `path`. Raises TrainingError after a few in a row.
        """
        self.undo()
        write_atomically(path, json.dumps({"step": step, **replay}))
        if in_a_row >= self.settings.max_bad_steps:
            raise TrainingError(
                f"step {step}: loss or gradient not finite {in_a_row} times in a row;"
                f" lower optimiser.rate in another --out, or replay {path}"
            )

    def save(self, folder: Path, step: int) -> None:
        """Write a checkpoint of weights, averages and optimiser state."""
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
        """Continue from the folder's checkpoint; returns the step to begin with (0 without one).
        `tell` gets a sentence about damaged ones.
        """
        checkpoint = load_checkpoint(folder, self.fingerprint, tell)
        if checkpoint is None:
            return 0
        self.network.load_state_dict(dict(checkpoint.groups["model"]))
        keys = {_GROUP.get(key, f"optimiser.{key}"): key for key in _KEYS}
        for name, parameter in zip(self._names, self.trainable, strict=True):
            for group, key in keys.items():
                saved = checkpoint.groups.get(group, {}).get(name)
                if saved is not None:
                    self.optimizer.state[parameter][key] = _like(parameter, saved)
        device = self.trainable[0].device
        self.average.load({k: v.to(device) for k, v in checkpoint.groups["average"].items()})
        self.extra = {name: checkpoint.groups.get(name, {}) for name in self.extra}
        return checkpoint.step

    def averaged(self) -> dict[str, Tensor]:
        """The complete state for inference: averaged weights, the best where they are watched."""
        return {**self.average.state_dict(self.network), **self.extra.get(BEST, {})}


# The group of the best averages so far (watch.py).
BEST = "best"
_GROUP = {"momentum_buffer": "momentum"}
# What torch's SGD, RMSprop and AdamW keep of each parameter.
_KEYS = ("momentum_buffer", "square_avg", "exp_avg", "exp_avg_sq", "step")


def _like(parameter: nn.Parameter, saved: Tensor) -> Tensor:
    # In the parameter's memory format and on its device; torch keeps a step counter on the CPU.
    return torch.empty_like(parameter).copy_(saved) if saved.ndim == parameter.ndim else saved
