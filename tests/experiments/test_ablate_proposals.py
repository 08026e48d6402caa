"""experiments/ablate.py proposals: coverage and its intervals, row by row."""

# ruff: noqa: F811 - a fixture and its use have the same name

import json
from pathlib import Path
from typing import Any

import pytest
from small_classifiers import exit_code, tool
from test_ablate_detection import TOOLS, toy  # noqa: F401 - a fixture


def ablate(toy: tuple[Path, Path], out: Path, *more: object) -> int:
    main = tool("ablate").command_line()
    words = ["--data", toy[0], "--split", "train", "--out", out, "--quiet", *more]
    return exit_code(main, "proposals", *words)


def rows_in(out: Path) -> list[dict[str, Any]]:
    rows = json.loads((out / "ablation.json").read_text())["rows"]
    assert isinstance(rows, list)
    return rows


def test_rows_have_their_coverage_and_intervals(toy, tmp_path: Path, capsys):
    engine = "selective-search:max_boxes=12"
    words = ["--proposals", engine, "--budgets", "7,2"]
    assert ablate(toy, tmp_path, *words, "--rounds", 20) == 0
    rows = rows_in(tmp_path)
    for row in rows:
        assert row["coverage_interval"][0] <= row["coverage"] <= row["coverage_interval"][1]
    alone = [row for row in rows if "coverage_gain" not in row]
    assert [row["name"] for row in alone] == ["selective search", f"{engine}: all"]
    names = [row["name"] for row in rows[rows.index(alone[1]) :]]
    assert names == [f"{engine}: all", f"{engine}: 2", f"{engine}: 7"]
    assert [row["boxes"] for row in rows[-3:]] == [12, 2, 7]
    assert rows[-1]["seconds"] == rows[-3]["seconds"]
    gains = set()
    for row in rows:
        base = alone[row["name"].startswith(engine)]
        if row is not base:
            gain = row["coverage_gain"]
            assert gain[0] == pytest.approx(row["coverage"] - base["coverage"])
            assert gain[1] <= gain[0] <= gain[2]
            gains.add(round(gain[0], 6))
    assert gains - {0.0}  # so a wrong base or sign would show
    said = capsys.readouterr().out
    assert "95 % interval" in said
    assert f"{100 * rows[-2]['coverage_gain'][0]:+.1f} (" in said
    assert ablate(toy, tmp_path, *words, "--rounds", 0) == 0
    assert not any("interval" in key for row in rows_in(tmp_path) for key in row)


def test_budgets_may_be_of_several_engines(toy, tmp_path: Path, capsys):
    words = ["--rounds", 0, "--budgets", "2"]
    assert (
        ablate(toy, tmp_path, *words, "--proposals", "multibox:keep=4", "--proposals", "both") == 0
    )
    rows = rows_in(tmp_path)[4:]
    names = ["multibox:keep=4: all", "multibox:keep=4: 2", "both: all", "both: 2"]
    assert [row["name"] for row in rows] == names
    assert [row["boxes"] for row in rows][:2] == [4, 2]
    assert ablate(toy, tmp_path, *words, "--proposals", "edges") == 2
    assert "--proposals edges: choose" in capsys.readouterr().err


def test_all_rows_are_timed_on_as_many_threads(toy):
    from ablations.proposals import rows_of

    named = tool("ablate").engine_of("selective-search:ranking=learned", 3)
    assert {engine.threads for engine in (named, *(row.propose for row in rows_of(None, 3)))} == {3}


@pytest.mark.parametrize("bad", ["0", "5,five", "3,3", "-1"])
def test_budgets_are_numbers_from_one(toy, tmp_path: Path, capsys, bad: str):
    assert ablate(toy, tmp_path, "--proposals", "opencv", "--budgets", bad) == 2
    assert f"--budgets {bad}: expected whole numbers from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budgets", "5"], "--budgets: changes nothing without --proposals"),
        (["--rounds", "0", "--seed", "1"], "--seed: changes nothing with --rounds 0"),
    ],
)
def test_options_without_effect_are_refused(toy, tmp_path: Path, capsys, options, said: str):
    assert ablate(toy, tmp_path, *options) == 2
    assert said in capsys.readouterr().err
