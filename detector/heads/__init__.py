"""Linear heads on a network's features: R-CNN's SVMs and box regression, and single new classes.

A head is fitted after the network and does not change it (Girshick et al. 2014, section 2.3 and
appendix C). All of them are optional: GoogLeNet's entry had none.
"""

from detector.heads.bbox_regression import RegressionSettings, apply_deltas, fit_regression
from detector.heads.linear import NO_HEADS, BoxRegression, Heads, LinearScores
from detector.heads.platt_scaling import fit_logistic
from detector.heads.stored import HeadManifest
from detector.heads.svm import HardNegativeMining, SvmSettings, fit_margin

__all__ = [
    "NO_HEADS",
    "BoxRegression",
    "HardNegativeMining",
    "HeadManifest",
    "Heads",
    "LinearScores",
    "RegressionSettings",
    "SvmSettings",
    "apply_deltas",
    "fit_logistic",
    "fit_margin",
    "fit_regression",
]
