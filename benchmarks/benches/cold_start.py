"""What a first detection costs a new process: the framework's own import, ours, and the detection.

Seconds of the processors, not of the clock, so that a busy machine changes little; each way in a
process of its own, by turns.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

WAYS = {
    "import torch": "import torch",
    "load": "from detector import load_detector; load_detector(threads=1)",
    "detect one picture": (
        "from detector import load_detector, read_image\n"
        "load_detector(threads=1)(read_image(sys.argv[1]))"
    ),
}


def measure(picture: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each way, and how many times the framework's own import they are."""
    root = Path(__file__).resolve().parents[2]
    runs = {way: ["-c", f"import sys\n{text}", str(picture)] for way, text in WAYS.items()}
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    for arguments in runs.values():  # the files are read and the kernels compiled
        _seconds(arguments, root)
    for _ in range(rounds):
        for way, arguments in runs.items():
            seconds[way].append(_seconds(arguments, root))
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    own = medians["import torch"]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "rounds": rounds,
        "load_over_import": round(medians["load"] - own, 2),
        "ways": {
            way: {"seconds": round(found, 2), "times_import": round(found / own, 2)}
            for way, found in medians.items()
        },
    }  # fmt: skip


def _seconds(arguments: list[str], root: Path) -> float:
    """Of the processors, user and system, of one new process."""
    before = os.times()
    one_thread = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, *arguments], check=True, env={**os.environ, **one_thread})
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system
