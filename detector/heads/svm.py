"""Linear SVMs on a network's features with hard negative mining (Girshick et al. 2014, section 2.3;
constants of rcnn_train.m).

Positives are the ground-truth boxes only. A region whose IoU with every object of the class is
below 0.3 is a negative; other regions are ignored.
"""

import numpy as np
from pydantic import Field

from detector.seeds import Seed
from detector.settings import Settings
from detector.structures import Array


class SvmSettings(Settings):
    """R-CNN's constants."""

    negative_iou: float = Field(0.3, gt=0, lt=1)
    """A negative has a lower IoU with every object (0.5 cost R-CNN 5 points of mAP, 0 cost 4)."""
    target_norm: float = Field(20.0, gt=0)
    """Features are scaled to this mean norm, so that C means the same for every network."""
    c: float = Field(1e-3, gt=0)
    bias_feature: float = Field(10.0, gt=0)
    """Liblinear's -B: the constant feature whose weight is the bias; large, so that it is hardly
    regularised.
    """
    positive_weight: float = Field(2.0, gt=0)
    hard_margin: float = -1.0001
    """A negative with a higher margin is hard, and enters the cache."""
    evict_margin: float = -1.2
    """A negative with a lower margin leaves the cache after a fit."""
    retrain_after: int = Field(2000, ge=1)
    """Fit again after this many new negatives."""
    passes: int = Field(1, ge=1)
    """Passes over all images; R-CNN found one to be enough."""
    seed: Seed = 0


def fit_margin(positives: Array, negatives: Array, settings: SvmSettings) -> tuple[Array, float]:
    """Fit weight (F,) and bias to positives (P, F) and negatives (N, F): hinge loss with L2."""
    from sklearn.svm import LinearSVC

    machine = LinearSVC(  # liblinear knows the hinge loss in its dual only
        loss="hinge", penalty="l2", dual=True, random_state=settings.seed, max_iter=20_000,
        C=settings.c, class_weight={1: settings.positive_weight},
        intercept_scaling=settings.bias_feature,
    )  # fmt: skip
    labels = np.repeat([1, -1], [len(positives), len(negatives)])
    machine.fit(np.concatenate([positives, negatives]).astype(np.float64), labels)
    return machine.coef_[0], float(machine.intercept_[0])


class HardNegativeMining:
    """SVM of one class on a stream of images: `partial_fit` with each one's negatives, then `fit`.

    Features must be scaled. The first negatives all enter the cache, later ones only if they are
    hard for the current SVM.
    """

    def __init__(self, positives: Array, settings: SvmSettings) -> None:
        self.positives = positives
        self.settings = settings
        self.negatives = np.zeros((0, positives.shape[1]), np.float32)
        self.new = 0
        self.weight: Array | None = None
        self.bias = 0.0
        self._seen: set[bytes] = set()  # of the cache: a second pass brings its rows again

    def margins(self, features: Array) -> Array:
        """Margins (N,) of features (N, F)."""
        assert self.weight is not None
        return features @ self.weight + self.bias

    def partial_fit(self, features: Array) -> None:
        """Add the negatives (N, F) of one image that are hard and not in the cache already; fit
        again when enough are new.
        """
        if self.weight is not None:
            features = features[self.margins(features) > self.settings.hard_margin]
        fresh = [row for row in features if self._is_fresh(row)]
        if not fresh:
            return
        self.negatives = np.concatenate([self.negatives, np.stack(fresh)])
        self.new += len(fresh)
        # The first image is fitted at once: only an SVM can tell what is hard.
        if self.weight is None or self.new > self.settings.retrain_after:
            self._refit()

    def _is_fresh(self, row: Array) -> bool:
        key = row.tobytes()
        known = key in self._seen
        self._seen.add(key)
        return not known

    def _refit(self) -> None:
        self.weight, self.bias = fit_margin(self.positives, self.negatives, self.settings)
        self.new = 0
        keep = self.margins(self.negatives) >= self.settings.evict_margin
        for row in self.negatives[~keep]:  # they may return, once they are hard
            self._seen.discard(row.tobytes())
        self.negatives = self.negatives[keep]

    def fit(self) -> tuple[Array, float]:
        """Fit once more after the last image; returns the weight (F,) and the bias."""
        if self.new or self.weight is None:
            self._refit()
        assert self.weight is not None
        return self.weight, self.bias
