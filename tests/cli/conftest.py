"""The toy run that several tests of commands begin with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Of a training of regions on squares of two colours (toy_regions.py)."""
    from toy_regions import write_config, write_squares

    return write_config(write_squares(tmp_path_factory.mktemp("toy") / "squares"))
