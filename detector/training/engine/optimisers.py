"""Gradient descent: its settings, the optimiser made of them, and the rate of each step."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field
from torch import nn

from detector.seeds import Seed
from detector.settings import Settings

# Layers that are new on a pretrained network: its last one, and that of regions/box_loss.py.
HEAD = ("classifier.", "boxes.")


class DescentSettings(Settings):
    """Settings that all trainings share; each adds its length."""

    method: Literal["sgd", "nesterov", "rmsprop", "adamw"] = "nesterov"
    """AdamW gets further in few steps; its rate is about a thirtieth of SGD's."""
    rate: float = Field(0.1, gt=0)
    head_factor: float = Field(1.0, gt=0)
    """A new last layer learns so many times faster."""
    schedule: Literal["cosine", "step", "poly", "decay", "constant"] = "cosine"
    warmup: float = Field(0.0, ge=0)
    """In the unit of the training's length: epochs, or steps."""
    power: float = Field(0.5, gt=0)
    """The exponent of "poly"."""
    decay: float = Field(0.96, gt=0, le=1)
    """The factor of "decay"."""
    decay_every: float = Field(8.0, gt=0)
    """Epochs, or steps, after which "decay" applies its factor."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of AdamW: the decay of the gradients' mean."""
    square_decay: float = Field(0.9, gt=0, lt=1)
    """The decay of the gradients' mean square, of RMSProp and AdamW."""
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    decay_vectors: bool = True
    """Decay biases and batch normalisation, too."""
    clip: float | None = Field(None, gt=0, allow_inf_nan=True)
    """Largest norm of the whole gradient."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    average_decay: float = Field(0.9999, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    accumulate: int = Field(1, ge=1)
    """Each process handles its share of a batch in so many parts, to fit its memory."""
    seed: Seed = 0
    """Of the start and, without a sampling_seed, of everything else."""
    sampling_seed: Seed | None = None
    """Of all that is drawn while training: what the members of an ensemble differ in."""
    save_every: int = Field(1000, ge=1)
    """Steps between two checkpoints."""
    max_bad_steps: int = Field(5, ge=1)
    """Stop after so many steps in a row with a loss or gradient that is not finite."""

    @property
    def seed_of_draws(self) -> int:
        """The seed of everything drawn while training."""
        return self.seed if self.sampling_seed is None else self.sampling_seed

    def of_member(self, number: int) -> Self:
        """The settings of one member of an ensemble: the same start and rates, other samples
        (arXiv 1409.4842, section 7).
        """
        seed = self.seed_of_draws + number if number else self.sampling_seed
        return self.model_copy(update={"sampling_seed": seed})


def build_optimiser(network: nn.Module, settings: DescentSettings) -> torch.optim.Optimizer:
    """SGD, RMSProp or AdamW over the trainable parameters. Kernels and matrices decay; vectors
    (biases, batch normalisation) only if the settings say so.
    """
    by_rule: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = settings.head_factor if name.startswith(HEAD) else 1.0
            decays = parameter.ndim > 1 or settings.decay_vectors
            rule = factor, settings.weight_decay if decays else 0.0
            by_rule.setdefault(rule, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in by_rule.items()
    ]
    rate, momentum, eps = settings.rate, settings.momentum, settings.epsilon
    if settings.method == "rmsprop":  # torch adds epsilon outside the root (recipes.py, V3)
        return torch.optim.RMSprop(
            groups, lr=rate, alpha=settings.square_decay, eps=eps, momentum=momentum
        )
    if settings.method == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(momentum, settings.square_decay), eps=eps)
    # torch refuses Nesterov's step without momentum; it is plain SGD then.
    nesterov = settings.method == "nesterov" and momentum > 0
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov)


def rate_by_step(
    settings: DescentSettings, steps: int, steps_per_epoch: float = 1.0
) -> Callable[[int], float]:
    """The learning rate as a function of the step (from 0), of `steps` in all: a linear warm-up,
    then one of

    "cosine"    half a cosine down to zero at the end
    "step"      x0.1 in the middle (R-CNN: every 20k steps)
    "constant"  no change
    "poly"      (1 - done) ** power, down to zero at the end (Caffe)
    "decay"     x decay every so many epochs (GoogLeNet: -4 % every 8)

    steps_per_epoch  1 where lengths in the settings are steps
    """
    base, warmup = settings.rate, round(settings.warmup * steps_per_epoch)
    schedules: dict[str, Callable[[int, float], float]] = {
        "cosine": lambda _, done: base * 0.5 * (1 + math.cos(math.pi * min(1.0, done))),
        "step": lambda _, done: base * 0.1 ** min(1, int(done * 2)),
        "constant": lambda _, done: base,
        "poly": lambda _, done: base * (1 - min(1.0, done)) ** settings.power,
        "decay": lambda step, _: (
            base * settings.decay ** int(step / (settings.decay_every * steps_per_epoch))
        ),
    }

    def rate(step: int) -> float:
        if step < warmup:  # from above 0, so that the first step counts, too
            return base * (step + 1) / (warmup + 1)
        return schedules[settings.schedule](step, (step - warmup) / max(1, steps - warmup))

    return rate


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], norm: float, limit: float | None) -> None:
    """Scale gradients of total norm `norm` down to `limit`, keeping their direction."""
    if limit is not None and norm > limit:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(limit / norm)
