"""Inception-v2 and v3 have the grids, widths and parameters of the paper's table."""

import pytest
import torch

from detector.models.inception_v3 import InceptionV3, inception_v2
from detector.training.classifier.step import classifier_loss


def test_grids_are_those_of_the_papers_table():
    """299 x 299 gives 35 x 35 x 288, 17 x 17 x 768, 8 x 8 x 1280 and 8 x 8 x 2048."""
    model = InceptionV3(10).eval()
    with torch.no_grad():
        shapes = {name: tuple(x.shape[1:]) for name, x in model.stages(torch.zeros(1, 3, 299, 299))}
    assert shapes["5d"] == (288, 35, 35)
    assert shapes["6a"] == shapes["6e"] == (768, 17, 17)
    assert shapes["7a"] == (1280, 8, 8)
    assert shapes["7c"] == (2048, 8, 8)


def test_parameters_are_those_that_torchvision_publishes():
    """27,161,264 with the auxiliary head (torchvision's meta data of IMAGENET1K_V1)."""
    assert sum(p.numel() for p in InceptionV3(1000, auxiliary=True).parameters()) == 27_161_264


def test_training_gives_two_sets_of_logits_and_gradients_everywhere():
    model = InceptionV3(3, auxiliary=True)
    out = model(torch.randn(2, 3, 299, 299))
    assert [tuple(x.shape) for x in out] == [(2, 3)] * 2
    classifier_loss(out, torch.tensor([0, 2])).mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_inception_v2_has_the_rows_of_table_1():
    """Maps that its layers are given: 149, 147, 147, pool, 73, 71, 35, 35 x 35 x 288, ..."""
    model = inception_v2(10).eval()
    x = torch.zeros(1, 3, 299, 299)
    found = []
    with torch.no_grad():
        for layer in model.stem:
            x = layer(x)
            found.append((x.shape[2], x.shape[1]))
        assert found == [
            (149, 32), (147, 32), (147, 64), (73, 64), (71, 80), (35, 192), (35, 288),
        ]  # fmt: skip
        shapes = [tuple(x.shape[1:]) for _, x in model.stages(torch.zeros(1, 3, 299, 299))]
    given = [(288, 35, 35), *shapes[:-1]]
    assert [given.count(row) for row in ((288, 35, 35), (768, 17, 17))] == [3, 5]
    assert shapes[-3:] == [(1280, 8, 8), (2048, 8, 8), (2048, 8, 8)]


def test_both_first_layers_end_in_the_same_map():
    """299 x 299 to 147 x 147 x 64 by one 7x7 or by three 3x3."""
    image = torch.zeros(1, 3, 299, 299)
    seven, three = inception_v2(5, factorised_stem=False), InceptionV3(5)
    with torch.no_grad():
        assert seven.stem[:1](image).shape == three.stem[:3](image).shape == (1, 64, 147, 147)


@pytest.mark.parametrize("norm_auxiliary", [False, True])
def test_bn_auxiliary_is_a_switch(norm_auxiliary):
    head = InceptionV3(5, auxiliary=True, norm_auxiliary=norm_auxiliary).auxiliary["6e"]
    assert (head.conv1.bn is not None) == (head.conv2.bn is not None) == norm_auxiliary


def test_all_steps_together_are_inception_v3():
    steps = {"layout": "released", "factorised_stem": True, "norm_auxiliary": True}
    made, v3 = inception_v2(5, auxiliary=True, **steps), InceptionV3(5, auxiliary=True)
    shapes = [{k: v.shape for k, v in one.state_dict().items()} for one in (made, v3)]
    assert shapes[0] == shapes[1]


def test_inception_v2_trains_with_its_auxiliary_head():
    model = inception_v2(3, auxiliary=True)
    out = model(torch.randn(2, 3, 299, 299))
    classifier_loss(out, torch.tensor([0, 2]), label_smoothing=0.1).mean().backward()
    assert all(p.grad is not None for p in model.parameters())
