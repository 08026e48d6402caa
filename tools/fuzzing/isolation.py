"""Cases run in a process that may die, hang or eat memory; it is known what it was doing then."""

from __future__ import annotations

import faulthandler
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fuzzing.damage import damaged
from fuzzing.targets import Target

TOGETHER = 40
"""Cases of one process."""


@dataclass(frozen=True)
class Crash:
    """What went wrong, in one line, and all that is known of it."""

    target: str
    case: int
    what: str
    detail: str
    data: bytes


@dataclass
class Tally:
    """Of one target. `slowest` is in seconds."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    crashes: list[Crash] = field(default_factory=list)


def data_of(target: Target, seeds: list[bytes], seed: int, case: int) -> bytes:
    """The file of one case: a function of the target, the seed and the case's number alone."""
    rng = np.random.default_rng([seed, case, *target.name.encode()])
    return damaged(seeds[int(rng.integers(len(seeds)))], seeds, rng)


def run_cases(
    target: Target, seeds: list[bytes], seed: int, cases: range, seconds: float, megabytes: int
) -> Iterator[tuple[str, float, Crash | None]]:
    """The outcome ("read", "refused" or "crash") of each case, its time, and its crash.

    seconds, megabytes  what one case may take; the memory counts beyond what there is now
    """
    left = list(cases)
    while left:
        for case, outcome, took, detail in _in_a_process(
            target, seeds, seed, left, seconds, megabytes
        ):
            crash = None
            if outcome not in ("read", "refused"):
                data = data_of(target, seeds, seed, case)
                crash = Crash(target.name, case, outcome, detail, data)
                outcome = "crash"
            left.remove(case)
            yield outcome, took, crash


def _in_a_process(
    target: Target, seeds: list[bytes], seed: int, cases: list[int], seconds: float, megabytes: int
) -> Iterator[tuple[int, str, float, str]]:
    # Made and removed here: a process that dies leaves its files behind.
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder:
        yield from _watched(target, seeds, seed, cases, seconds, megabytes, Path(folder))


def _watched(
    target: Target,
    seeds: list[bytes],
    seed: int,
    cases: list[int],
    seconds: float,
    megabytes: int,
    folder: Path,
) -> Iterator[tuple[int, str, float, str]]:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _work(target, seeds, seed, cases, megabytes, folder, write_end)
    os.close(write_end)
    running: int | None = None
    started, text = time.monotonic(), ""
    try:
        while True:
            # The process kills itself on most troubles; a hang is ended from here.
            ready, _, _ = select.select([read_end], [], [], seconds)
            if not ready:
                os.kill(child, signal.SIGKILL)
                if running is not None:
                    yield running, f"no end in {seconds:.0f} s", seconds, ""
                return
            chunk = os.read(read_end, 65536)
            if not chunk:
                break
            text += chunk.decode("utf-8", "replace")
            *lines, text = text.split("\n")
            for line in lines:
                number, outcome, detail = line.split("\t", 2)
                now = time.monotonic()
                if outcome == "begin":
                    running, started = int(number), now
                else:
                    running = None
                    yield int(number), outcome, now - started, detail.replace("\\n", "\n")
    finally:
        os.close(read_end)
        _, status = os.waitpid(child, 0)
    if running is not None:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {status >> 8}"
        yield running, f"the process died ({how})", time.monotonic() - started, ""


def _work(
    target: Target,
    seeds: list[bytes],
    seed: int,
    cases: list[int],
    megabytes: int,
    folder: Path,
    pipe: int,
) -> None:
    """Of the child: never returns."""
    from detector.errors import DetectorError

    faulthandler.disable()  # where somebody enabled it, a dying process would write a page
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    limit = _address_space() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if "torch" in sys.modules:  # a fork has none of its parent's threads, and would wait for them
        sys.modules["torch"].set_num_threads(1)

    def say(case: int, outcome: str, detail: str = "") -> None:
        kept = detail.replace("\t", " ").replace("\n", "\\n")
        os.write(pipe, f"{case}\t{outcome}\t{kept}\n".encode())

    code = 0
    try:
        for case in cases:
            say(case, "begin")
            try:
                target.read(data_of(target, seeds, seed, case), folder)
            except DetectorError as error:
                lines = str(error).count("\n") + 1
                say(case, "refused" if lines <= 3 else f"a message of {lines} lines", str(error))
            except BaseException as error:
                say(case, f"{type(error).__name__}: {error}"[:200], traceback.format_exc()[-3000:])
                if isinstance(error, MemoryError):
                    break
            else:
                say(case, "read")
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def _address_space() -> int:
    """Bytes of this process's address space; where the system does not say, 64 GB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return 64 * 2**30
    return pages * resource.getpagesize()


def tally(outcomes: Iterator[tuple[str, float, Crash | None]], into: Tally) -> None:
    counts: Counter[str] = Counter()
    for outcome, took, crash in outcomes:
        counts[outcome] += 1
        into.slowest = max(into.slowest, took)
        if crash is not None:
            into.crashes.append(crash)
    into.cases += counts.total()
    into.read += counts["read"]
    into.refused += counts["refused"]
