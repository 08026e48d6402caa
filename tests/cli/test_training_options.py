"""Options that the trainings have in common do what they say, or are refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_classifiers import exit_code, tool

from detector.cli.run_settings import RunSettings
from detector.cli.training_session import training_session
from detector.errors import SettingsError
from detector.files import LOCK
from detector.proposals.engines import build_engine
from detector.training.regions import data


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[int]:
    """How many there were, and will be again."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize(("given", "batches"), [(None, 2), (1, 1), (3, 3)])
def test_threads_are_those_that_make_batches_and_those_that_compute(
    given, batches, own_threads, tmp_path
):
    run = RunSettings(threads=given, compile=True)
    with training_session(tmp_path / "run", tmp_path, run, device="cpu", quiet=True) as context:
        assert torch.get_num_threads() == (given or own_threads)
        assert (context.threads, context.bounded) == (batches, given is not None)
        assert (context.compiled, context.group.is_main) == (True, True)
        assert (tmp_path / "run" / LOCK).exists()


def test_no_more_threads_compute_than_a_container_may_use(own_threads, tmp_path, monkeypatch):
    asked = {"run": RunSettings(), "device": "cpu", "quiet": True}
    torch.set_num_threads(8)
    monkeypatch.setattr("detector.hardware.usable_cores", lambda: 3)
    with training_session(tmp_path / "run", tmp_path, **asked):
        assert torch.get_num_threads() == 3
    torch.set_num_threads(1)  # as OMP_NUM_THREADS or torchrun asked for
    with training_session(tmp_path / "run", tmp_path, **asked):
        assert torch.get_num_threads() == 1


def test_of_bounded_threads_each_search_has_one(config, tmp_path, monkeypatch, capsys):
    def ask(engine: str, options: dict[str, object]) -> None:
        raise SettingsError(f"{build_engine(engine, options).threads} threads")

    monkeypatch.setattr(data, "build_engine", ask)
    options = ["--config", config, "--out", tmp_path, "--device", "cpu"]
    options += ["--set", "run.threads=3"]
    assert exit_code(tool("train_regions").main, *options) == 2
    assert "error: 1 threads" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train_regions", "train_multibox"])
@pytest.mark.parametrize(
    ("options", "message"),
    [([], "give --data"), (["--split", "train"], "--split is of every --data")],
)
def test_options_that_would_change_nothing_are_refused(
    name, options, message, tmp_path: Path, capsys
):
    assert exit_code(tool(name).main, "--out", tmp_path / "run", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("train_multibox", ["--data", "squares", "--set", "run.bank=kept"], "run.bank changes"),
        ("train_regions", ["--config", "{config}", "--set", "run.bank=kept"], "run.bank changes"),
        ("train_regions", ["--config", "{config}", "--budget", "10m"], "leave one of them out"),
        ("train_regions", ["--data", "s", "--budget", "5m", "--steps", "9"], "leave --steps out"),
        ("train_regions", ["--data", "s", "--budget", "soon"], "90s, 10m or 2h"),
    ],
)
def test_settings_of_a_run_that_would_change_nothing_are_refused(
    name, options, message, config, tmp_path: Path, capsys
):
    words = [one.format(config=config) for one in options]
    assert exit_code(tool(name).main, "--out", tmp_path / "run", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
