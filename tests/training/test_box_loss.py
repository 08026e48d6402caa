"""Box regression learnt beside the classes: what the layer learns is what the head does."""

import numpy as np
import pytest
import torch

from detector.datasets import Dataset, Sample
from detector.errors import SettingsError
from detector.heads.bbox_regression import apply_deltas, encode_deltas
from detector.models import build_model
from detector.structures import Annotations, Proposals
from detector.training.regions.box_loss import (
    SPREAD,
    RegionOutput,
    WithDeltas,
    add_layer,
    box_loss,
    split_head,
)
from detector.training.regions.sampling import RegionPool, SamplingSettings


def test_only_an_objects_own_class_moves_it():
    deltas = torch.zeros(3, 8, requires_grad=True)
    wanted = torch.tensor([[0.1, 0.0, 0.0, 0.4], [0.05, 0, 0, 0], [9.0, 9, 9, 9]])
    losses = box_loss(deltas, wanted, torch.tensor([0, 1, 2]))  # 2 is background
    # In units of SPREAD: 1 (0.5) and 2 (1.5); 0.5 (0.125).
    assert losses.tolist() == pytest.approx([2.0, 0.125, 0.0])
    losses.sum().backward()
    touched = deltas.grad.view(3, 2, 4).abs().sum(2) > 0
    assert touched.tolist() == [[True, False], [False, True], [False, False]]


def test_the_head_moves_a_region_as_the_layer_says():
    network = build_model("googlenet", 3)
    add_layer(network, 2)
    for tensor in (network.boxes.weight, network.boxes.bias):
        torch.nn.init.normal_(tensor, std=0.05)
    output = WithDeltas(network.eval())(torch.randn(2, 3, 64, 64))
    assert isinstance(output, RegionOutput)
    rest, head = split_head(network.state_dict())
    assert rest.keys() == build_model("googlenet", 3).state_dict().keys()
    features = network.features(torch.ones(2, 3, 64, 64)).detach()
    layer = network.boxes(features).detach().view(2, 2, 4) * torch.tensor(SPREAD)
    fitted = features.numpy() @ head.weight.T + head.bias
    assert np.allclose(fitted.reshape(2, 2, 4), layer.numpy(), atol=1e-5)
    assert split_head(rest)[1] is None
    again = build_model("googlenet", 3)
    add_layer(again, 2, head)
    assert torch.allclose(again.boxes.weight, network.boxes.weight, rtol=1e-5)
    assert torch.allclose(again.boxes.bias, network.boxes.bias, rtol=1e-5)


def test_classes_are_learnt_behind_dropout_and_places_without():
    """All features of the classes dropped: their logits are the bias; the moves are untouched."""
    network = build_model("googlenet", 3)
    add_layer(network, 2)
    crops = torch.randn(2, 3, 64, 64)
    wanted = WithDeltas(network.eval())(crops)
    network.dropout.p = 1.0
    network.dropout.train()
    found = WithDeltas(network)(crops)
    assert (found.logits == network.classifier.bias).all()
    assert torch.equal(found.deltas, wanted.deltas)


def test_a_pool_says_what_moves_a_region_mirrored_or_not(tmp_path):
    truth = Annotations(np.array([[10, 10, 50, 50], [60, 20, 90, 70]]), np.array([0, 1]))
    sample = Sample("a", tmp_path / "a.png", (100, 120), truth)
    proposals = Proposals(np.array([[14, 8, 52, 48], [62, 22, 95, 70], [0, 0, 9, 9]]), (100, 120))
    pool = RegionPool(Dataset("one", ("x", "y"), (sample,)), {"a": proposals}, SamplingSettings())
    rows = np.arange(len(pool.boxes))
    straight = pool.deltas(rows, np.zeros(len(rows), bool))
    for box, move, which in zip(pool.boxes, straight, pool.object, strict=True):
        there = apply_deltas(box[None], move[None, None], (100, 120))[0, 0]
        assert np.allclose(there, truth.boxes[which] if which >= 0 else box, atol=1e-4)
    mirrored = pool.deltas(rows, np.ones(len(rows), bool))
    flipped = pool.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [120, 0, 120, 0]
    goal = truth.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [120, 0, 120, 0]
    hit = pool.object >= 0
    deltas = encode_deltas(flipped[hit], goal[pool.object[hit]])
    assert np.allclose(mirrored[hit], deltas, atol=1e-6)
    assert not mirrored[~hit].any()


def test_a_network_with_auxiliary_heads_has_no_place_for_it():
    with pytest.raises(SettingsError, match="auxiliary"):
        add_layer(build_model("googlenet", 3, auxiliary=True), 2)
