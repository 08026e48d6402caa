"""A network starts from any known file, recognised by its names, with a last layer of its own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detector.errors import WeightsError
from detector.models import build_model
from detector.models.input_normalisation import HALF
from detector.models.weights.start import load_start


def torchvision_file(folder: Path, name: str) -> Path:
    import torchvision

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    state = getattr(torchvision.models, name)(weights=None, **options).state_dict()
    torch.save(state, folder / f"{name}.pth")
    return folder / f"{name}.pth"


@pytest.mark.parametrize(
    ("theirs", "ours", "first"),
    [
        ("googlenet", "torchvision_googlenet", ("conv1.conv.weight", "conv1.conv.weight")),
        ("inception_v3", "inception_v3", ("Conv2d_1a_3x3.conv.weight", "stem.0.conv.weight")),
        ("resnet50", "resnet50", ("conv1.weight", "trunk.conv1.weight")),
        ("densenet121", "densenet121", ("features.conv0.weight", "trunk.features.conv0.weight")),
    ],
)
def test_torchvisions_files_are_recognised(theirs, ours, first, tmp_path):
    path = torchvision_file(tmp_path, theirs)
    model = load_start(path, ours, 4, {})
    stored = torch.load(path, weights_only=True)
    assert model.classifier.out_features == 4
    assert torch.equal(model.state_dict()[first[1]], stored[first[0]])


@pytest.mark.parametrize("outputs", [3, 5])
def test_our_own_file_keeps_its_last_layer_if_it_fits(outputs, tmp_path):
    model = build_model("googlenet", 3, generator=torch.Generator().manual_seed(0))
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    loaded = load_start(tmp_path / "own.safetensors", "googlenet", outputs, {})
    assert loaded.classifier.out_features == outputs
    same = outputs == 3 and torch.equal(loaded.classifier.weight, model.classifier.weight)
    assert same == (outputs == 3)
    assert torch.equal(loaded.conv1.conv.weight, model.conv1.conv.weight)


def test_the_options_decide_on_heads_and_dropout_not_the_file(tmp_path):
    """The file has auxiliary heads for 1,000 classes; ours has them only if it is asked to."""
    path = torchvision_file(tmp_path, "googlenet")
    plain = load_start(path, "torchvision_googlenet", 4, {"dropout": 0.7})
    assert plain.dropout.p == 0.7
    assert plain.normalisation == HALF
    names = plain.state_dict().keys()
    assert names == build_model("torchvision_googlenet", 4).state_dict().keys()
    both = load_start(path, "torchvision_googlenet", 4, {"auxiliary": True})
    assert both.auxiliary["4a"].classifier.out_features == 4


def test_a_file_of_another_architecture_is_refused(tmp_path):
    path = torchvision_file(tmp_path, "googlenet")
    with pytest.raises(WeightsError, match="holds a torchvision_googlenet, but"):
        load_start(path, "googlenet", 4, {})
    save_file({"something": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"no classifier\.weight"):
        load_start(tmp_path / "other.safetensors", "googlenet", 4, {})
