"""Settings are values: nobody changes them; unknown names and endless numbers are errors."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

import detector
from detector.configuration import validated
from detector.errors import SettingsError
from detector.settings import Settings
from detector.training.region_settings import OptimiserConfig


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


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_is_told_by_its_name(value):
    with pytest.raises(SettingsError, match=r"^optimiser: rate: .*finite"):
        validated(OptimiserConfig, {"rate": value}, "optimiser")
