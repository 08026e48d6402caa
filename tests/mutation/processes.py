"""Tests of a mutant in a process of its own, which has the heavy libraries from its parent.

Nothing is written into the checkout: each process works in a copy of it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rooms import Case

COPIED = ("detector", "tests", "tools", "configs", "examples", "pyproject.toml", "README.md")
HEAVY = ("numpy", "torch", "torchvision", "cv2", "scipy", "sklearn", "numba", "pydantic", "PIL")
MEMORY = 4 * 2**30
WALL = 20
"""Times the processor time that a test run may take: what it may take by the clock."""
PYTEST = (
    "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "-m", "not slow",
    "--strict-markers", "--hypothesis-seed=0",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """killed (some test failed), survived or "timed out"; `seconds` of the processor; `by` is the
    first test that failed.
    """

    outcome: str
    seconds: float
    by: str = ""


def load_heavy_libraries() -> None:
    """Once, for all processes to come; none of them is used here, so that forking is safe."""
    for name in HEAVY:
        importlib.import_module(name)


def copied(root: Path, place: Path) -> Path:
    """A copy of the checkout, with times of files, so that compiled files stay valid."""
    target = place / "checkout"
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


class Slot:
    """One copy of the checkout, in which at most one process runs."""

    def __init__(self, root: Path, place: Path) -> None:
        self.copy, self.log = copied(root, place), place / "log"
        self.files = place / "files"
        self.process, self.end, self.count = 0, 0.0, 0
        self.case: Case | None = None
        self.before = (b"", 0.0)

    def start(self, tests: list[str], case: Case | None, limit: int) -> None:
        """Run tests with a mutant, or with none, for at most `limit` seconds of the processor."""
        self.case, self.end = case, time.monotonic() + WALL * limit
        if case is not None:
            self._write(case)
        self.process = os.fork()
        if self.process == 0:
            _become_a_test_run(self.copy, self.log, self.files, tests, limit)

    def poll(self) -> Verdict | None:
        """The verdict, once there is one."""
        done, status, used = os.wait4(self.process, os.WNOHANG)
        if not done and time.monotonic() < self.end:
            return None
        self.stop()
        self._restore()
        took = round(used.ru_utime + used.ru_stime, 2)
        code = os.waitstatus_to_exitcode(status) if done else -signal.SIGXCPU
        if code == -signal.SIGXCPU:
            return Verdict("timed out", took)
        return Verdict("killed", took, self._first()) if code else Verdict("survived", took)

    def stop(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, 0)

    def _write(self, case: Case) -> None:
        """Each text with a time of its own, since compiled files are known by it."""
        target = self.copy / case.file
        self.before = (target.read_bytes(), target.stat().st_mtime)
        target.write_bytes(case.mutant.applied(self.before[0]))
        self.count += 1
        when = self.before[1] + 10 * self.count
        os.utime(target, (when, when))

    def _restore(self) -> None:
        if self.case is not None:
            target = self.copy / self.case.file
            target.write_bytes(self.before[0])
            os.utime(target, (self.before[1], self.before[1]))
        for folder in (self.copy / ".hypothesis", self.files):
            shutil.rmtree(folder, ignore_errors=True)

    def _first(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((one for one in lines if one.startswith(("FAILED", "ERROR"))), "")[:200]


def _become_a_test_run(folder: Path, log: Path, files: Path, tests: list[str], limit: int) -> None:
    """Never returns; the exit code is pytest's."""
    code = 99
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = str(folder)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        import pytest

        code = int(pytest.main([*PYTEST, f"--basetemp={files}", *tests]))
    finally:
        os._exit(code)


def wait_for_any(slots: list[Slot]) -> Iterator[tuple[Slot, Verdict]]:
    """The verdicts that are there; at least one, if a slot is at work."""
    while any(slot.process for slot in slots):
        found = [(slot, slot.poll()) for slot in slots if slot.process]
        done = [(slot, verdict) for slot, verdict in found if verdict is not None]
        for slot, _ in done:
            slot.process = 0
        if done:
            yield from done
            return
        time.sleep(0.05)
