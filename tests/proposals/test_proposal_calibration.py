"""Calibrated scores are chances: as often right as they say."""

import numpy as np
import pytest

from detector.errors import SettingsError
from detector.proposals.calibration import Calibration, fit_calibration


def test_a_calibration_by_hand():
    found = Calibration(slope=2.0, offset=-1.0)(np.array([0.5, 1e9, -1e9]))
    assert found.tolist() == pytest.approx([0.5, 1, 0])


def test_the_fit_finds_the_chances_that_made_the_data():
    rng = np.random.default_rng(0)
    scores = rng.normal(3, 2, 20_000)
    covers = rng.random(20_000) < Calibration(slope=1.5, offset=-4.0)(scores)
    found = fit_calibration(scores, covers)
    assert found.slope == pytest.approx(1.5, abs=0.1)
    assert found.offset == pytest.approx(-4, abs=0.3)
    assert found(scores).mean() == pytest.approx(covers.mean(), abs=1e-3)


def test_scores_that_mislead_become_one_chance_for_all():
    found = fit_calibration(np.array([0.0, 1.0, 2.0, 3.0]), np.array([True, False, False, False]))
    assert found(np.array([0.0, 3.0])).tolist() == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize("covers", [[True, True], [False, False]])
def test_without_both_kinds_there_is_nothing_to_fit(covers):
    with pytest.raises(SettingsError, match="other images"):
        fit_calibration(np.array([0.0, 1.0]), np.array(covers))
