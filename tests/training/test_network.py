"""The network that a training begins with."""

from pathlib import Path

import pytest
import torch

from detector.errors import WeightsError
from detector.models import build_model
from detector.training.engine.network import MemberConfig, build_network


def test_a_network_starts_from_its_own_weights_with_a_fresh_last_layer(tmp_path: Path):
    from safetensors.torch import save_file

    trained = build_model("googlenet", 6)
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    same = build_network(MemberConfig(weights="w.safetensors"), 6, tmp_path)
    other = build_network(MemberConfig(weights="w.safetensors"), 4, tmp_path)
    theirs = trained.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in same.state_dict().items())
    assert other.state_dict()["classifier.weight"].shape == (4, 1024)
    assert torch.equal(other.state_dict()["conv1.conv.weight"], theirs["conv1.conv.weight"])


def test_weights_of_another_architecture_are_refused(shared_weights: Path):
    member = MemberConfig(architecture="inception_v3", weights="bvlc_googlenet.safetensors")
    with pytest.raises(WeightsError, match="googlenet"):
        build_network(member, 4, shared_weights)
