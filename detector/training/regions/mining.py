"""Hard example mining: of the background regions drawn, only those with the largest loss are learnt
from (online hard example mining, Shrivastava et al. 2016; R-CNN mined between trainings).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from detector.training.regions.loss import region_loss


@torch.no_grad()
def background_losses(
    network: Callable[[Tensor], Any], inputs: Tensor, allowed_classes: Tensor, background: Tensor
) -> Tensor:
    """The loss (N,) of each background region; zeros for objects.

    inputs           (N, ...) what the network takes
    allowed_classes  (N, K+1) bool: the classes that each region may be
    background       (N,) bool
    """
    rows = background.nonzero().flatten()
    output = network(inputs[rows])
    logits = output[0] if isinstance(output, tuple) else output
    losses = torch.zeros(len(inputs), device=inputs.device)
    losses[rows] = region_loss(logits, allowed_classes[rows]).float()
    return losses


def hardest(losses: Tensor, background: Tensor, share: float) -> Tensor:
    """Select the `share` of the background with the largest loss, (N,) bool."""
    rows = background.nonzero().flatten()
    chosen = rows[losses[rows].topk(round(len(rows) * share)).indices]
    return torch.zeros_like(background).index_fill_(0, chosen, True)
