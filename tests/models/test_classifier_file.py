"""A trained classifier's file: what it is stands in it, and the region trainer starts from it."""

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from detector.errors import WeightsError
from detector.models import build_model
from detector.models.input_normalisation import HALF
from detector.models.weights.classifier_file import load_classifier, save_classifier
from detector.models.weights.start import load_start


def saved(path: Path, *, auxiliary: bool = False, **other) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = build_model("googlenet", 3, auxiliary=auxiliary, generator=generator).eval()
    save_classifier(
        path, model.state_dict(), architecture="googlenet", options={"auxiliary": auxiliary},
        input_size=64, classes=["a", "b", "c"], **other,
    )  # fmt: skip
    return model


def test_a_classifier_comes_back_with_its_names_and_without_its_auxiliary_heads(tmp_path):
    model = saved(tmp_path / "x.safetensors", auxiliary=True, normalisation=HALF)
    found = load_classifier(tmp_path / "x.safetensors")
    assert (found.architecture, found.input_size, found.num_outputs) == ("googlenet", 64, 3)
    assert found.classes == ("a", "b", "c")
    assert found.model.normalisation == HALF
    assert not any(name.startswith("auxiliary") for name in found.model.state_dict())
    crops = torch.rand(1, 3, 32, 32)
    assert torch.equal(found.model.eval()(crops), model(crops))


def test_the_region_trainer_starts_from_it_with_a_fresh_last_layer(tmp_path):
    model = saved(tmp_path / "x.safetensors", auxiliary=True)
    started = load_start(tmp_path / "x.safetensors", "googlenet", 21, {})
    assert started.classifier.out_features == 21
    assert torch.equal(started.conv1.conv.weight, model.conv1.conv.weight)


def test_the_scale_of_the_pixels_moves_into_the_first_layer(tmp_path):
    model = saved(tmp_path / "x.safetensors", pixel_scale=255.0)
    crops = torch.rand(1, 3, 32, 32) - 0.5
    found = load_classifier(tmp_path / "x.safetensors").model.eval()
    assert torch.allclose(found(crops), model(crops * 255), rtol=1e-4, atol=1e-4)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    state = build_model("googlenet", 3).state_dict()
    state["classifier.bias"][0] = torch.nan
    with pytest.raises(WeightsError, match=r"classifier\.bias is not finite"):
        save_classifier(
            tmp_path / "x",
            state,
            architecture="googlenet",
            options={},
            input_size=64,
            classes="abc",
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["googlenet", "resnet50"])
def test_torchvisions_classifiers_keep_their_last_layer(name, tmp_path):
    import torchvision

    plain = {"init_weights": False} if name == "googlenet" else {}
    theirs = getattr(torchvision.models, name)(weights=None, num_classes=7, **plain)
    if name == "resnet50":
        theirs = torchvision.models.resnet50(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    asked = "resnet50" if name == "resnet50" else None
    found = load_classifier(tmp_path / "x.pth", asked)
    assert torch.equal(found.model.classifier.weight, theirs.fc.weight)
    if name == "resnet50":
        assert load_classifier(tmp_path / "x.pth").architecture == "resnet50"
        torch.save({"fc.weight": torch.zeros(3, 2)}, tmp_path / "y.pth")
        with pytest.raises(WeightsError, match="--set architecture=NAME"):
            load_classifier(tmp_path / "y.pth")


def test_bvlc_googlenet_is_recognised_with_its_thousand_classes(shared_weights):
    found = load_classifier(shared_weights / "bvlc_googlenet.safetensors")
    assert (found.architecture, found.input_size, found.num_outputs) == ("googlenet", 224, 1000)
    assert found.model.classifier.weight.abs().max() > 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "[]"}, "0 classes"),
        ({"classes": "no"}, "header is damaged"),
        ({"normalisation": "[[1]]"}, "header is damaged"),
        ({"normalisation": "[[0, 0, 0], [1, 0, 1]]"}, "each std above 0"),
        ({"normalisation": "[[0, 0, 0], [1, -1, 1]]"}, "each std above 0"),
        ({"normalisation": "[[0, NaN, 0], [1, 1, 1]]"}, "finite numbers"),
        ({"normalisation": f"[[0, 1{'0' * 400}, 0], [1, 1, 1]]"}, "header is damaged"),
        ({"options": '{"width": 16}'}, "has shape"),
        ({"input_size": "100000"}, "input size 100000"),
        ({"classes": '["a", "b"]'}, "has shape"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(change, message, tmp_path):
    from safetensors import safe_open

    path = tmp_path / "x.safetensors"
    saved(path)
    with safe_open(path, framework="pt") as file:
        head = dict(file.metadata())
    save_file(load_file(path), path, metadata={**head, **change})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=message):
        load_classifier(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000  # kB: 16 times the width would be 7 GB
