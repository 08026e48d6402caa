"""tools/fuzz.py: finds what raises, dies, hangs or eats memory, says how to have it again, and
finds nothing in what is read here.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_classifiers import exit_code, tool

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def fuzzing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    from fuzzing import damage, isolation, targets

    yield damage, isolation, targets
    for name in [name for name in sys.modules if name.split(".")[0] == "fuzzing"]:
        del sys.modules[name]


def read_badly(trouble: str):
    def read(data: bytes, _: Path) -> None:
        if len(data) % 3:
            return
        if trouble == "raises":
            raise KeyError("seven")
        if trouble == "dies":
            os.abort()
        if trouble == "hangs":
            time.sleep(600)
        if trouble == "eats":
            held = [bytearray(2**27) for _ in range(20)]
            raise RuntimeError(f"{len(held)} blocks of 128 MB were to be had")

    return read


@pytest.mark.parametrize(
    ("trouble", "word"),
    [("raises", "KeyError"), ("dies", "signal 6"), ("hangs", "no end"), ("eats", "MemoryError")],
)
def test_every_trouble_is_found_and_can_be_had_again(
    fuzzing, trouble: str, word: str, tmp_path: Path, monkeypatch
):
    _, isolation, targets = fuzzing
    monkeypatch.setattr(isolation.tempfile, "tempdir", str(tmp_path))
    target = targets.Target("bad", lambda _: [b"good"], read_badly(trouble))

    most = 2.0 if trouble == "hangs" else 60.0  # a machine with other work is slow

    def run(cases: range):
        found = isolation.run_cases(target, [b"a good file, long enough"], 3, cases, most, 500)
        return [(outcome, crash) for outcome, _, crash in found]

    found = run(range(6))
    assert len(found) == 6
    crashes = [crash for outcome, crash in found if outcome == "crash"]
    assert crashes
    assert len(crashes) < 6
    first = crashes[0]
    assert word in first.what
    assert first.data == isolation.data_of(target, [b"a good file, long enough"], 3, first.case)
    assert [crash.case for _, crash in run(range(first.case, first.case + 1))] == [first.case]
    assert not list(tmp_path.iterdir()), "a dead process leaves its folder"


def test_damage_is_a_function_of_the_seed(fuzzing):
    damage, _, _ = fuzzing
    good = [b'{"a": [1, 2.5], "b": "text"}', b"<a><b>17</b></a>"]

    def made(seed: int) -> list[bytes]:
        rng = np.random.default_rng(seed)
        return [damage.damaged(good[0], good, rng) for _ in range(200)]

    assert made(0) == made(0)
    assert made(0) != made(1)
    assert len(set(made(0))) > 190
    assert max(map(len, made(0))) <= 2_000_000


@pytest.mark.parametrize("number", range(26))
def test_good_files_are_read_and_damaged_ones_read_or_refused(fuzzing, number: int, tmp_path: Path):
    _, isolation, targets = fuzzing
    target = targets.TARGETS[number]
    seeds = target.seeds(tmp_path)
    for good in seeds:
        target.read(good, tmp_path / "work")
    found = list(isolation.run_cases(target, seeds, 99, range(25), 10, 1500))
    assert len(found) == 25
    assert [crash for _, _, crash in found if crash is not None] == []


def test_the_table_and_the_exit_code(capsys, tmp_path: Path):
    main = tool("fuzz").main
    words = ["--only", "results-txt", "--seconds", "1", "--out", tmp_path, "--quiet"]
    assert exit_code(main, *words) == 0
    said = capsys.readouterr().out
    assert "results-txt" in said
    assert "0 failed" in said
    assert exit_code(main, "--only", "everything") == 2
    assert exit_code(main, "--case", "3") == 2


def test_what_failed_is_kept(fuzzing, monkeypatch, capsys, tmp_path: Path):
    _, _, targets = fuzzing
    bad = targets.Target("bad", lambda _: [b"xx"], read_badly("raises"))
    monkeypatch.setattr(targets, "TARGETS", (bad,))
    assert exit_code(tool("fuzz").main, "--seconds", "1", "--out", tmp_path, "--quiet") == 1
    said = capsys.readouterr().err.splitlines()[0]
    assert "KeyError" in said
    number = said.split("--case ")[1]
    kept = tmp_path / f"bad-0-{number}.bin"
    assert len(kept.read_bytes()) % 3 == 0
    assert "seven" in kept.with_suffix(".txt").read_text()
