"""ablate.py inception-v3: rows that change one switch each, trained once, kept, compared."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_classifiers import TOOLS, SmallNetwork, exit_code, tool, write_pictures

from detector.models import ARCHITECTURES
from detector.progress.live import TrainingDisplay
from detector.training.engine.distributed import Group
from detector.training.engine.run_folder import exclusive_lock

SHIPPED = TOOLS.parent / "configs" / "ablation" / "inception_v3.yaml"
TABLE = """
common:
  network: {architecture: small, input_size: 32}
  optimiser: {method: sgd, epochs: 1, batch: 4, rate: 0.05, warmup: 0, average_decay: 0.9,
              label_smoothing: 0.0, precision: float32}
rows:
  - {name: plain, paper: {top1: 23.4}}
  - {name: + RMSProp, change: {optimiser.method: rmsprop}, paper: {top1: 23.1, top5: 6.3}}
  - {name: + smoothing, change: {optimiser.label_smoothing: 0.1}, paper: {top1: 22.8, top5: 6.1}}
"""


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ARCHITECTURES, "small", SmallNetwork)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures to learn from, two to judge by."""
    root = tmp_path_factory.mktemp("pictures")
    write_pictures(root / "train", 4)
    write_pictures(root / "val", 1)
    return root


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained while a test runs."""
    steps: list[int] = []
    real: Callable[..., None] = TrainingDisplay.step

    def counted(self: TrainingDisplay, step: int, *more: float) -> None:
        steps.append(step)
        real(self, step, *more)

    monkeypatch.setattr(TrainingDisplay, "step", counted)
    return steps


def ablate(pictures: Path, out: Path, *more: object, table: str = TABLE) -> int:
    out.parent.mkdir(exist_ok=True)
    path = out.parent / "table.yaml"
    path.write_text(table)
    words = ["--data", pictures, "--table", path, "--device", "cpu", "--threads", 1, "--out", out]
    return exit_code(tool("ablate").command_line(), "inception-v3", *words, "--quiet", *more)


def found(out: Path) -> list[dict[str, Any]]:
    rows = json.loads((out / "ablation.json").read_text())["rows"]
    assert isinstance(rows, list)
    return rows


def rows_of(table: str | Path, folder: Path, *changes: str, **over: object) -> list[Any]:
    from ablations.inception_rows import read_rows

    if isinstance(table, str):
        (folder / "rows.yaml").write_text(table)
        table = folder / "rows.yaml"
    return read_rows(table, changes, over)


def test_the_same_command_twice_at_once_is_refused(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    with exclusive_lock(out, Group()):
        assert ablate(pictures, out) == 3
    assert f"{out}: another process" in capsys.readouterr().err
    assert not out.exists()


def test_each_row_of_the_paper_differs_from_the_one_above_in_one_switch(tmp_path: Path):
    from ablations.inception_rows import differences

    rows = rows_of(SHIPPED, tmp_path)
    changed = [differences(a.settings, b.settings) for a, b in pairwise(rows)]
    assert changed == [
        {"optimiser.method": "rmsprop"},
        {"optimiser.label_smoothing": 0.1},
        {"network.options.factorised_stem": True},
        {"network.options.norm_auxiliary": True},
    ]
    assert all(row.settings.network.options["auxiliary"] for row in rows)
    assert [row.paper.top1 for row in rows] == [23.4, 23.1, 22.8, 21.6, 21.2]
    assert [row.paper.top5 for row in rows] == [None, 6.3, 6.1, 5.8, 5.6]


def test_the_last_row_is_trained_by_the_recipe_of_inception_v3(tmp_path: Path):
    from detector.training.classifier.recipes import V3

    last = rows_of(SHIPPED, tmp_path)[-1].settings
    assert last.optimiser == V3.optimiser
    assert (last.patches, last.augment) == (V3.patches, V3.augment)


@pytest.mark.parametrize("size", [75, 299])
def test_every_row_of_the_paper_gives_two_sets_of_logits(size: int, tmp_path: Path):
    """Of 75 pixels the last map is 1 x 1 and the auxiliary head's 3 x 3; shapes only."""
    from detector.models import build_model

    for row in rows_of(SHIPPED, tmp_path, **{"network.input_size": size}):
        seen = row.settings.network
        with torch.device("meta"):
            model = build_model(seen.architecture, 3, **seen.options)
            output = model(torch.zeros(2, 3, size, size))
        assert [logits.shape for logits in output] == [(2, 3), (2, 3)]


def test_smaller_crops_let_the_auxiliary_head_take_any_map(tmp_path: Path):
    def adapted(size: int) -> set[bool]:
        return {row.adapted for row in rows_of(SHIPPED, tmp_path, f"network.input_size={size}")}

    assert adapted(299) == {False}
    assert adapted(298) == {True}


def test_the_table_has_mean_and_range_and_the_step_of_each_seed(tmp_path: Path):
    """Errors of 50 and 40, then 45 and 30 per cent: -5 and -10; of the third row one seed."""
    from ablations.inception_runs import Result, Run
    from ablations.inception_table import table_of, tabulated
    from rich.console import Console

    reached = [(0, 0, 0.5), (0, 1, 0.6), (1, 0, 0.55), (1, 1, 0.7), (2, 1, 0.75)]
    rows = rows_of(TABLE, tmp_path)
    found = [
        (
            Run(rows[number], seed, rows[number].settings, tmp_path),
            Result(top1=top1, top5=0.9, images=100, judged="", readable=True),
        )
        for number, seed, top1 in reached
    ]
    one, two, three = tabulated(rows, found)
    assert one["top1_error"] == pytest.approx({"mean": 45, "low": 40, "high": 50})
    assert "top1_step" not in one
    assert two["top1_step"] == pytest.approx({"mean": -7.5, "low": -10, "high": -5})
    assert two["top5_error"] == pytest.approx({"mean": 10, "low": 10, "high": 10})
    assert three["top1_step"]["mean"] == pytest.approx(-5), "against the same seed"
    assert two["paper_step"] == {"top1": -0.3, "top5": None}
    assert three["paper_step"] == {"top1": -0.3, "top5": -0.2}
    with Console(width=160) as console, console.capture() as said:
        console.print(table_of([one, two, three]))
    line = said.get().splitlines()[2].split("  ")
    assert [cell.strip() for cell in line if cell.strip()] == [
        "+ RMSProp", "37.50 (30.00 to 45.00)", "-7.50 (-10.00 to -5.00)", "10.00", "+0.00",
        "23.1 (-0.3)", "6.3",
    ]  # fmt: skip


def test_rows_are_trained_with_each_seed_and_keep_their_weights(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: list[int]
):
    out = tmp_path / "out"
    assert ablate(pictures, out, "--seeds", "0,1") == 0
    assert trained == 6 * [0, 1]  # three rows, two seeds, eight pictures in batches of four
    rows = found(out)
    assert [[run["seed"] for run in row["runs"]] for row in rows] == 3 * [[0, 1]]
    said = capsys.readouterr().out
    assert "22.8 (-0.3)" in said
    assert "2 images of" in said
    assert not list(out.rglob("checkpoint*")), "finished runs keep their weights only"
    assert len(list(out.rglob("classifier.safetensors"))) == 6


def test_what_is_finished_is_not_trained_again_and_what_is_changed_is(
    pictures: Path, tmp_path: Path, trained: list[int]
):
    out = tmp_path / "out"
    assert ablate(pictures, out) == 0
    before = (out / "ablation.json").read_bytes()
    assert trained == 3 * [0, 1]
    assert ablate(pictures, out) == 0
    assert trained == 3 * [0, 1]
    assert (out / "ablation.json").read_bytes() == before
    assert ablate(pictures, out, table=TABLE.replace("smoothing: 0.1", "smoothing: 0.2")) == 0
    assert trained == 4 * [0, 1], "the last row alone"
    assert ablate(pictures, out, "--seeds", "0,1") == 0
    assert trained == 7 * [0, 1], "the second seed of all rows"
    assert ablate(pictures, out, "--epochs", 0.5, "--set", "optimiser.rate=0.01") == 0
    assert trained == [*(7 * [0, 1]), 0, 0, 0]


def test_other_validation_images_are_judged_by_the_weights_that_are_kept(
    pictures: Path, tmp_path: Path, trained: list[int]
):
    out = tmp_path / "out"
    assert ablate(pictures, out) == 0
    write_pictures(tmp_path / "more", 3)
    assert ablate(pictures, out, "--val", tmp_path / "more") == 0
    assert trained == 3 * [0, 1]
    assert [row["runs"][0]["images"] for row in found(out)] == [6, 6, 6]


def test_a_killed_ablation_goes_on_in_the_middle_of_its_row(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[int]
):
    often = ["--set", "optimiser.save_every=1"]
    assert ablate(pictures, tmp_path / "straight", *often) == 0
    trained.clear()
    out = tmp_path / "cut" / "out"
    counted = TrainingDisplay.step

    def killed(self: TrainingDisplay, step: int, *more: float) -> None:
        if len(trained) == 3:  # after the first step of the second row is saved
            raise MemoryError
        counted(self, step, *more)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingDisplay, "step", killed)
        assert ablate(pictures, out, *often) == 3
    assert trained == [0, 1, 0]
    assert [len(row["runs"]) for row in found(out)] == [1, 0, 0]
    assert ablate(pictures, out, *often) == 0
    assert trained == [0, 1, 0, 1, 0, 1]
    assert (out / "ablation.json").read_text() == (
        tmp_path / "straight" / "ablation.json"
    ).read_text()
    straight = sorted((tmp_path / "straight").rglob("classifier.safetensors"))
    assert len(straight) == 3
    for path in straight:
        whole, cut = load_file(path), load_file(out / path.relative_to(tmp_path / "straight"))
        assert [name for name, value in whole.items() if not torch.equal(cut[name], value)] == []


def test_an_interrupt_saves_shows_the_finished_rows_and_exits_130(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    steps = []

    def interrupt(self: TrainingDisplay, step: int, *_: float) -> None:
        steps.append(step)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(TrainingDisplay, "step", interrupt)
    out = tmp_path / "out"
    assert ablate(pictures, out) == 130
    assert steps == [0, 1, 0]
    assert "plain" in capsys.readouterr().out
    rows = found(out)
    assert rows[0]["top1_error"] is not None
    assert rows[1]["top1_error"] is rows[1]["top1_step"] is None
    assert len(list(out.rglob("checkpoint.safetensors"))) == 1


def test_a_damaged_result_is_measured_again_from_the_weights(
    pictures: Path, tmp_path: Path, trained: list[int]
):
    out = tmp_path / "out"
    assert ablate(pictures, out) == 0
    before = (out / "ablation.json").read_bytes()
    for path in out.rglob("result.json"):
        path.write_text('{"top1": 1')
    assert ablate(pictures, out) == 0
    assert trained == 3 * [0, 1]
    assert (out / "ablation.json").read_bytes() == before


def test_an_unreadable_picture_costs_itself_and_the_exit_code_says_so(
    pictures: Path, tmp_path: Path
):
    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data/val/red/0.png").write_bytes(b"not a picture")
    for _ in range(2):  # measured, and kept
        assert ablate(tmp_path / "data", tmp_path / "out") == 1
        assert found(tmp_path / "out")[0]["runs"][0]["images"] == 1
    shutil.copytree(pictures, tmp_path / "whole")
    (tmp_path / "whole/train/red/0.png").write_bytes(b"not a picture")
    for val in ([], ["--val", pictures / "train"]):  # by the same weights
        assert ablate(tmp_path / "whole", tmp_path / "other", *val) == 1


V3 = """
common:
  recipe: v3
  network: {architecture: inception_v2, options: {auxiliary: true}, input_size: 75}
rows: [{name: a}]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rows:", "rows: []\nrest:", "rows"),
        ("name: + RMSProp", "name: plain", "'plain' is there already"),
        ("name: plain", "name: ''", "row 1: name"),
        ("optimiser.method: rmsprop", "optimiser.speed: 1", "unknown setting optimiser.speed"),
        ("optimiser.method: rmsprop", "optimiser.method: sgd", "row 2: '+ RMSProp' is the row"),
        ("change: {optimiser.method: rmsprop}, ", "", "it has no `change`"),
        ("optimiser.method: rmsprop", "optimiser.seed: 1", "--seeds"),
        ("optimiser.method: rmsprop", "data.images: 2", "--data"),
        ("optimiser.method: rmsprop", "recipe.method: 1", "recipe is a value"),
        ("optimiser.method: rmsprop", "network.options.wide: true", "row 2: network.options"),
        ("top1: 23.4", "top1: 123.4", "paper.top1"),
        ("top1: 23.4", "top2: 23.4", "unknown setting paper.top2"),
    ],
)
def test_a_table_that_cannot_be_is_told_before_anything_is_trained(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    message: str,
):
    table = TABLE.replace("common:\n", "common:\n  recipe: modern\n")
    assert old in table
    assert ablate(pictures, tmp_path / "out", table=table.replace(old, new, 1)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) <= 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "options", "message", "code"),
    [
        (TABLE, ["--seeds", "0,zero"], "--seeds 0,zero", 2),
        (TABLE, ["--seeds", "1,01"], "each once", 2),
        (TABLE, ["--epochs", 0], "optimiser.epochs", 2),
        (TABLE, ["--set", "optimiser.rate"], "--set optimiser.rate: expected", 2),
        (TABLE, ["--set", "optimiser.method=rmsprop"], "take back the --set", 2),
        (TABLE, ["--data", "/nowhere"], "no such file", 3),
        (TABLE, ["--table", "/nowhere.yaml"], "cannot be read", 2),
        (V3, ["--input-size", 74], "inception_v2 needs an input_size of 75", 2),
        (V3, ["--set", "optimiser.batch=1"], "cannot be normalised", 2),
        (
            V3,
            ["--set", "network.options.adaptive_auxiliary=false"],
            "input_size of 299 or more; or set network.options.adaptive_auxiliary=true",
            2,
        ),
    ],
)
def test_wrong_options_are_one_sentence(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    table: str,
    options: list[object],
    message: str,
    code: int,
):
    assert ablate(pictures, tmp_path / "out", *options, table=table) == code
    said = capsys.readouterr().err
    assert message in said
    assert "internal error" not in said
    assert len(said.splitlines()) <= 3
    assert not (tmp_path / "out").exists()


def test_data_without_validation_images_ask_for_some(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert ablate(pictures / "train", tmp_path / "out") == 3
    assert "--val" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_of_the_paper_runs_from_end_to_end(
    pictures: Path, tmp_path: Path, trained: list[int]
):
    words = ["--input-size", 75, "--epochs", 0.5, "--set", "optimiser.batch=2"]
    assert ablate(pictures, tmp_path / "out", *words, table=SHIPPED.read_text()) == 0
    assert trained == 5 * [0, 1]
    assert [len(row["runs"]) for row in found(tmp_path / "out")] == 5 * [1]
    shutil.rmtree(tmp_path / "out" / "runs")  # half a gigabyte
