"""Damaged files for everything that reads files: each must be read, or refused by a typed error.

    python tools/fuzz.py --seconds 120
    python tools/fuzz.py --seconds 36000 --seed 7 --out out/fuzz
    python tools/fuzz.py --only image --case 4711

A case is a function of the target, the seed and its number, so that every crash can be had again.
It fails if it raises anything else, dies, takes more than --limit seconds or --memory megabytes, or
says more than three lines. Exit codes: 0 none failed, 1 some did; their files are in OUT.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.reporting.cli import run_tool
from detector.seeds import LARGEST

if TYPE_CHECKING:
    from fuzzing.isolation import Crash, Tally


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long to go on.")] = 120,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST, help="Other damage for another seed.")
    ] = 0,
    only: Annotated[list[str], typer.Option(help="Target; may repeat. [all]")] = [],  # noqa: B006
    case: Annotated[
        int | None, typer.Option(min=0, help="Only this case, told in full; with one --only.")
    ] = None,
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds that one file may take.")] = 10,
    memory: Annotated[int, typer.Option(min=50, help="MB that one file may take.")] = 1500,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of what failed.")] = Path("out/fuzz"),
) -> int:
    """Feed damaged files to everything that reads files of strangers."""
    import os
    import tempfile

    from fuzzing.isolation import TOGETHER, Tally, run_cases, tally
    from fuzzing.targets import TARGETS

    from detector.errors import SettingsError

    if not hasattr(os, "fork"):
        raise SettingsError("fuzzing needs processes that fork: Linux or macOS")
    known = {target.name: target for target in TARGETS}
    if unknown := [name for name in only if name not in known]:
        raise typer.BadParameter(f"--only {unknown[0]}: choose among {', '.join(known)}")
    chosen = [known[name] for name in only] or list(TARGETS)
    if case is not None and len(chosen) != 1:
        raise typer.BadParameter("--case is a case of one target: name it with --only")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        seeds = {target.name: target.seeds(Path(folder)) for target in chosen}
        for target in chosen:  # imports, and proof that the good files are good
            for good in seeds[target.name]:
                target.read(good, Path(folder) / target.name)
    tallies = {target.name: Tally() for target in chosen}
    if case is not None:
        target = chosen[0]
        outcomes = run_cases(target, seeds[target.name], seed, range(case, case + 1), limit, memory)
        tally(outcomes, tallies[target.name])
    end, first = time.monotonic() + seconds, 0
    told = time.monotonic()
    while case is None and time.monotonic() < end:
        for target in chosen:
            if time.monotonic() >= end:
                break
            cases = range(first, first + TOGETHER)
            outcomes = run_cases(target, seeds[target.name], seed, cases, limit, memory)
            tally(outcomes, tallies[target.name])
            if not quiet and time.monotonic() - told > 10:
                told = time.monotonic()
                print(progress_line(tallies, end - told), file=sys.stderr)
        first += TOGETHER
    crashes = [one for found in tallies.values() for one in found.crashes]
    show(tallies)
    for crash in crashes:
        save(crash, seed, out)
    return int(bool(crashes))


def progress_line(tallies: dict[str, Tally], left: float) -> str:
    cases = sum(one.cases for one in tallies.values())
    failed = sum(len(one.crashes) for one in tallies.values())
    return f"{cases} files, {failed} failed, {max(left, 0):.0f} s left"


def show(tallies: dict[str, Tally]) -> None:
    print(f"{'target':<16}{'files':>8}{'read':>8}{'refused':>9}{'failed':>8}{'slowest':>10}")
    for name, one in tallies.items():
        row = f"{name:<16}{one.cases:>8}{one.read:>8}{one.refused:>9}{len(one.crashes):>8}"
        print(f"{row}{one.slowest:>8.2f} s")
    total = sum(one.cases for one in tallies.values())
    print(f"{total} files, {sum(len(one.crashes) for one in tallies.values())} failed")


def save(crash: Crash, seed: int, out: Path) -> None:
    """The file, and what happened beside it; how to have it again on stderr."""
    from detector.files import write_atomically
    from detector.reporting.cli import visible

    out.mkdir(parents=True, exist_ok=True)
    name = f"{crash.target}-{seed}-{crash.case}"
    write_atomically(out / f"{name}.bin", crash.data)
    write_atomically(out / f"{name}.txt", f"{crash.what}\n\n{crash.detail}\n")
    again = f"python tools/fuzz.py --only {crash.target} --seed {seed} --case {crash.case}"
    print(f"{visible(crash.what)[:160]}; again: {again}", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
