"""Heads as layers of a network: the columns of all, side by side, and what they must be."""

import numpy as np
import pytest
import torch
from class_heads import class_head

from detector.heads.linear import BoxRegression, HeadLayers, Heads, LinearScores


def _scores(rng: np.random.Generator, classes: int) -> LinearScores:
    return LinearScores(
        rng.normal(size=(classes, 5)).astype(np.float32),
        *(rng.normal(size=classes).astype(np.float32) for _ in range(3)),
    )


def _wanted(one: LinearScores, features: np.ndarray) -> np.ndarray:
    logits = (features @ one.weight.T + one.bias) * one.slope + one.offset
    return 1 / (1 + np.exp(-logits))


def test_svms_then_added_classes_then_the_moves_of_both(rng):
    svm = _scores(rng, 3)
    added = (class_head(_scores(rng, 1), 1, 2, 3, 4), class_head(_scores(rng, 1), 5, 6, 7, 8))
    moves = BoxRegression(
        rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=12).astype(np.float32)
    )
    layers = HeadLayers(Heads(svm, moves, added))
    assert layers.widths == (3, 2, 12, 8)
    features = rng.normal(size=(7, 5)).astype(np.float32)
    found = layers(torch.from_numpy(features)).numpy()
    assert found[:, :3] == pytest.approx(_wanted(svm, features), abs=1e-5)
    for column, one in zip((3, 4), added, strict=True):
        assert found[:, column : column + 1] == pytest.approx(_wanted(one, features), abs=1e-5)
    assert found[:, 5:17] == pytest.approx(features @ moves.weight.T + moves.bias, abs=1e-5)
    assert (found[:, 17:] == range(1, 9)).all()


def test_heads_that_are_not_there_have_no_columns(rng):
    layers = HeadLayers(Heads(added=(class_head(_scores(rng, 1)),)))
    assert layers.widths == (0, 1, 0, 4)
    assert layers(torch.zeros(4, 5)).shape == (4, 5)
    assert not Heads()
