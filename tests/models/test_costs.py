"""Parameters and multiply-adds: by hand on a small network, and against what is published."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detector.models import ARCHITECTURES, build_model
from detector.models.bn_inception import FIGURE5, BNInception
from detector.models.costs import INPUT_SIZES, PUBLISHED, cost
from detector.models.inception_v3 import InceptionV3, inception_v2


def test_costs_by_hand():
    """3x3 of 3 to 4 channels on 5x5: 9 * 3 * 4 * 25 = 2,700; half as much in two groups of 2."""
    conv = nn.Conv2d(3, 4, 3, padding=1)
    grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
    model = nn.Sequential(conv, grouped, nn.Flatten(), nn.Linear(100, 7))
    found = cost(model, 5)
    assert found.multiply_adds == 2700 + 9 * 2 * 4 * 25 + 700
    assert found.parameters == (27 * 4 + 4) + (18 * 4 + 4) + (700 + 7)
    assert model.training


LARGE = {"vgg16", "alexnet", "inception_v2", "densenet121", "resnet50", "bn_googlenet"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in sorted(ARCHITECTURES)],
)
def test_costs_are_the_published_ones_or_the_difference_is_explained(name):
    known = PUBLISHED[name]
    found = cost(build_model(name, 1000), INPUT_SIZES.get(name, 224))
    for counted, published in zip(found, known[:2], strict=True):
        if published is not None and abs(counted / published - 1) > 0.01:
            assert known.note


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet50", "densenet121"])
def test_the_published_figures_are_torchvisions(name):
    from torchvision.models import get_model_weights

    meta = get_model_weights(name).IMAGENET1K_V1.meta
    assert PUBLISHED[name].parameters == meta["num_params"]
    assert PUBLISHED[name].multiply_adds == pytest.approx(meta["_ops"] * 1e9, rel=1e-3)


def test_figure_5_sums_to_the_ports_depths():
    model = BNInception(5).eval()
    with torch.no_grad():
        shapes = {name: tuple(x.shape[1:]) for name, x in model.stages(torch.zeros(1, 3, 224, 224))}
    assert [shapes[name][0] for name in FIGURE5] == [
        256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024,
    ]  # fmt: skip
    assert shapes["3b"][1:] == (28, 28)
    assert shapes["3c"][1:] == (14, 14)
    assert shapes["5b"][1:] == (7, 7)


def test_inception_v2_and_v3_meet_behind_the_stem():
    """Both stems make 147 x 147 x 64 of 299 x 299; what follows has the same shapes."""
    two, three = inception_v2(5, auxiliary=True), InceptionV3(5, auxiliary=True)
    image = torch.zeros(1, 3, 299, 299)
    with torch.no_grad():
        assert two.stem[:1](image).shape == three.stem[:3](image).shape == (1, 64, 147, 147)
    assert two.auxiliary.conv1.bn is None
    assert three.auxiliary.conv1.bn is not None
    pairs = zip(two.mixed.parameters(), three.mixed.parameters(), strict=True)
    assert all(a.shape == b.shape for a, b in pairs)
