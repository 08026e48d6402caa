"""Boxes are moved onto objects: targets by hand, the ridge against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from detector.heads.bbox_regression import (
    RegressionSettings,
    apply_deltas,
    encode_deltas,
    fit_regression,
)

REGION = np.array([[10, 20, 30, 60]])  # 20 wide, 40 high, centre (20, 40)


@pytest.mark.parametrize(
    ("target", "delta"),
    [
        ([10, 20, 30, 60], [0, 0, 0, 0]),
        ([15, 20, 35, 60], [0.25, 0, 0, 0]),  # 5 of 20 to the right
        ([10, 10, 30, 50], [0, -0.25, 0, 0]),  # 10 of 40 up
        ([0, 20, 40, 60], [0, 0, np.log(2), 0]),  # twice as wide
        ([10, 30, 30, 50], [0, 0, 0, -np.log(2)]),  # half as high
    ],
)
def test_targets_by_hand_and_back(target, delta):
    found = encode_deltas(REGION, np.array([target]))
    assert found[0].tolist() == pytest.approx(delta)
    assert apply_deltas(REGION, found[:, None], (100, 100))[0, 0].tolist() == pytest.approx(target)


def test_each_class_moves_a_region_its_own_way():
    deltas = np.array([[[0, 0, 0, 0], [0.25, 0, 0, 0], [10, 0, 0, 0]]])
    boxes = apply_deltas(REGION, deltas, (100, 100))
    # The third would leave the image, so it stays.
    assert boxes[0].tolist() == [[10, 20, 30, 60], [15, 20, 35, 60], [10, 20, 30, 60]]


def test_moved_boxes_are_cut_to_the_image_and_always_have_area(rng):
    corner = rng.uniform(0, 80, (500, 2))
    regions = np.concatenate([corner, corner + rng.uniform(1, 20, (500, 2))], 1)
    for size in (0.1, 3, 1e6):
        boxes = apply_deltas(regions, rng.normal(0, size, (500, 3, 4)), (100, 100))
        assert boxes.dtype == np.float32
        assert (boxes >= 0).all()
        assert (boxes <= 100).all()
        assert (boxes[..., 2:] - boxes[..., :2] >= 0.99).all()


def test_no_move_is_the_same_box_bit_for_bit(rng):
    corner = rng.uniform(0, 80, (200, 2)).astype(np.float32)
    regions = np.concatenate([corner, corner + 15], 1).astype(np.float32)
    assert (apply_deltas(regions, np.zeros((200, 1, 4)), (100, 100))[:, 0] == regions).all()


def test_one_feature_by_hand():
    """Targets 2 x of x = -1 and 1, almost no ridge: the weight is 2 and the bias 0."""
    features = np.array([[-1.0], [1.0]])
    wanted = np.array([[-2.0, 0, 0, 0], [2.0, 0, 0, 0]])
    weight, bias = fit_regression(features, wanted, RegressionSettings(ridge=1e-9))
    assert weight[:, 0].tolist() == pytest.approx([2, 0, 0, 0], abs=1e-6)
    # With a ridge of 2, as large as the sum of squares, it is halved.
    weight, _ = fit_regression(features, wanted, RegressionSettings(ridge=2))
    assert weight[0, 0] == pytest.approx(1)
    assert bias.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_the_numbers_are_those_of_rcnn():
    """Overlap above 0.6, ridge 1000, features of mean norm 20."""
    assert RegressionSettings().model_dump() == {
        "least_iou": 0.6, "ridge": 1000, "target_norm": 20,
    }  # fmt: skip


def test_it_is_scikit_learns_ridge_on_whitened_targets(rng):
    features = rng.normal(0, 3, (200, 12))
    wanted = features @ rng.normal(0, 0.2, (12, 4)) + rng.normal(0, 0.3, (200, 4)) + 0.5
    weight, bias = fit_regression(features, wanted, RegressionSettings(ridge=50))
    # Centre and whiten by scikit-learn's rules: covariance, eigenvectors, 0.001.
    mean = wanted.mean(0)
    values, vectors = np.linalg.eig(np.cov(wanted.T, bias=True))
    whiten = vectors @ np.diag(1 / np.sqrt(values + 0.001)) @ vectors.T
    design = np.concatenate([features, np.ones((200, 1))], 1)
    judge = Ridge(alpha=50, fit_intercept=False).fit(design, (wanted - mean) @ whiten)
    expected = judge.predict(design) @ np.linalg.inv(whiten) + mean
    assert features @ weight.T + bias == pytest.approx(expected, abs=1e-8)
