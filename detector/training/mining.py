"""Hard examples: of the background regions drawn, only those that the network takes for objects are
learnt from (online hard example mining, Shrivastava et al. 2016; R-CNN mined between trainings).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from detector.training.loss import region_loss


@torch.no_grad()
def hardest(
    network: Callable[[Tensor], Any],
    inputs: Tensor,
    possible: Tensor,
    background: Tensor,
    share: float,
) -> Tensor:
    """Rows to learn from, ascending: all objects, and `share` of the background by loss.

    inputs      (N, ...) what the network takes
    possible    (N, K+1) bool
    background  (N,) bool
    """
    rows = background.nonzero().flatten()
    keep = round(len(rows) * share)
    output = network(inputs[rows])
    logits = output[0] if isinstance(output, tuple) else output
    losses = region_loss(logits, possible[rows])
    chosen = rows[losses.topk(min(keep, len(rows))).indices]
    return torch.cat([(~background).nonzero().flatten(), chosen]).sort().values
