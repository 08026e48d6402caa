"""A file is written whole or not at all."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detector import files
from detector.errors import FolderInUseError
from detector.files import (
    exclusive_lock,
    lock_folder,
    make_place_for,
    read_regular,
    remove_leftovers,
    write_atomically,
)


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


def test_an_old_files_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o604)
    write_atomically(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.parametrize("old", ["old", None])
def test_what_a_link_names_is_written_and_the_link_stays(tmp_path: Path, old: str | None) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "file", tmp_path / "link"
    if old is not None:
        target.write_text(old)
    link.symlink_to(Path("there") / "file")
    write_atomically(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert [one.name for one in (tmp_path / "there").iterdir()] == ["file"]


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_refused_by_name(
    tmp_path: Path, kind: str, through_a_link: bool
) -> None:
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = path.stat()
    if through_a_link:
        path = tmp_path / "link"
        path.symlink_to("a")
    with pytest.raises((FileExistsError, IsADirectoryError)) as caught:
        write_atomically(path, "new")
    assert caught.value.filename == str(path)
    assert (path.stat().st_mode, path.stat().st_ino) == (before.st_mode, before.st_ino)
    assert len(list(tmp_path.iterdir())) == 1 + through_a_link


def test_a_failure_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "a", tmp_path / "file" / "a"):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="directory") as caught:
            write_atomically(path, "a")
        assert caught.value.filename == str(path)
        assert ".writing-" not in str(caught.value)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a") == b"abc"
    assert read_regular(tmp_path / "a", 2) == b"ab"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(path)


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


def test_a_place_is_made_or_refused_before_the_work(tmp_path: Path) -> None:
    make_place_for(tmp_path / "new" / "er" / "a")
    assert [one.name for one in tmp_path.rglob("*")] == ["new", "er"]
    with pytest.raises(IsADirectoryError, match=r"new"):
        make_place_for(tmp_path / "new")
    (tmp_path / "a").write_text("old")
    make_place_for(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        make_place_for(tmp_path / "a" / "b")


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


def leftover(folder: Path) -> Path:
    path = folder / ".writing-00ff00ff00ff00ff.tmp"
    path.write_bytes(b"half")
    return path


def test_the_first_write_into_a_folder_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    left = leftover(tmp_path)
    others = [tmp_path / name for name in (".writing-00ff", "writing-00ff.tmp", ".lock")]
    for one in others:
        one.write_bytes(b"")
    write_atomically(tmp_path / "a", "new")
    assert not left.exists()
    assert all(one.exists() for one in others)


def test_a_file_that_another_is_writing_stays(tmp_path: Path) -> None:
    def pieces():
        (half,) = tmp_path.glob(".writing-*.tmp")
        remove_leftovers(tmp_path)
        write_atomically(tmp_path / "b", "whole")
        assert half.exists()
        yield b"new"

    write_atomically(tmp_path / "a", pieces())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b"]


def test_a_temporary_file_taken_for_a_leftover_is_made_again(tmp_path: Path, monkeypatch) -> None:
    """Swept between its creation and its lock."""
    lock, taken = files._lock, []

    def after_a_sweep(handle: int, **how: bool) -> bool | None:
        if not taken and how:
            taken.extend(tmp_path.glob(".writing-*.tmp"))
            taken[0].unlink()
        return lock(handle, **how)

    monkeypatch.setattr(files, "_lock", after_a_sweep)
    write_atomically(tmp_path / "a", "new")
    assert len(taken) == 1
    assert (tmp_path / "a").read_text() == "new"


def test_a_folder_is_one_runs_at_a_time_and_no_lock_stays(tmp_path: Path) -> None:
    out = tmp_path / "new" / "er"
    with exclusive_lock(out):
        left = leftover(out)
        with pytest.raises(FolderInUseError, match="another run is writing"), exclusive_lock(out):
            pass
        assert left.exists()
        (out / "a").write_text("result")
    with exclusive_lock(out):
        assert not left.exists()
    assert [one.name for one in out.iterdir()] == ["a"]
    with exclusive_lock(tmp_path / "none" / "at" / "all"):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["new"]


def test_a_lock_that_its_holder_removes_is_nobodys(tmp_path: Path, monkeypatch) -> None:
    """Opened before the other run ended, locked after it."""
    first = lock_folder(tmp_path)
    assert first is not None
    lock = files._lock

    def ended_meanwhile(handle: int, **how: bool) -> bool | None:
        nonlocal first
        if first is not None:
            ended, first = first, None
            ended.release()
        return lock(handle, **how)

    monkeypatch.setattr(files, "_lock", ended_meanwhile)
    second = lock_folder(tmp_path)
    assert second is not None
    assert lock_folder(tmp_path) is None
    second.release()
