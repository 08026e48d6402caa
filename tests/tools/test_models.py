"""tools/models.py prints what it counts beside what is published."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "models.py"))


def run(*arguments: str) -> str:
    import typer

    app = typer.Typer()
    app.command()(TOOL["main"])
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_one_architecture_in_markdown():
    """A header, a rule and the rows of both first layers."""
    lines = run("googlenet", "--markdown").splitlines()
    assert len(lines) == 4
    assert [line.count("|") for line in lines] == [8] * 4
    assert "| 1.583G | 1.502G (+5.4%) |" in lines[2]
    assert "separable_first=True" in lines[3]
    assert "| 1.499G | 1.502G (-0.2%) |" in lines[3]


def test_a_last_layer_of_another_size_is_not_compared_with_the_published_network():
    row = run("nin", "--outputs", "5", "--markdown").splitlines()[2]
    assert row.startswith("| nin | 224 | 6.575M | - | 1.063G | - |")


def test_modules_are_compared_in_five_tables():
    text = run("--modules")
    assert text.count("multiply-adds") == 5
    assert "112.9M (+0.0%)" in text
    assert "+19,232 parameters, +0.413G" in text
    assert "27.16M (+0.0%)" in text


@pytest.mark.parametrize(
    ("number", "expected"), [(999, "999"), (1025, "1.025K"), (26_944, "26.94K"), (5e9, "5G")]
)
def test_numbers_are_printed_with_four_digits(number, expected):
    assert TOOL["short"](number) == expected
