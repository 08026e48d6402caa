"""The cost of a first detection in a new process: torch's import, ours, and the detection.

Seconds of the processors, not of the clock, so that a busy machine changes little; each way in a
process of its own, by turns.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benches.timing import machine, median

LOAD = "from detector import load_detector, read_image\ndetector = load_detector(threads=1)\n"
WAYS = {
    "import torch": "import torch",
    "load a detector": LOAD,
    "detect in one picture": LOAD + "detector(read_image(sys.argv[1]))",
}


def measure(picture: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each way, and their ratio to those of the framework's own import."""
    for text in WAYS.values():  # the files are read and the kernels compiled
        _seconds(text, picture)
    times = np.array([[_seconds(text, picture) for text in WAYS.values()] for _ in range(rounds)])
    table = {
        way: {"seconds": median(taken), "times the import": median(taken / times[:, 0])}
        for way, taken in zip(WAYS, times.T, strict=True)
    }
    about = machine() | {"cores": os.cpu_count(), "rounds": rounds}
    return {"about": about, "tables": {"a new process": table}}


def _seconds(text: str, picture: Path) -> float:
    root = Path(__file__).resolve().parents[2]
    before = os.times()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", f"import sys\n{text}", str(picture)]
    subprocess.run(command, check=True, env=environment)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system
