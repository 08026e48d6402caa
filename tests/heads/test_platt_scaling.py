"""Margins become scores: by hand, finite when perfect, and always rising."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from detector.heads.platt_scaling import MIN_SLOPE, fit_logistic


def test_two_margins_by_hand():
    """At -1 one of 100 is positive, at +1 99 of 100: the logits there are about -log 99, log 99."""
    margins = np.repeat([-1.0, 1.0], 100)
    positive = np.arange(200) >= 101
    positive[0], positive[100] = True, False
    positive[1:100], positive[101:] = False, True
    slope, offset = fit_logistic(margins, positive)
    # Softened targets: (100 + 1) / (100 + 2) and 1 / 102, so 1 and 99 of them a side.
    share = (99 * 101 + 1) / (100 * 102)
    assert slope == pytest.approx(np.log(share / (1 - share)), rel=1e-6)
    assert offset == pytest.approx(0, abs=1e-6)


def test_it_is_a_logistic_regression_on_many_margins(rng):
    margins = rng.normal(0, 2, 20_000)
    positive = rng.random(20_000) < 1 / (1 + np.exp(-(1.5 * margins - 1)))
    slope, offset = fit_logistic(margins, positive)
    judge = LogisticRegression(C=1e6).fit(margins[:, None], positive)
    assert slope == pytest.approx(judge.coef_[0, 0], rel=5e-3)
    assert offset == pytest.approx(judge.intercept_[0], rel=2e-2)


@pytest.mark.parametrize("gap", [0.1, 1.0, 1000.0])
def test_perfect_margins_give_finite_curves(gap):
    slope, offset = fit_logistic(np.array([-gap] * 10 + [gap] * 3), np.arange(13) >= 10)
    assert np.isfinite([slope, offset]).all()
    assert slope > 0


@pytest.mark.parametrize("margins", [[1.0, 1, -1, -1], [0.0, 0, 0, 0]])
def test_margins_that_tell_nothing_or_the_wrong_thing_still_rise(margins):
    slope, offset = fit_logistic(np.array(margins), np.array([False, False, True, True]))
    assert slope == MIN_SLOPE
    assert offset == pytest.approx(0)
