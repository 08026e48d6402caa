"""Damaged files for everything that reads files of strangers: each is read, or refused by a typed
error of at most three lines, in ten seconds and 1.5 GB.

A case is a function of the reader and its number. Many more: pytest -m slow tests/fuzz
"""

import os
import re
import resource
import signal
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from damage import damaged
from readers import READERS, Reader

from detector.errors import DetectorError

SECONDS, MEGABYTES = 10, 1500
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork"),
    # Python 3.12 warns of threads, which torch has; the child uses none of them.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def case(reader: Reader, good: list[bytes], number: int) -> bytes:
    rng = np.random.default_rng([number, *reader.name.encode()])
    return damaged(good[int(rng.integers(len(good)))], good, rng)


def complaint(reader: Reader, data: bytes, folder: Path) -> str:
    """What is wrong with how a file is read; empty where nothing is."""
    try:
        reader.read(data, folder)
    except DetectorError as error:
        return "" if str(error).count("\n") < 3 else f"a message of many lines: {error}"
    except BaseException:
        return traceback.format_exc()
    return ""


def run_apart(reader: Reader, good: list[bytes], numbers: range, folder: Path) -> str:
    """Read the cases in a process that may die, hang or eat memory; the first complaint."""
    folder.mkdir(exist_ok=True)
    said = folder / "said"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _read_all(reader, good, numbers, folder, said)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return f"{said.read_text()} ({os.waitstatus_to_exitcode(status)})" if status else ""


def _read_all(reader: Reader, good: list[bytes], numbers: range, folder: Path, said: Path) -> int:
    limit = _address_space() + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process
    if "torch" in sys.modules:  # a fork has none of its parent's threads, and would wait
        sys.modules["torch"].set_num_threads(1)
    for number in numbers:
        said.write_text(f"case {number}: the process died")
        signal.alarm(SECONDS)
        if found := complaint(reader, case(reader, good, number), folder):
            said.write_text(f"case {number}: {found}")
            return 1
    return 0


def _address_space() -> int:
    """Bytes of this process's address space; where the system does not say, 64 GB."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 64 * 2**30


@pytest.mark.parametrize(
    "numbers", [range(25), pytest.param(range(25, 500), marks=pytest.mark.slow)], ids=["25", "500"]
)
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_good_files_are_read_and_damaged_ones_read_or_refused(
    reader: Reader, numbers: range, tmp_path: Path
):
    good = reader.seeds(tmp_path)
    for one in good:
        reader.read(one, tmp_path / "work")
    assert run_apart(reader, good, numbers, tmp_path / "work") == ""


def _raise() -> None:
    raise KeyError("seven")


def _eat() -> None:
    raise RuntimeError(f"{len(bytearray(2**32))} bytes were to be had")


@pytest.mark.parametrize(
    ("trouble", "word"),
    [(_raise, "KeyError"), (os.abort, r"died \(-6\)"), (_eat, "MemoryError"),
     (lambda: signal.pause(), r"died \(-14\)")],
)  # fmt: skip
def test_every_trouble_is_found(trouble, word, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SECONDS", 1)
    bad = Reader("bad", lambda _: [b"good"], lambda data, _: trouble() if len(data) % 2 else None)
    found = run_apart(bad, [b"a good file"], range(20), tmp_path)
    assert re.search(word, found)


def test_damage_is_a_function_of_the_seed():
    good = [b'{"a": [1, 2.5], "b": "text"}', b"<a><b>17</b></a>"]

    def made(seed: int) -> list[bytes]:
        rng = np.random.default_rng(seed)
        return [damaged(good[0], good, rng) for _ in range(200)]

    assert made(0) == made(0)
    assert made(0) != made(1)
    assert len(set(made(0))) > 190
    assert max(map(len, made(0))) <= 2_000_000
