"""A command in this process, and the toy run that several tests of commands begin with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coloured_squares import bundle, small_parts, voc  # noqa: F401 fixtures of several files

from detector.cli.main import main

Command = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("data split", "--data", path)`: the exit code and both outputs."""

    def call(name: str, *words: object) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([*name.split(), *map(str, words)])
        said = capsys.readouterr()
        return stopped.value.code, said.out, said.err

    return call


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Of a training of regions on squares of two colours (toy_regions.py)."""
    from toy_regions import write_config, write_squares

    return write_config(write_squares(tmp_path_factory.mktemp("toy") / "squares"))
