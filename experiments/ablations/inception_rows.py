"""The rows of an ablation of training: each is the one above and what it changes."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from ablations.rows import read_file
from detector.errors import SettingsError
from detector.models import build_model
from detector.settings import Settings, put, validate
from detector.training.classifier.recipes import with_recipe
from detector.training.classifier.settings import AUXILIARY_SIDES, ClassifierTrainingConfig

# Networks in which batch normalisation may see one value of a map for each image.
NORMALISED = ("inception_v2", "inception_v3")


class Paper(Settings):
    """Errors in per cent as printed; None where nothing is."""

    top1: float | None = Field(None, ge=0, le=100)
    top5: float | None = Field(None, ge=0, le=100)


class RowSettings(Settings):
    """One row of a file."""

    name: str = Field(min_length=1)
    change: dict[str, Any] = {}
    """Differences from the row above, by room.setting."""
    paper: Paper = Paper()


@dataclass(frozen=True)
class Row:
    """One row with all its settings."""

    name: str
    change: Mapping[str, Any]
    paper: Paper
    settings: ClassifierTrainingConfig

    @property
    def adapted(self) -> bool:
        """True where its auxiliary head departs from the paper to take smaller crops."""
        return bool(self.settings.network.options.get("adaptive_auxiliary"))


def read_rows(
    path: Path, changes: Sequence[str] = (), over: Mapping[str, Any] | None = None
) -> list[Row]:
    """The rows of a file, each complete and checked before anything is trained.

    changes  room.setting=value, of all rows; what a row changes itself stands
    over     further settings of all rows, by room.setting
    """
    file = read_file(path, changes)
    tree = deepcopy(file.common)
    for name, value in (over or {}).items():
        put(tree, name, value)
    _adapt_auxiliary(tree)
    rows: list[Row] = []
    for number, given in enumerate(file.rows, start=1):
        label = f"{path}: row {number}"
        asked = validate(RowSettings, given, label)
        # In the one tree of all rows: each is the row above and what it changes.
        for name, value in asked.change.items():
            put(tree, name, value)
        settings = validate(ClassifierTrainingConfig, with_recipe(deepcopy(tree)), label)
        rows.append(Row(asked.name, asked.change, asked.paper, settings))
        _check(rows, label)
    return rows


def differences(one: ClassifierTrainingConfig, other: ClassifierTrainingConfig) -> dict[str, Any]:
    """Settings of `other` that differ from those of `one`, by room.setting."""
    before, after = (dict(_leaves(x.model_dump(mode="json"))) for x in (one, other))
    names = sorted(before.keys() | after.keys())
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}


def _check(rows: Sequence[Row], label: str) -> None:
    # Before any row is trained: these faults would only show after hours.
    *above, row = rows
    if row.name in {one.name for one in above}:
        raise SettingsError(f"{label}: {row.name!r} is there already; every row needs its own name")
    if above:
        before = above[-1]
        changed = differences(before.settings, row.settings)
        if not changed:
            said = ", ".join(row.change) or "it has no `change`"
            raise SettingsError(
                f"{label}: {row.name!r} is the row above again ({said}); name a setting that"
                " differs, or take back the --set that made it so"
            )
        fixed = sorted(n for n in changed if n.startswith("data.") or n == "optimiser.seed")
        if fixed:
            raise SettingsError(
                f"{label}: {fixed[0]} is one for all rows; use --data, --set data... or --seeds"
            )
    _check_batch(row.settings, label)
    _check_network(row.settings, label)


def _check_batch(settings: ClassifierTrainingConfig, label: str) -> None:
    how = settings.optimiser
    part = math.ceil(how.batch / how.accumulate)  # as torch.chunk divides
    last = how.batch - part * ((how.batch - 1) // part)
    if settings.network.architecture in NORMALISED and last < 2:
        raise SettingsError(
            f"{label}: optimiser.batch {how.batch} in {how.accumulate} parts leaves a part of one"
            " image, whose auxiliary head cannot be normalised; make it 2 or more"
        )


def _check_network(settings: ClassifierTrainingConfig, label: str) -> None:
    with torch.device("meta"):  # a network's options are checked without its memory
        try:
            build_model(settings.network.architecture, 2, **settings.network.options)
        except SettingsError as error:
            raise SettingsError(f"{label}: network.options: {error}") from None


def _adapt_auxiliary(at: Mapping[str, Any]) -> None:
    # Not validated yet: a row may still complete these settings.
    network = at.get("network")
    options = network.get("options") if isinstance(network, dict) else None
    if not isinstance(network, dict) or not isinstance(options, dict):
        return
    size, name = network.get("input_size"), network.get("architecture")
    if name in NORMALISED and isinstance(size, int) and size < AUXILIARY_SIDES[name][0]:
        options.setdefault("adaptive_auxiliary", True)


def _leaves(tree: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        whole = f"{above}{name}"
        found += _leaves(value, f"{whole}.") if isinstance(value, Mapping) else [(whole, value)]
    return found
