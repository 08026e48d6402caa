"""What a check says, and running one in a process of its own, where an import may crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

SECONDS = 300.0
"""Longer than any import takes, on a slow disk too."""
TOOLS = Path(__file__).resolve().parents[1]
"""Programs see what the tools see, and not the folder that somebody happens to be in."""


@dataclass(frozen=True)
class Check:
    """One line of the table. A note costs time or comfort; a fault stops work.

    cure  a command to be typed as it stands; empty where nothing is wrong
    """

    name: str
    state: Literal["ok", "note", "fault"]
    said: str
    cure: str = ""

    def describe(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What became of a program: the JSON value of its last line, or why there is none."""

    value: Any = None
    error: str | None = None


def run_apart(
    program: str, environment: Mapping[str, str] | None = None, seconds: float = SECONDS
) -> Outcome:
    """Run Python source in a fresh process; whatever it does, this one goes on.

    The program prints one JSON value last. A crash, an exception and a hang become errors.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=TOOLS, capture_output=True, text=True,
            errors="replace", timeout=seconds, env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(error=f"did not end within {seconds:.0f} s")
    if done.returncode < 0:
        return Outcome(error=f"crashed with signal {-done.returncode}")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        return Outcome(error=lines[-1][:300])
    try:
        return Outcome(json.loads(done.stdout.strip().splitlines()[-1]))
    except (ValueError, IndexError):
        return Outcome(error="printed nothing that can be read")
