"""The loss of the region classifier: softmax over K classes and background, with sets of allowed
classes; and the selection of hard negatives: of the background regions drawn, only those with the
largest loss are learnt from (online hard example mining, OHEM, Shrivastava et al. 2016; R-CNN mined
between trainings).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detector.errors import SettingsError


def region_loss(logits: Tensor, allowed_classes: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """-log of the total probability of the allowed classes: logits (N, K+1), allowed_classes (N,
    K+1) bool, to (N,).

    With one allowed class this is the cross entropy. With several only their sum must be likely,
    which is all that a partially annotated image proves. Smoothing (Szegedy et al. 2016,
    section 7) mixes in the uniform distribution where the class is known.
    """
    logits = logits.float()
    log_all = torch.logsumexp(logits, 1)
    log_allowed = torch.logsumexp(logits.masked_fill(~allowed_classes, -torch.inf), 1)
    loss = log_all - log_allowed
    if label_smoothing:
        uniform = log_all - logits.mean(1)  # the cross entropy with the uniform distribution
        known = allowed_classes.sum(1) == 1
        loss = torch.where(known, (1 - label_smoothing) * loss + label_smoothing * uniform, loss)
    return loss


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence from the teacher's softened distribution times T^2 (Hinton et al. 2015)."""
    # Softening divides the gradients by T^2; the factor keeps their size beside the labels'.
    ours = F.log_softmax(logits.float() / temperature, 1)
    theirs = F.log_softmax(teacher.float() / temperature, 1)
    return (theirs.exp() * (theirs - ours)).sum(1) * temperature**2


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


def select_hard_negatives(losses: Tensor, background: Tensor, share: float) -> Tensor:
    """Select the `share` of the background with the largest loss, (N,) bool: OHEM's selection."""
    rows = background.nonzero().flatten()
    chosen = rows[losses[rows].topk(round(len(rows) * share)).indices]
    return torch.zeros_like(background).index_fill_(0, chosen, True)


# Of each auxiliary head's loss (arXiv 1409.4842, section 5); they are unused at inference.
AUXILIARY_WEIGHT = 0.3


def auxiliary_loss(
    output: Tensor | tuple[Tensor, ...],
    loss: Callable[[Tensor], Tensor],
    *,
    weight: float = AUXILIARY_WEIGHT,
) -> Tensor:
    """`loss` of the logits plus `weight` times `loss` of each auxiliary head's logits.

    `output` is what a network gives in training: logits (N, K+1), or a tuple of them whose first is
    the network's own. `loss` maps logits to any one shape.
    """
    if not weight >= 0:  # so that nan is refused, too
        raise SettingsError(f"the weight of auxiliary losses is {weight}, expected 0 or more")
    if isinstance(output, Tensor):
        return loss(output)
    total = loss(output[0])
    for logits in output[1:]:
        total = total + weight * loss(logits)
    return total
