"""The costs of networks: by hand on small ones, and against what is published."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detector.models import ARCHITECTURES
from detector.models.googlenet import TABLE1
from detector.models.inception_v3 import InceptionV3, inception_v2
from detector.models.layers import SeparableConvReLU

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "network_costs.py"
COSTS = SimpleNamespace(**runpy.run_path(str(SCRIPT)))
cost = COSTS.cost


def test_costs_by_hand():
    """3x3 of 3 to 4 channels on 5x5: 9 * 3 * 4 * 25 = 2,700; half as much in two groups of 2."""

    def build() -> nn.Module:
        conv, grouped = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        return nn.Sequential(conv, grouped, nn.Flatten(), nn.Linear(100, 7))

    parameters = (27 * 4 + 4) + (18 * 4 + 4) + (700 + 7)
    assert cost(build, (3, 5, 5)) == (parameters, 2700 + 9 * 2 * 4 * 25 + 700)


DIFFERENT = {
    ("googlenet", 224): (1.005, 1.054),
    ("bn_googlenet", 224): (None, 1.055),
    ("bn_inception", 224): (0.830, 1.016),
    ("inception_v2", 299): (None, 1.468),
}
"""Counted over published, parameters and multiply-adds, where it is more than 1 %. The rows' notes
say why, and the tests below show it."""


@pytest.mark.parametrize("row", COSTS.NETWORKS, ids=lambda row: f"{row.name}-{row.shape[1]}")
def test_costs_are_the_published_ones_or_the_difference_is_explained(row):
    found = cost(row.build, row.shape)
    ratios = DIFFERENT.get((row.name, row.shape[1]), (1, 1))
    for counted, published, ratio in zip(found, row[3:5], ratios, strict=True):
        if published is not None:
            tolerance = 0.01 if ratio == 1 else 0.001
            assert counted / published == pytest.approx(ratio, abs=tolerance)
    assert row.note


def test_every_architecture_has_a_row():
    assert {row.name.split(",")[0] for row in COSTS.NETWORKS} == ARCHITECTURES.keys()


STEPS = "from Inception-v2 to v3, each row one option more"


@pytest.mark.parametrize("title", [title for title in COSTS.MODULES if title != STEPS])
def test_modules_cost_what_is_published_and_saves_what_is_said(title, capsys):
    rows = COSTS.MODULES[title]
    above = 1
    for row in rows:
        found = cost(row.build, row.shape)
        for ours, published in zip(found, row[3:5], strict=True):
            if published is not None:
                assert ours == pytest.approx(published, rel=0.01)
        if row.note.startswith(COSTS.SAVED):
            said = int(row.note.removeprefix(COSTS.SAVED).removesuffix(" %"))
            assert round(100 * (found.multiply_adds / above - 1)) == said
        above = found.multiply_adds
    COSTS.table(title, rows)
    assert [line.count("|") for line in capsys.readouterr().out.splitlines()] == [8] * (
        2 + len(rows)
    )


def test_table_1s_first_row_is_a_separable_convolution():
    """2.7K and 34M: 7*7*3*8 + 24*64 = 2,712 weights on 112 x 112; a plain 7x7 has 9,408."""

    def separable() -> nn.Module:
        return SeparableConvReLU(3, 64, 7, norm=False, stride=2, padding=3)

    assert cost(separable, (3, 224, 224)) == (2712 + 64, 2712 * 112 * 112)
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
    found = cost(lambda: inception_v2(5).stem, (3, 299, 299))
    assert found.multiply_adds == expected == 1_627_898_976


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet50", "densenet121"])
def test_the_published_figures_are_torchvisions(name):
    from torchvision.models import get_model_weights

    meta = get_model_weights(name).IMAGENET1K_V1.meta
    [published] = [row for row in COSTS.NETWORKS if row.name == name]
    assert published.parameters == meta["num_params"]
    assert published.multiply_adds == pytest.approx(meta["_ops"] * 1e9, rel=1e-3)


def test_a_reduction_of_16_saves_95_percent_by_hand():
    """14*14*48 * 25*480 = 112.9M against 14*14*16 * 480 + 14*14*48 * 25*16 = 5.3M."""
    direct, behind = COSTS.MODULES["a 5x5 convolution and its reduction"][:2]
    assert cost(direct.build, direct.shape).multiply_adds == 196 * 48 * 25 * 480 == 112_896_000
    by_hand = 196 * (16 * 480 + 48 * 25 * 16)
    assert cost(behind.build, behind.shape).multiply_adds == by_hand == 5_268_480


def test_without_its_reductions_a_module_gives_the_same_depth_for_more():
    """3a on 192 channels: 64 + 128 + 32 + 32 deep; the naive one passes all 192 of the pool."""
    x = torch.zeros(1, 192, 7, 7)
    naive, unreduced, plain = COSTS.MODULES["the Inception module on 28 x 28 x 192"]
    with torch.no_grad():
        assert plain.build()(x).shape == unreduced.build()(x).shape == (1, 256, 7, 7)
        assert naive.build()(x).shape == (1, 64 + 128 + 32 + 192, 7, 7)
    by_hand = 192 * (64 + 9 * 128 + 25 * 32)
    assert cost(naive.build, (192, 7, 7)).multiply_adds == 49 * by_hand
    assert cost(unreduced.build, (192, 7, 7)).multiply_adds == 49 * (by_hand + 192 * 32)


def test_three_ways_to_halve_a_grid_end_in_the_same_shape():
    """The third is Inception-v3's own module 6a."""
    [rows] = [rows for title, rows in COSTS.MODULES.items() if title.startswith("halving")]
    for row in rows:
        with torch.device("meta"):
            assert row.build().eval()(torch.zeros(1, *row.shape)).shape == (1, 768, 17, 17)
    ours, theirs = rows[2].build().state_dict(), InceptionV3(2).inception["6a"].state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_the_steps_from_v2_to_v3_cost_what_they_should():
    """Three 3x3 for a 7x7 by hand; norms for biases in 896 channels."""
    v2, stem, auxiliary, v3 = [cost(row.build, row.shape) for row in COSTS.MODULES[STEPS]]
    stem_by_hand = 149**2 * 27 * 32 + 147**2 * 9 * 32 * (32 + 64) - 147**2 * 147 * 64
    assert stem.multiply_adds - v2.multiply_adds == stem_by_hand
    weights = 27 * 32 + 9 * 32 * (32 + 64) - 147 * 64
    assert stem.parameters - v2.parameters == weights + 2 * 64  # norms of two more layers of 32
    assert auxiliary.multiply_adds == stem.multiply_adds
    assert auxiliary.parameters - stem.parameters == 128 + 768
    assert v3 == (27_161_264, 5_713_216_096)


@pytest.mark.parametrize(
    ("number", "expected"), [(999, "999"), (1025, "1.025K"), (26_944, "26.94K"), (5e9, "5G")]
)
def test_numbers_are_printed_with_four_digits(number, expected):
    assert COSTS.short(number) == expected
