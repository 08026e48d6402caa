"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detector import files
from detector.files import write_atomically


def test_bytes_and_text_arrive_as_given(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"\x00\xff\r\n")
    write_atomically(str(tmp_path / "b"), "é\n")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "b").read_bytes() == b"\xc3\xa9\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old and longer")
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_the_longest_possible_name_works(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_atomically(path, "a")
    assert path.read_text() == "a"


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_missing_folder_is_the_callers_to_make(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "a", "a")


def test_a_kill_at_any_instant_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, "0" * 100_000)
    code = (
        "import sys; from detector.files import write_atomically\n"
        "for i in range(10**9): write_atomically(sys.argv[1], str(i % 10) * 100_000)\n"
    )
    for attempt in range(4):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        before = path.stat().st_ino
        while path.stat().st_ino == before:  # it has begun
            time.sleep(0.002)
        time.sleep(0.013 * attempt)
        writer.kill()
        writer.wait()
        content = path.read_text()
        assert len(content) == 100_000
        assert len(set(content)) == 1
