"""The loss of a classifier with auxiliary heads (arXiv 1409.4842, section 5; arXiv 1512.00567,
sections 4 and 7).

"Their loss gets added to the total loss of the network with a discount weight": 0.3 for
GoogLeNet's two.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from detector.training.classifier.patch_batches import UNREADABLE
from detector.training.regions.loss import auxiliary_loss


def classifier_loss(
    output: Tensor | tuple[Tensor, ...],
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    auxiliary_weight: float = 0.3,
) -> Tensor:
    """Cross entropy (N,) with labels smoothed to 1 - e of the class plus e / K of each, and the
    auxiliary heads added; zero where the label is UNREADABLE.

    output  logits (N, K), or the last layer's and then each auxiliary head's
    """
    return auxiliary_loss(
        output,
        lambda logits: _cross_entropy(logits, labels, label_smoothing),
        weight=auxiliary_weight,
    )


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(
        logits.float(), labels, ignore_index=UNREADABLE, reduction="none", label_smoothing=smoothing
    )
