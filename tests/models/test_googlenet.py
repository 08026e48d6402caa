"""GoogLeNet against Table 1, the framework's own operators, and torchvision's module."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detector.models.googlenet import TABLE1, WIDER, GoogLeNet
from detector.models.inference.prepare import prepare_for_inference
from detector.models.layers import LocalResponseNorm


def test_table_1_sums_to_the_output_column_of_the_paper():
    assert [w.out for w in TABLE1.values()] == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


def test_the_published_form_has_the_papers_weights():
    """6,990,272 counted by hand from Table 1 without biases; the auxiliary heads add 6,375,424."""
    model = GoogLeNet(1000, auxiliary=True)
    weights = {n: p.numel() for n, p in model.named_parameters() if n.endswith("weight")}
    heads = sum(count for name, count in weights.items() if name.startswith("auxiliary"))
    assert sum(weights.values()) - heads == 6_990_272
    assert heads == 6_375_424


@pytest.mark.parametrize("channels", [3, 64, 192])
def test_response_norm_equals_the_frameworks(channels):
    x = torch.randn(2, channels, 5, 7, generator=torch.Generator().manual_seed(0)) * 60
    ours = LocalResponseNorm(channels)(x)
    theirs = F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_response_norm_keeps_channels_last_and_bfloat16():
    x = torch.rand(2, 64, 4, 4).bfloat16().to(memory_format=torch.channels_last)
    y = LocalResponseNorm(64)(x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_response_norm_of_one_by_hand():
    """One channel of value 100: 1 + 1e-4 / 5 * 100^2 = 1.2, so 100 / 1.2^0.75."""
    y = LocalResponseNorm(1)(torch.full((1, 1, 1, 1), 100.0))
    assert y.item() == pytest.approx(100 / 1.2**0.75, rel=1e-6)


def test_grids_are_those_of_table_1():
    model = GoogLeNet(10).eval()
    with torch.no_grad():
        shapes = {name: tuple(x.shape[1:]) for name, x in model.stages(torch.zeros(1, 3, 224, 224))}
    assert shapes["3b"] == (480, 28, 28)
    assert shapes["4e"] == (832, 14, 14)
    assert shapes["5b"] == (1024, 7, 7)


@pytest.mark.parametrize("form", ["v1", "bn", "torchvision"])
def test_every_form_trains_with_two_auxiliary_heads(form):
    model = GoogLeNet(5, form=form, auxiliary=True)
    out = model(torch.randn(2, 3, 224, 224))
    assert [tuple(x.shape) for x in out] == [(2, 5)] * 3
    sum(x.sum() for x in out).backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 5)


def test_features_and_a_replaced_classifier_make_the_logits():
    model = GoogLeNet(5).eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        features = model.features(x)
        model.classifier = nn.Linear(1024, 2)
        assert features.shape == (2, 1024)
        torch.testing.assert_close(model(x), model.classifier(features))


def test_published_auxiliary_heads_refuse_another_grid():
    with pytest.raises(ValueError, match="14 x 14"):
        GoogLeNet(5, auxiliary=True)(torch.zeros(1, 3, 128, 128))


def test_the_same_generator_makes_the_same_network():
    one, two = (GoogLeNet(3, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_wider_network_has_five_quarters_of_every_width():
    """3a: 64, 128, 32 and 32 become 80, 160, 40 and 40; the last map is 1280 deep."""
    model = GoogLeNet(5, width=WIDER).eval()
    block = model.inception["3a"]
    branches = (block.one, block.three, block.five, block.project)
    assert [branch.conv.out_channels for branch in branches] == [80, 160, 40, 40]
    assert all((w * WIDER).is_integer() for widths in TABLE1.values() for w in widths)
    with torch.no_grad():
        assert model.features(torch.zeros(1, 3, 64, 64)).shape == (1, 1280)
    assert GoogLeNet(5, width=1.0).state_dict().keys() == model.state_dict().keys()


def test_dropout_is_40_percent_and_70_in_the_auxiliary_heads():
    model = GoogLeNet(5, auxiliary=True)
    assert model.dropout.p == 0.4
    assert [head.dropout.p for head in model.auxiliary.values()] == [0.7, 0.7]
    assert list(model.auxiliary) == ["4a", "4d"]


def test_other_first_and_fifth_layers_train_and_are_replayed_by_their_generator():
    options = {"form": "bn", "separable_first": True, "double_three": True}
    one, two = (
        GoogLeNet(3, **options, generator=torch.Generator().manual_seed(4)) for _ in range(2)
    )
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    one(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in one.parameters())
    fast = prepare_for_inference(two.eval())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) / 4
    with torch.no_grad():
        expected = two(x)
        torch.testing.assert_close(fast(x), expected, rtol=1e-3, atol=1e-4 * expected.std().item())
