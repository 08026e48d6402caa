"""Calibration of proposal scores: the probability that a region covers an object.

It makes the scores of two engines comparable. Platt scaling: a logistic function of the score,
fitted on annotated images. "Covers" is an IoU of at least 0.5 with some object.
"""

import numpy as np
from pydantic import Field

from detector.errors import SettingsError
from detector.heads.platt_scaling import MIN_SLOPE, fit_logistic
from detector.settings import Settings
from detector.structures import Array

MIN_IOU = 0.5  # of a correct detection (arXiv 1409.4842, section 8)


class Calibration(Settings):
    """Platt scaling: log-odds = slope * score + offset, with a slope of at least 0."""

    slope: float = Field(ge=0, allow_inf_nan=False)
    offset: float = Field(allow_inf_nan=False)

    def __call__(self, scores: Array) -> Array:
        """Probabilities (N,) in [0, 1]."""
        odds = self.slope * np.asarray(scores, np.float64) + self.offset
        return 1 / (1 + np.exp(-np.clip(odds, -500, 500)))  # exp overflows beyond 709


def fit_calibration(scores: Array, covers: Array) -> Calibration:
    """Fit by maximum likelihood to scores (N,) and `covers` (N,) bool.

    Raises SettingsError where all regions cover an object, or none does.
    """
    if not covers.any() or covers.all():
        raise SettingsError(
            f"calibration: {int(covers.sum())} of {len(covers)} regions cover an object;"
            " some must and some must not, so give other images"
        )
    # Standardised: the least slope of a curve must not depend on the scale of the scores.
    mean, spread = float(scores.mean()), float(scores.std()) or 1.0
    slope, offset = fit_logistic((scores - mean) / spread, covers)
    if slope <= MIN_SLOPE:  # scores that say nothing, or the contrary: one chance for all
        share = float(np.mean(covers))
        return Calibration(slope=0.0, offset=float(np.log(share / (1 - share))))
    return Calibration(slope=slope / spread, offset=offset - slope * mean / spread)
