"""Inception-v3 has the grids, widths and parameters of the paper's table."""

from __future__ import annotations

import pytest
import torch

from detector.models.inception_v3 import FEATURES, InceptionV3, InceptionV3Output


def test_grids_are_those_of_the_papers_table():
    """299 x 299 gives 35 x 35 x 288, 17 x 17 x 768, 8 x 8 x 1280 and 8 x 8 x 2048."""
    model = InceptionV3(10).eval()
    with torch.no_grad():
        shapes = {name: tuple(x.shape[1:]) for name, x in model.stages(torch.zeros(1, 3, 299, 299))}
    assert shapes["5d"] == (288, 35, 35)
    assert shapes["6a"] == shapes["6e"] == (768, 17, 17)
    assert shapes["7a"] == (1280, 8, 8)
    assert shapes["7c"] == (FEATURES, 8, 8)


def test_parameters_are_those_that_torchvision_publishes():
    """27,161,264 with the auxiliary head (torchvision's meta data of IMAGENET1K_V1)."""
    assert sum(p.numel() for p in InceptionV3(1000, auxiliary=True).parameters()) == 27_161_264


def test_training_gives_two_sets_of_logits_and_gradients_everywhere():
    model = InceptionV3(3, auxiliary=True)
    out = model(torch.randn(2, 3, 299, 299))
    assert isinstance(out, InceptionV3Output)
    assert out.logits.shape == out.auxiliary_6e.shape == (2, 3)
    (out.logits.sum() + 0.3 * out.auxiliary_6e.sum()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("padding_counts", [True, False])
def test_a_constant_map_shows_whether_padding_counts(padding_counts):
    """The corner of a padded 3x3 average over ones: 4/9 with the padding, 1 without it."""
    pool = InceptionV3(2, padding_counts=padding_counts).mixed["5b"].pool
    corner = pool(torch.ones(1, 1, 3, 3))[0, 0, 0, 0].item()
    assert corner == pytest.approx(4 / 9 if padding_counts else 1)
