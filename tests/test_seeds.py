"""Every seed has one limit, so that none is too large for the library that takes it in the end."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.datasets.sources import DataSource
from detector.errors import SettingsError
from detector.heads.svm import SvmSettings
from detector.proposals.multibox.priors import free_priors
from detector.proposals.opencv import OpenCVSelectiveSearch
from detector.proposals.selective_search import SelectiveSearch
from detector.seeds import LARGEST
from detector.settings import validate
from detector.training.classifier.settings import OptimiserSettings
from detector.training.regions.bank import BankSettings
from detector.training.regions.settings import HeadsConfig, OptimiserConfig

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (BankSettings, "seed"),
        (OptimiserConfig, "seed"),
        (OptimiserConfig, "sampling_seed"),
        (OptimiserSettings, "seed"),
        (DataSource, "cap_seed"),
        (HeadsConfig, "seed"),
        (SvmSettings, "seed"),
    ],
)
@pytest.mark.parametrize("value", [-1, LARGEST + 1, 10**30])
def test_a_seed_beyond_the_limit_is_a_settings_error(kind, name, value):
    with pytest.raises(SettingsError, match=name):
        validate(kind, {"path": "a", name: value} if kind is DataSource else {name: value}, "x")
    assert f"{LARGEST}" in str(kind.model_json_schema())


@pytest.mark.parametrize("engine", [SelectiveSearch, OpenCVSelectiveSearch])
def test_engines_refuse_it_too(engine):
    with pytest.raises(SettingsError, match=f"seed.*{LARGEST}"):
        engine(seed=LARGEST + 1)
    engine(seed=LARGEST)


def test_the_largest_is_taken_by_all_that_draw():
    np.random.default_rng([LARGEST, 1])
    torch.manual_seed((LARGEST * 1_000_003 + 10**9) * 1009 + 1000)  # as a training does, late
    boxes = np.random.default_rng(0).uniform(0, 0.5, (60, 2))
    assert len(free_priors(np.concatenate([boxes, boxes + 0.2], 1), 50, seed=LARGEST)) == 50


def test_every_tool_that_takes_a_seed_says_the_limit():
    for path in (ROOT / "tools").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arg) and node.arg == "seed" and node.annotation is not None:
                said = ast.unparse(node.annotation)
                if "Option" in said and path.stem != "propose":
                    assert "max=LARGEST" in said, path
