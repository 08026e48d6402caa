"""Settings are values: nobody changes them afterwards, and an unknown name is an error."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from pydantic import BaseModel

import detector


def _below(one: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for other in one.__subclasses__():
        yield other
        yield from _below(other)


def test_all_settings_and_manifests_are_frozen_and_refuse_unknown_names():
    for module in pkgutil.walk_packages(detector.__path__, "detector."):
        importlib.import_module(module.name)
    ours = {one for one in _below(BaseModel) if one.__module__.startswith("detector.")}
    assert len(ours) >= 42
    for one in ours:
        assert one.model_config.get("frozen") is True, one
        assert one.model_config.get("extra") == "forbid", one
