"""The modules that text books compare: their shapes, and their costs by hand."""

from __future__ import annotations

import pytest
import torch

from detector.models.costs import cost
from detector.models.googlenet import TABLE1
from detector.models.grid_reduction import ConvThenPool, PoolThenConv, parallel_reduction
from detector.models.inception import Inception
from detector.models.inception_v3 import InceptionV3
from detector.models.module_costs import MODULE_TABLES
from detector.models.module_variants import (
    AveragePooledHead,
    FullyConnectedHead,
    NaiveInception,
    UnreducedInception,
    reduced,
)

TABLES = [table for table in MODULE_TABLES if not table.steps]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_counted_costs_are_the_published_ones(table):
    for row in table.rows():
        counted = cost(row.build(), row.shape)
        for ours, published in zip(counted, row.published[:2], strict=True):
            if published is not None:
                assert ours == pytest.approx(published, rel=0.01)


def test_a_reduction_of_16_saves_95_percent_by_hand():
    """14*14*48 * 25*480 = 112.9M against 14*14*16 * 480 + 14*14*48 * 25*16 = 5.3M."""
    given = (480, 14, 14)
    direct, behind = torch.nn.Conv2d(480, 48, 5, padding=2), reduced(480, 16, 48, 5)
    assert cost(direct, given).multiply_adds == 196 * 48 * 25 * 480 == 112_896_000
    assert cost(behind, given).multiply_adds == 196 * (16 * 480 + 48 * 25 * 16) == 5_268_480
    with torch.no_grad():
        assert behind(torch.zeros(1, *given)).shape == (1, 48, 14, 14)


def test_without_its_reductions_a_module_gives_the_same_depth_for_more():
    """3a on 192 channels: 64 + 128 + 32 + 32 deep; the naive one passes all 192 of the pool."""
    widths, x = TABLE1["3a"], torch.zeros(1, 192, 7, 7)
    plain, unreduced = Inception(192, widths, norm=False), UnreducedInception(192, widths)
    naive = NaiveInception(192, widths)
    with torch.no_grad():
        assert plain(x).shape == unreduced(x).shape == (1, 256, 7, 7)
        assert naive(x).shape == (1, naive.outputs, 7, 7) == (1, 64 + 128 + 32 + 192, 7, 7)
    by_hand = 192 * (64 + 9 * 128 + 25 * 32)
    assert cost(naive, (192, 7, 7)).multiply_adds == 49 * by_hand
    assert cost(unreduced, (192, 7, 7)).multiply_adds == 49 * (by_hand + 192 * 32)


def test_averaging_makes_the_last_layer_49_times_smaller():
    full, averaged = FullyConnectedHead(1024, 7, 1000), AveragePooledHead(1024, 1000)
    last = (1024, 7, 7)
    assert cost(full, last) == (7 * 7 * 1024 * 1000 + 1000, 50_176_000)
    assert cost(averaged, last) == (1024 * 1000 + 1000, 1_024_000)


def test_pooling_first_costs_a_quarter_by_hand():
    """Section 5 with 1x1 convolutions, d = 6 and k = 2: 2 d^2 k^2 = 288, 2 (d/2)^2 k^2 = 72."""
    after, before = ConvThenPool(2, 4, kernel=1), PoolThenConv(2, 4, kernel=1)
    for model, side in ((after, 7), (before, 7)):
        with torch.no_grad():
            assert model.eval()(torch.zeros(1, 2, side, side)).shape == (1, 4, 3, 3)
    assert cost(after, (2, 7, 7)).multiply_adds == 2 * 49 * 4
    assert cost(before, (2, 7, 7)).multiply_adds == 2 * 9 * 4


def test_three_ways_to_halve_a_grid_end_in_the_same_shape():
    """The third is Inception-v3's own module 6a."""
    x = torch.zeros(1, 288, 35, 35)
    side_by_side = parallel_reduction(288, 384, 96)
    with torch.no_grad():
        for model in (ConvThenPool(288, 768), PoolThenConv(288, 768), side_by_side):
            assert model.eval()(x).shape == (1, 768, 17, 17)
    theirs = InceptionV3(2).mixed["6a"].state_dict()
    ours = side_by_side.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_the_steps_from_v2_to_v3_cost_what_they_should():
    """Training costs nothing; three 3x3 for a 7x7 by hand; norms for biases in 896 channels."""
    [table] = [table for table in MODULE_TABLES if table.steps]
    costs = [cost(row.build(), row.shape) for row in table.rows()]
    v2, training, stem, auxiliary, v3 = costs
    assert training == v2
    stem_by_hand = 149**2 * 27 * 32 + 147**2 * 9 * 32 * (32 + 64) - 147**2 * 147 * 64
    assert stem.multiply_adds - v2.multiply_adds == stem_by_hand
    weights = 27 * 32 + 9 * 32 * (32 + 64) - 147 * 64
    assert stem.parameters - v2.parameters == weights + 2 * 64  # norms of two more layers of 32
    assert auxiliary.multiply_adds == stem.multiply_adds
    assert auxiliary.parameters - stem.parameters == 128 + 768
    assert v3 == (27_161_264, 5_713_216_096)
