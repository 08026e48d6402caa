"""Tests of tools may import them by name; and the toy run that several of them begin with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in ("experiments", "benchmarks"):
    sys.path.append(str(Path(__file__).resolve().parents[2] / folder))


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Of a training of regions on squares of two colours (toy_regions.py)."""
    from toy_regions import write_config, write_squares

    return write_config(write_squares(tmp_path_factory.mktemp("toy") / "squares"))
