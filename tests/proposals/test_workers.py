"""Workers that die or hang are replaced, and each item is tried twice."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from detector.errors import ProposalError
from detector.proposals.workers import Lost, work_on


@dataclass(frozen=True)
class Odd:
    """Prepares a worker that does to an item what its text says, and writes down each try."""

    notes: Path

    def __call__(self) -> Callable[[str], str]:
        def work(item: str) -> str:
            with (self.notes / item).open("a") as file:
                file.write("x")
            tries = (self.notes / item).stat().st_size
            if item.startswith("die") or (item.startswith("stumble") and tries == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            if item.startswith("hang"):
                time.sleep(600)
            if item.startswith("raise"):
                raise RuntimeError("no good")
            return item.upper()

        return work


@dataclass(frozen=True)
class Stumbling:
    """Prepares what `Odd` does, but each process of an odd number is killed while it starts."""

    notes: Path

    def __call__(self) -> Callable[[str], str]:
        starts = self.notes / "starts"
        with starts.open("a") as file:
            file.write("x")
        if starts.stat().st_size % 2 == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return Odd(self.notes)()


def never_ready() -> Callable[[str], str]:
    raise RuntimeError("broken installation")


def test_each_item_is_done_once(tmp_path):
    items = [f"item{i}" for i in range(9)]
    assert sorted(work_on(items, Odd(tmp_path), 2, 60)) == sorted((i, i.upper()) for i in items)
    assert all((tmp_path / item).read_text() == "x" for item in items)


def test_no_items_are_no_work(tmp_path):
    assert list(work_on([], Odd(tmp_path), 2, 60)) == []


def test_death_and_hanging_cost_the_item_and_nothing_else(tmp_path):
    items = ["a", "die", "b", "hang", "c", "stumble", "raise", "d"]
    done = dict(work_on(items, Odd(tmp_path), 2, 1.5))
    assert set(done) == set(items)
    assert {done[item] for item in "abcd"} == set("ABCD")
    assert done["die"] == Lost("its worker was killed by SIGKILL, 2 times; given up")
    assert done["hang"] == Lost("took over 1.5 s, 2 times; given up")
    assert done["raise"] == Lost("RuntimeError: no good")
    assert done["stumble"] == "STUMBLE"
    tries = {item: len((tmp_path / item).read_text()) for item in items}
    assert tries == {"a": 1, "b": 1, "c": 1, "d": 1, "die": 2, "hang": 2, "stumble": 2, "raise": 1}


def test_a_worker_killed_now_and_then_while_it_starts_is_replaced(tmp_path):
    """Starts 1 and 3 are killed; "die" ends number 2 and, after "a", number 4."""
    done = dict(work_on(["die", "a"], Stumbling(tmp_path), 1, 60))
    assert done["a"] == "A"
    assert done["die"] == Lost("its worker was killed by SIGKILL, 2 times; given up")
    assert len((tmp_path / "starts").read_text()) >= 4


def test_once_asked_to_stop_only_what_is_under_way_is_finished(tmp_path):
    done = []
    for item, _ in work_on([f"i{n}" for n in range(50)], Odd(tmp_path), 2, 60, lambda: bool(done)):
        done.append(item)
    assert 1 <= len(done) <= 3


def test_workers_that_never_start_are_an_error_and_no_endless_loop(capfd):
    with pytest.raises(ProposalError, match="do not start: RuntimeError: broken installation"):
        list(work_on(["a"], never_ready, 1, 60))
    assert capfd.readouterr().err == ""


class Early:
    """Notes what Ctrl-C would do, where the process unpickles it: before any code of ours."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def __reduce__(self):
        return note_interrupts, (self.notes,)


def note_interrupts(notes: Path) -> Odd:
    (notes / "early").write_text(str(signal.getsignal(signal.SIGINT) == signal.SIG_IGN))
    return Odd(notes)


def test_interrupts_never_reach_a_worker_that_starts(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    assert before != signal.SIG_IGN
    assert list(work_on(["a"], Early(tmp_path), 1, 60)) == [("a", "A")]
    assert (tmp_path / "early").read_text() == "True"
    assert signal.getsignal(signal.SIGINT) == before
