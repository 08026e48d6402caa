"""R-CNN's SVMs: the margin by hand, hard negatives only, and the same machine as all at once."""

import numpy as np
import pytest

from detector.heads.svm import HardNegativeMining, SvmSettings, fit_margin


def test_the_margin_between_two_points_lies_halfway():
    """One positive at 3 and one negative at 1: the margin is x - 2, +1 and -1 at the points."""
    settings = SvmSettings(c=100, bias_feature=10)
    weight, bias = fit_margin(np.array([[3.0]]), np.array([[1.0]]), settings)
    assert weight[0] == pytest.approx(1, abs=1e-2)
    assert bias == pytest.approx(-2, abs=2e-2)


def test_a_small_c_bounds_the_weight():
    """The dual variables are at most C (2 C for positives): w = 2 C * 3 - C * 1 with C = 1e-3."""
    settings = SvmSettings(c=1e-3, bias_feature=1e-3)
    weight, bias = fit_margin(np.array([[3.0]]), np.array([[1.0]]), settings)
    assert weight[0] == pytest.approx(2e-3 * 3 - 1e-3, rel=1e-3)
    assert abs(bias) < 1e-6


def test_the_numbers_are_those_of_rcnn_train():
    """-w1 2 -c 0.001 -l hinge, bias 10, features of mean norm 20, an image's negatives below IoU
    0.3; hard above -1.0001, let go below -1.2, fitted again after 2,000 new ones; one pass.
    """
    assert SvmSettings().model_dump() == {
        "negative_iou": 0.3, "target_norm": 20, "c": 0.001, "bias_feature": 10,
        "positive_weight": 2, "hard_margin": -1.0001, "evict_margin": -1.2,
        "retrain_after": 2000, "passes": 1, "seed": 0,
    }  # fmt: skip


def _clouds(rng: np.random.Generator, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    positives = rng.normal([3, 0, 0, 0], 1, (30, 4)).astype(np.float32)
    return positives, rng.normal([-1, 0, 0, 0], 1.5, (count, 4)).astype(np.float32)


def test_mining_image_by_image_finds_the_machine_of_all_negatives_at_once(rng):
    """What is left out has no loss: margins of -1 and less do not pull."""
    positives, negatives = _clouds(rng)
    settings = SvmSettings(c=0.1, retrain_after=40, passes=3)
    plain, bias = fit_margin(positives, negatives, settings)
    mining = HardNegativeMining(positives, settings)
    for _ in range(settings.passes):
        for image in np.split(negatives, 10):
            mining.partial_fit(image)
    weight, mined_bias = mining.fit()
    assert np.abs(weight - plain).max() < 0.02 * np.abs(plain).max()
    assert mined_bias == pytest.approx(bias, abs=0.02)
    assert 0 < len(mining.negatives) < len(negatives) / 2


def test_the_first_image_is_kept_whole_and_fitted(rng):
    positives, negatives = _clouds(rng, 20)
    mining = HardNegativeMining(positives, SvmSettings(c=1e-6))  # nothing is beyond the margin
    mining.partial_fit(negatives)
    assert mining.weight is not None
    assert len(mining.negatives) == 20


def test_easy_negatives_are_not_taken_and_none_is_taken_twice(rng):
    positives, negatives = _clouds(rng, 50)
    mining = HardNegativeMining(positives, SvmSettings(c=1.0))
    mining.partial_fit(negatives)
    cached = len(mining.negatives)
    mining.partial_fit(np.array([[-50.0, 0, 0, 0]], np.float32))  # far on the right side
    assert len(mining.negatives) == cached
    hard = np.array([[3.0, 0, 0, 0]], np.float32)
    for _ in range(3):
        mining.partial_fit(hard)
    assert len(mining.negatives) == cached + 1


def test_easy_negatives_leave_the_cache_and_may_come_again(rng):
    positives, negatives = _clouds(rng, 50)
    mining = HardNegativeMining(positives, SvmSettings(c=1.0))
    mining.partial_fit(negatives)
    assert 0 < len(mining.negatives) < 50
    assert (mining.margins(mining.negatives) >= -1.2).all()
    left = {row.tobytes() for row in negatives} - {row.tobytes() for row in mining.negatives}
    # A machine for which everything is hard.
    mining.weight, mining.bias = np.zeros(4, np.float32), 0.0
    mining.partial_fit(np.stack([np.frombuffer(row, np.float32) for row in left]))
    assert len(mining.negatives) == 50
    mining.partial_fit(negatives)
    assert len(mining.negatives) == 50


def test_it_is_fitted_again_after_so_many_new_negatives(rng):
    positives, negatives = _clouds(rng, 50)
    hard = np.array([[3, 0, 0, i / 10] for i in range(6)], np.float32)
    mining = HardNegativeMining(positives, SvmSettings(c=1.0, retrain_after=5))
    mining.partial_fit(negatives)
    before = mining.weight
    mining.partial_fit(hard[:5])
    assert mining.weight is before
    mining.partial_fit(hard[5:])
    assert mining.weight is not before
    assert mining.new == 0
