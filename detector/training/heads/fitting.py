"""Fitting of SVMs and box regression for all classes, on features from any source."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Protocol

from detector.detection.bundle import BundleManifest, Thresholds
from detector.heads import (
    BoxRegression,
    HeadManifest,
    LinearScores,
    RegressionSettings,
    SvmSettings,
)
from detector.heads.fit import fit_regressions, fit_svms, mean_norm
from detector.heads.regions import DescribedImage
from detector.training.regions.settings import HeadsConfig

Fitted = list[tuple[HeadManifest, LinearScores | BoxRegression]]


class Described(Protocol):
    """Images with the features of their regions; they can be iterated repeatedly."""

    members: int

    def images(self, member: int, label: str) -> Iterable[DescribedImage]:
        """All images, with the features of one member; `label` is for the progress."""


def fit_all(
    described: Described, classes: tuple[str, ...], heads: HeadsConfig, data: str
) -> Fitted:
    """Fit SVMs and box regression of all classes for each member; `data` says on what."""
    fitted: Fitted = []
    recipe = {"data": data, "seed": heads.seed}
    for member in range(described.members):
        images = partial(described.images, member)
        norm = mean_norm(images("features"))
        if heads.svm:
            settings = SvmSettings(seed=heads.seed)
            head = HeadManifest(kind="svm", member=member, recipe=recipe | settings.model_dump())
            fitted.append((head, fit_svms(images, classes, norm, settings)))
        if heads.regression:
            ridge = RegressionSettings()
            head = HeadManifest(
                kind="regression", member=member, recipe=recipe | ridge.model_dump()
            )
            fitted.append((head, fit_regressions(images, classes, norm, ridge)))
    return fitted


def thresholds_with(manifest: BundleManifest, fitted: Fitted, enable: bool) -> Thresholds:
    """The bundle's thresholds, with the fitted heads enabled if asked for."""
    enabled: dict[str, bool] = {head.kind: True for head, _ in fitted} if enable else {}
    return manifest.thresholds.model_copy(update=enabled)
