"""Auxiliary heads count 0.3 of their loss, for every network that has them."""

import math

import pytest
import torch
from torch.nn import functional as F

from detector.errors import SettingsError
from detector.training.classifier.step import classifier_loss
from detector.training.regions.loss import auxiliary_loss, region_loss


def logits(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


@pytest.mark.parametrize("of_heads", [(), (0.25,), (0.25, 0.1)], ids=["none", "v3", "googlenet"])
def test_the_heads_of_any_network_count_by_weight(of_heads):
    """-ln 0.5 of its own, and 0.3 times -ln 0.25 and -ln 0.1 of the heads."""
    output = tuple(logits(one, 1 - one) for one in (0.5, *of_heads))
    found = classifier_loss(output if of_heads else output[0], torch.tensor([0])).item()
    expected = -math.log(0.5) - 0.3 * sum(map(math.log, of_heads))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_heads_it_is_the_cross_entropy(smoothing):
    plain, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    expected = F.cross_entropy(plain, labels, label_smoothing=smoothing, reduction="none")
    assert torch.equal(classifier_loss(plain, labels, label_smoothing=smoothing), expected)


def test_the_loss_of_regions_keeps_one_value_a_region():
    """Partly annotated regions too: -ln(0.2 + 0.3), and 0.5 times -ln(0.1 + 0.1) of the head."""
    allowed_classes = torch.tensor([[True, True, False]])
    output = (logits(0.2, 0.3, 0.5), logits(0.1, 0.1, 0.8))
    found = auxiliary_loss(output, lambda one: region_loss(one, allowed_classes), weight=0.5)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(-math.log(0.5) - 0.5 * math.log(0.2))


def test_gradients_reach_every_head_by_its_weight():
    heads = [torch.zeros(1, 2, requires_grad=True) for _ in range(3)]
    classifier_loss(tuple(heads), torch.tensor([0])).sum().backward()
    grads = [head.grad.flatten().tolist() for head in heads]
    assert grads[0] == pytest.approx([-0.5, 0.5])
    assert grads[1] == grads[2] == pytest.approx([-0.15, 0.15])


@pytest.mark.parametrize("weight", [-0.3, math.nan])
def test_a_weight_below_zero_is_refused(weight):
    with pytest.raises(SettingsError, match="expected 0 or more"):
        auxiliary_loss(torch.zeros(1, 2), lambda one: one.sum(), weight=weight)
