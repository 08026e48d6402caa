"""Whether this machine is fit to run the detector: each fault with the command that cures it.

    python tools/doctor.py
    python tools/doctor.py --full --json

Works where the packages do not: every import is tried in a process of its own. Exit codes: 0 fit
(notes cost time or comfort only), 1 faults.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    from health.check import Check


def main(
    full: Annotated[
        bool, typer.Option("--full", help="Also detect in one picture; a minute.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where results will go.")] = Path("out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no table.")] = False,
) -> int:
    """Check packages, machine and weights; say what cures each fault."""
    found = []
    for one in checks(full, out):
        found.append(one)
        if not as_json:
            show(one)
    faults = sum(one.state == "fault" for one in found)
    if as_json:
        typer.echo(json.dumps([one.describe() for one in found], indent=1))
    else:
        typer.echo(f"{len(found)} checks, {faults} faults")
    return int(faults > 0)


def checks(full: bool, out: Path) -> Iterator[Check]:
    """All checks, in the order in which faults are best cured."""
    from health import machine, packages, shipped

    yield packages.check_python()
    yield packages.check_torch()
    yield packages.check_torchvision()
    yield packages.check_opencv()
    yield from packages.check_modules()
    yield shipped.check_package()
    yield shipped.check_kernels()
    yield shipped.check_bundle()
    yield machine.check_cores()
    yield machine.check_memory()
    yield machine.check_folder("results", out, "--out")
    yield machine.check_temporary()
    cache = Path(os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache")
    yield machine.check_folder("cache", cache, "NUMBA_CACHE_DIR")
    yield machine.check_gpu()
    if full:
        yield shipped.check_detection()


def show(one: Check) -> None:
    from detector.reporting.cli import visible

    state = one.state.upper() if one.state == "fault" else one.state
    typer.echo(f"{state:6s} {one.name:12s} {visible(one.said)}")
    if one.cure:
        typer.echo(f"       cure: {one.cure}")


if __name__ == "__main__":
    run_tool(main)
