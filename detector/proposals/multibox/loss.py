"""MultiBox's loss (arXiv 1312.2249, section 3.2): alpha * F_match + F_conf.

    F_match = 1/2 sum of x_ij ||l_i - g_j||^2
    F_conf  = - sum of x_ij log c_i - sum of (1 - sum_j x_ij) log(1 - c_i)

x_ij = 1 where the optimal matching gives prediction i to object j. Distances are in units of a
prior's deviation s, so alpha here is alpha * s^2 of a loss on plain fractions: the 1,000 of the
public trainer of arXiv 1412.1441, on fractions, is 2.5 at s = 0.05; 0.3, as the paper is quoted,
on google/multibox's units (s = 0.01) weighs a distance as 3,000 would on fractions. Both terms are
sums over a view, not means.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from detector.proposals.multibox.priors import Priors
from detector.settings import Settings
from detector.structures import Array


class LossSettings(Settings):
    """Weight of the location term, and the cost by which objects are matched."""

    alpha: float = Field(2.5, gt=0)
    """Weight of the squared distance, which is in units of the priors' deviations."""
    match: Literal["predictions", "priors"] = "predictions"
    """By the full cost of the predictions, or by the distance to the priors alone, which according
    to the paper trains faster and gives more diverse boxes.
    """


class Losses(NamedTuple):
    """Terms (B,), summed over the predictions of each view; `matched` counts objects."""

    location: Tensor
    confidence: Tensor
    matched: Tensor


def residuals(boxes: Array, priors: Priors) -> Array:
    """Residuals (M, K, 4) of (M, 4) boxes to each prior, in units of its deviation."""
    return (boxes[:, None] - priors.boxes[None]) / priors.deviation[None]


def assign(cost: Array) -> tuple[Array, Array]:
    """Match (M, K) costs optimally: indices of objects and of predictions, both (min(M, K),).

    Some optimal matching gives every object one of its M cheapest predictions, so only those are
    passed to the solver; the result costs the same as the matching over all K.
    """
    from scipy.optimize import linear_sum_assignment

    objects, predictions = cost.shape
    # M objects with M candidates each may then need every prediction.
    if objects == 0 or objects * objects >= predictions:
        return linear_sum_assignment(cost)
    if objects == 1:
        return np.zeros(1, np.int64), cost.argmin(1)
    columns = np.unique(np.argpartition(cost, objects - 1, axis=1)[:, :objects])
    rows, chosen = linear_sum_assignment(cost[:, columns])
    return rows, columns[chosen]


def match(
    location: Array, logits: Array, boxes: Array, priors: Priors, settings: LossSettings
) -> tuple[Array, Array]:
    """Match one view's predictions with its (M, 4) boxes: indices (m,) and targets (m, 4).

    With more objects than predictions, as many objects as there are predictions are matched.
    """
    targets = residuals(np.asarray(boxes, np.float32).reshape(-1, 4), priors)
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging network's
        if settings.match == "priors":
            cost = (targets**2).sum(2)
        else:
            # The increase of the loss if object j is matched with prediction i: alpha / 2 times the
            # squared distance, plus -log c + log(1 - c), which is minus the logit.
            distance = ((location[None] - targets) ** 2).sum(2)
            cost = settings.alpha / 2 * distance - logits[None]
        # SciPy refuses NaN and rows of infinity; the largest number is matched last.
        rows, columns = assign(np.nan_to_num(cost, copy=False))
    return columns, targets[rows, columns]


def multibox_loss(
    location: Tensor,
    logits: Tensor,
    boxes: Sequence[Array],
    complete: Tensor,
    priors: Priors,
    settings: LossSettings,
) -> Losses:
    """Loss of predictions (B, K, 4) and (B, K) against the boxes (M, 4) of each of B views.

    complete  (B,) bool: every object is annotated. Elsewhere an unmatched prediction may be an
              object that nobody annotated, so it adds nothing.

    A prediction that is not finite makes the loss of its view NaN, even where it is unmatched.
    """
    # Matching is a choice, not a function with a gradient, and SciPy's solver runs on the CPU.
    locations, values = location.detach().cpu().numpy(), logits.detach().cpu().numpy()
    views, columns, targets = [], [], []
    for view, of_view in enumerate(boxes):
        chosen, residual = match(locations[view], values[view], of_view, priors, settings)
        views.append(np.full(len(chosen), view))
        columns.append(chosen)
        targets.append(residual)
    device = logits.device
    row = torch.from_numpy(np.concatenate(views)).to(device)
    column = torch.from_numpy(np.concatenate(columns)).to(device)
    wanted = torch.from_numpy(np.concatenate(targets).astype(np.float32)).to(device)
    is_object = torch.zeros_like(logits)
    is_object[row, column] = 1
    each = F.binary_cross_entropy_with_logits(logits, is_object, reduction="none")
    counts = complete.to(logits)[:, None].repeat(1, logits.shape[1])
    counts[row, column] = 1  # what matches an annotated object is known in any view
    distance = ((location[row, column] - wanted) ** 2).sum(1) / 2
    summed = torch.zeros(len(logits), device=device).index_add(0, row, distance)
    finite = torch.isfinite(location).all(2).all(1) & torch.isfinite(logits).all(1)
    return Losses(
        torch.where(finite, settings.alpha * summed, torch.nan),
        (each * counts).sum(1), is_object.sum(1),
    )  # fmt: skip
