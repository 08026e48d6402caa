"""BN-Inception against figure 5 of arXiv 1502.03167; it works on every grid."""

import pytest
import torch
import torch.nn.functional as F

from detector.models.bn_inception import FIGURE5, BNInception
from detector.models.layers import HalvingPool


def shapes(model: BNInception, side: int) -> dict[str, tuple[int, ...]]:
    with torch.no_grad():
        stages = model.eval().stages(torch.zeros(1, 3, side, side))
        return {name: tuple(x.shape[1:]) for name, x in stages}


def test_figure_5_sums_to_the_ports_depths():
    found = shapes(BNInception(5), 224)
    assert [found[name][0] for name in FIGURE5] == [
        256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024,
    ]  # fmt: skip
    assert found["3b"][1:] == (28, 28)
    assert found["3c"][1:] == (14, 14)
    assert found["5b"][1:] == (7, 7)


@pytest.mark.parametrize(("side", "last"), [(33, 2), (75, 3), (99, 4), (299, 10)])
def test_odd_grids_halve_upwards(side, last):
    """Convolutions and pool side by side agree: 299, 150, 75, 38, 19, 10."""
    assert shapes(BNInception(5), side)["5b"][1:] == (last, last)


def test_the_halving_pool_by_hand():
    """Of 1 2 3 4 5 the windows are (1 2), (2 3 4), (4 5); of 1 2 3 4 they are (1 2 3), (3 4)."""
    pool = HalvingPool()
    line = torch.arange(1.0, 6.0).view(1, 1, 1, 5)
    assert pool(line.expand(1, 1, 5, 5))[0, 0, 0].tolist() == [2, 4, 5]
    assert pool(line[..., :4].expand(1, 1, 4, 4))[0, 0, 0].tolist() == [3, 4]


@pytest.mark.parametrize("side", [5, 6])
def test_the_halving_pool_is_a_padded_one(side):
    x = torch.rand(1, 3, side, side)
    expected = F.max_pool2d(x, 3, 2, padding=side % 2, ceil_mode=True)
    assert torch.equal(HalvingPool()(x), expected)
