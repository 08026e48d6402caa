"""Settings are values: nobody changes them; unknown names and endless numbers are errors."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

import detector
from detector.errors import SettingsError
from detector.heads.bbox_regression import RegressionSettings
from detector.heads.few_shot import OneClassSettings
from detector.heads.svm import SvmSettings
from detector.settings import Settings, validate
from detector.training.augment import AugmentSettings
from detector.training.classifier.settings import OptimiserSettings
from detector.training.regions.box_loss import BoxLossSettings
from detector.training.regions.sampling import SamplingSettings
from detector.training.regions.settings import OptimiserConfig


def _below(one: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for other in one.__subclasses__():
        yield other
        yield from _below(other)


def test_all_settings_and_manifests_are_frozen_finite_and_refuse_unknown_names():
    for module in pkgutil.walk_packages(detector.__path__, "detector."):
        importlib.import_module(module.name)
    ours = {one for one in _below(BaseModel) if one.__module__.startswith("detector.")}
    assert len(ours) >= 40
    for one in ours:
        assert issubclass(one, Settings), one
        assert one.model_config == Settings.model_config, one
    assert Settings.model_config == {"frozen": True, "extra": "forbid", "allow_inf_nan": False}


@pytest.mark.parametrize(
    ("kind", "name", "accepted", "refused"),
    [
        (SvmSettings, "negative_iou", (0.01, 0.99), (0, 1)),
        (SvmSettings, "c", (1e-6,), (0,)),
        (SvmSettings, "passes", (1,), (0,)),
        (RegressionSettings, "least_iou", (0.01, 0.99), (0, 1)),
        (RegressionSettings, "ridge", (1e-6,), (0,)),
        (OneClassSettings, "shifted", (0,), (-1,)),
        (OneClassSettings, "proposals", (0,), (-1,)),
        (OneClassSettings, "folds", (2,), (1,)),
        (OneClassSettings, "near_iou", (0.01, 0.29), (0, 0.3)),
        (SamplingSettings, "positives_per_batch", (1,), (0,)),
        (SamplingSettings, "background_per_batch", (0,), (-1,)),
        (SamplingSettings, "hard_candidates", (0,), (-1,)),
        (SamplingSettings, "near_iou", (0.01, 0.99), (0, 1)),
        (SamplingSettings, "background_prior", (0.01,), (0,)),
        (SamplingSettings, "class_power", (0, 1), (-0.1, 1.1)),
        (AugmentSettings, "contrast", (0, 0.99), (-0.1, 1)),
        (BoxLossSettings, "weight", (0.01,), (0,)),
    ],
)
def test_what_makes_no_sense_is_refused(kind, name, accepted, refused):
    for value in accepted:
        assert getattr(kind(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(SettingsError, match=f"^here: {name}: Input should be"):
            validate(kind, {name: value}, "here")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_is_told_by_its_name(value):
    with pytest.raises(SettingsError, match=r"^optimiser: rate: .*finite"):
        validate(OptimiserConfig, {"rate": value}, "optimiser")


def test_validating_only_at_the_end_and_clipping_nothing_may_be_told_as_infinity():
    settings = OptimiserSettings(validate_every=math.inf, clip=math.inf)
    assert (settings.validate_every, settings.clip) == (math.inf, math.inf)
    for name in ("validate_every", "clip"):
        with pytest.raises(SettingsError, match=name):
            validate(OptimiserSettings, {name: math.nan}, "optimiser")
