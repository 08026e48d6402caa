"""Parameters and multiply-adds: by hand on a small network, and against what is published."""

from __future__ import annotations

import pytest
from torch import nn

from detector.models import ARCHITECTURES
from detector.models.costs import cost
from detector.models.googlenet import TABLE1
from detector.models.inception import ConvReLU, SeparableConvReLU
from detector.models.inception_v3 import inception_v2
from detector.models.published_costs import NETWORKS


def test_costs_by_hand():
    """3x3 of 3 to 4 channels on 5x5: 9 * 3 * 4 * 25 = 2,700; half as much in two groups of 2."""
    conv = nn.Conv2d(3, 4, 3, padding=1)
    grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
    model = nn.Sequential(conv, grouped, nn.Flatten(), nn.Linear(100, 7))
    found = cost(model, (3, 5, 5))
    assert found.multiply_adds == 2700 + 9 * 2 * 4 * 25 + 700
    assert found.parameters == (27 * 4 + 4) + (18 * 4 + 4) + (700 + 7)
    assert model.training


LARGE = {"vgg16", "alexnet", "densenet121", "resnet50"}
DIFFERENT = {
    ("googlenet", 224): (1.005, 1.054),
    ("bn_googlenet", 224): (None, 1.055),
    ("bn_inception", 224): (0.830, 1.016),
    ("inception_v2", 299): (None, 1.468),
}
"""Counted over published, parameters and multiply-adds, where it is more than 1 %. Notes beside the
rows say why, and the tests below show it."""


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            id=f"{row.name}-{row.input_size}",
            marks=pytest.mark.slow if row.architecture in LARGE else (),
        )
        for row in NETWORKS
    ],
)
def test_costs_are_the_published_ones_or_the_difference_is_explained(row):
    found = cost(row.build(), row.shape)
    ratios = DIFFERENT.get((row.name, row.input_size), (1, 1))
    for counted, published, ratio in zip(found, row.published[:2], ratios, strict=True):
        if published is not None:
            tolerance = 0.01 if ratio == 1 else 0.001
            assert counted / published == pytest.approx(ratio, abs=tolerance)
    assert row.published.note or ratios == (1, 1)


def test_every_architecture_has_a_row():
    assert {row.architecture for row in NETWORKS} == ARCHITECTURES.keys()


def test_table_1s_first_row_is_a_separable_convolution():
    """2.7K and 34M: 7*7*3*8 + 24*64 = 2,712 weights on 112 x 112; a plain 7x7 has 9,408."""
    given = (3, 224, 224)
    separable = SeparableConvReLU(3, 64, 7, norm=False, stride=2, padding=3)
    plain = ConvReLU(3, 64, 7, norm=False, stride=2, padding=3)
    assert cost(separable, given) == (2712 + 64, 2712 * 112 * 112)
    assert cost(plain, given) == (9408 + 64, 9408 * 112 * 112)
    assert round(2712 * 112 * 112, -6) == 34_000_000


def test_13_6_million_are_two_3x3_in_googlenet_with_its_heads():
    """By hand: r * f * 25 weights become r * f * 9 + f * f * 9 in each module of Table 1."""
    grown = sum(
        w.reduce5 * w.five * 9 + w.five * w.five * 9 - w.reduce5 * w.five * 25
        for w in TABLE1.values()
    )
    assert max(w.five for w in TABLE1.values()) == 128  # "up to 128 filters"
    assert 6_990_272 + 6_375_424 - 9408 + 2712 + grown == 13_643_928


def test_the_stem_of_table_1_alone_by_hand():
    """arXiv 1512.00567: its layers are printed in full, and cost 1.63G of multiply-adds."""
    sides = [149**2, 147**2, 147**2, 71**2, 35**2, 35**2]
    widths = [(3, 32), (32, 32), (32, 64), (64, 80), (80, 192), (192, 288)]
    expected = sum(9 * i * o * side for side, (i, o) in zip(sides, widths, strict=True))
    assert cost(inception_v2(5).stem, (3, 299, 299)).multiply_adds == expected == 1_627_898_976


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet50", "densenet121"])
def test_the_published_figures_are_torchvisions(name):
    from torchvision.models import get_model_weights

    meta = get_model_weights(name).IMAGENET1K_V1.meta
    [published] = [row.published for row in NETWORKS if row.architecture == name]
    assert published.parameters == meta["num_params"]
    assert published.multiply_adds == pytest.approx(meta["_ops"] * 1e9, rel=1e-3)
