"""What a region's size says before anybody looks at it: fitted, stored, applied."""

import numpy as np
import pytest
from pydantic import ValidationError

from detector.detection.size_prior import SizePrior, fit_prior, sides_of, with_prior

SIZE = (100, 200)


def square(side: float) -> np.ndarray:
    """A box that covers side ** 2 of the image."""
    return np.array([[0, 0, 200 * side, 100 * side]], np.float32)


def test_between_sizes_the_odds_run_straight_and_end_level():
    prior = SizePrior(sides=(0.1, 0.4), log_odds=(-3.0, 1.0))
    found = [float(prior(square(side), SIZE)[0]) for side in (0.02, 0.1, 0.2, 0.4, 1.0)]
    assert found == pytest.approx([-3, -3, -1, 1, 1], abs=1e-5)


def test_odds_of_an_object_are_multiplied_and_classes_keep_their_shares():
    scores = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32)
    found = with_prior(scores, np.log([0.5, 4.0]))
    odds = (1 - found[:, 2]) / found[:, 2]
    assert odds == pytest.approx([3 * 0.5, 0.25 * 4], rel=1e-5)
    assert found.sum(1) == pytest.approx([1, 1])
    assert found[:, 0] / found[:, 1] == pytest.approx([2, 1])


def test_no_log_odds_change_nothing():
    scores = np.array([[0.5, 0.3, 0.2]], np.float32)
    assert with_prior(scores, np.zeros(1)) == pytest.approx(scores, abs=1e-7)


def test_a_sure_network_stays_sure_and_everything_stays_finite():
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    found = with_prior(scores, np.array([-50.0, 50.0]))
    assert np.isfinite(found).all()
    assert found[0, 0] == 1
    assert found[1, 2] == 1


def test_a_row_does_not_depend_on_its_company():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(21), 37).astype(np.float32)
    log_odds = rng.normal(size=37)
    whole = with_prior(scores, log_odds)
    for rows in (slice(0, 1), slice(5, 12), slice(30, 37)):
        assert (with_prior(scores[rows], log_odds[rows]) == whole[rows]).all()


def test_the_odds_of_the_data_come_back():
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(np.log(0.05), 0, 200_000))
    true = 3 * np.log(sides) + 1
    is_object = rng.random(len(sides)) < 1 / (1 + np.exp(-true))
    prior = fit_prior(sides, is_object, odds_learnt=0.5)
    assert prior is not None
    for side in (0.1, 0.3, 0.8):
        expected = 3 * np.log(side) + 1 - np.log(0.5)
        assert prior(square(side), SIZE)[0] == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("is_object", [[False, False], [True, True], []])
def test_without_both_kinds_there_is_no_prior(is_object: list[bool]):
    sides = np.linspace(0.1, 0.5, len(is_object))
    assert fit_prior(sides, np.array(is_object, bool), 1.0) is None


def test_one_size_alone_is_enough():
    prior = fit_prior(np.array([0.5, 0.5, 0.5]), np.array([True, False, False]), 1.0)
    assert prior is not None
    assert prior(square(0.1), SIZE)[0] == pytest.approx(np.log(0.5), abs=1e-3)


@pytest.mark.parametrize(
    "sides",
    [
        [0.5, 0.5 + 1e-9, 0.5, 0.5 - 1e-9],
        [0.5, 0.50001, 0.50002, 0.50003],
        [1, 1 - 1e-7, 1 - 1e-6, 1],
        [1e-6, 1e-6, 1e-6 + 1e-12, 1e-6],
        [1.1, 1.05, 1, 0.99],
        [0.3, 0.3001, 0.3002, 0.9],
    ],
)
def test_sizes_that_are_nearly_equal_are_one_size(sides: list[float]):
    prior = fit_prior(np.array(sides), np.array([True, False, False, False]), 1.0)
    assert prior is not None
    assert (len(prior.sides) == 1) == (np.ptp(sides) < 1e-3)


@pytest.mark.parametrize("odds", [1e-300, 1e300])
def test_odds_beyond_counting_stay_within_what_a_prior_may_say(odds: float):
    prior = fit_prior(np.array([0.1, 0.2]), np.array([True, False]), odds)
    assert prior is not None
    assert set(map(abs, prior.log_odds)) == {50}


def test_sides_are_shares_of_the_image():
    assert sides_of(np.array([[0, 0, 200, 100], [0, 0, 50, 25]]), SIZE) == pytest.approx([1, 0.25])


@pytest.mark.parametrize(
    ("sides", "log_odds", "word"),
    [
        ((), (), "at least 1"),
        ((0.1, 0.2), (1.0,), "one log_odds"),
        ((0.2, 0.1), (1.0, 2.0), "ascend"),
        ((0.0, 0.1), (1.0, 2.0), "ascend"),
        ((0.5, 1.5), (1.0, 2.0), "ascend"),
        ((0.5,), (51.0,), "between"),
        ((0.5,), (float("nan"),), "finite"),
    ],
)
def test_what_is_no_function_of_size_is_refused(sides, log_odds, word: str):
    with pytest.raises(ValidationError, match=word):
        SizePrior(sides=sides, log_odds=log_odds)
