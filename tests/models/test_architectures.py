"""Networks are built by name; a wrong name or option is answered with what exists."""

import pytest
import torch
from torch import nn

from detector.errors import SettingsError
from detector.models import ARCHITECTURES, build_model
from detector.models.inference.prepare import prepare_for_inference

LARGE = {"vgg16", "alexnet", "densenet121"}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
    for name in sorted(ARCHITECTURES)
]


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_is_a_region_classifier(name):
    """Logits, features before a linear classifier, a normalisation, and a fast form that agrees."""
    model = build_model(name, 5, generator=torch.Generator().manual_seed(0)).eval()
    assert isinstance(model.classifier, nn.Linear)
    assert len(model.normalisation.mean) == 3
    x = torch.randn(2, 3, 99, 99, generator=torch.Generator().manual_seed(0)) / 4
    with torch.no_grad():
        logits, features = model(x), model.features(x)
        fast = prepare_for_inference(model)(x)
        rounded = prepare_for_inference(model, "bfloat16")(x)
    assert logits.shape == (2, 5)
    assert features.shape == (2, model.classifier.in_features)
    torch.testing.assert_close(model.classifier(features), logits)
    torch.testing.assert_close(fast, logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))
    assert rounded.dtype == torch.float32
    assert (rounded - logits).abs().max() < 0.1 * logits.abs().max()


def test_an_unknown_name_lists_the_known():
    with pytest.raises(SettingsError, match=r"googlenet.*inception_v3"):
        build_model("googlenet_v9", 5)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("googlenet", {"depth": 3}, "depth"),
        ("googlenet", {"form": "v7"}, "form 'v7' is not one of .*torchvision"),
        ("googlenet", {"width": 0.0}, "width 0.0"),
        ("googlenet", {"width": float("nan")}, "width nan"),
        ("googlenet", {"dropout": -0.1}, "between 0 and 1"),
        ("bn_inception", {"dropout": 1.5}, "between 0 and 1"),
        ("inception_v3", {"layout": "v4"}, "released"),
        ("googlenet", {"num_outputs": 5}, "num_outputs"),
        ("googlenet", {"name": "nin"}, "name"),
        ("resnet50", {"name": "vgg16"}, "name"),
    ],
)
def test_an_option_that_does_not_exist_or_is_out_of_range_is_refused(name, options, words):
    with pytest.raises(SettingsError, match=f"architecture '{name}' cannot be built.*{words}"):
        build_model(name, 5, **options)


def test_a_network_without_outputs_is_refused():
    with pytest.raises(SettingsError, match="at least 1 output, not 0"):
        build_model("nin", 0)
