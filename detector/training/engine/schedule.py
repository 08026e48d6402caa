"""Learning rates as functions of the step."""

from __future__ import annotations

import math


def rate_at(
    step: int, *, base: float, steps: int, warmup: int = 0, kind: str = "cosine", drops: int = 1,
    power: float = 0.5, factor: float = 0.96, every: float = 1.0,
) -> float:  # fmt: skip
    """The rate of `step` (from 0): a linear warm-up, then one of

    "cosine"    half a cosine down to zero at `steps`
    "step"      x0.1 at `drops` equally spaced points (R-CNN: every 20k steps)
    "constant"  no change
    "poly"      (1 - done) ** power, down to zero at `steps` (Caffe)
    "decay"     x factor every so many steps (GoogLeNet: -4 % every 8 epochs)
    """
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    if kind == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if kind == "step":
        return base * 0.1 ** min(drops, int(done * (drops + 1)))
    if kind == "constant":
        return base
    if kind == "poly":
        return base * (1 - min(1.0, done)) ** power
    if kind == "decay":
        return base * factor ** int(step / every)
    raise ValueError(f"schedule {kind!r} is not one of cosine, step, constant, poly, decay")
