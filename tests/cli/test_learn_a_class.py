"""What the README says of a new class, on real blood cells: minutes of work, so marked slow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, check=True)


@pytest.mark.slow
def test_white_blood_cells_are_learnt_from_fifty_boxes(shared_data: Path, tmp_path: Path) -> None:
    data, new = shared_data / "bccd", tmp_path / "with_wbc"
    learn = ("--add", "WBC", "--set", "boxes=50", "--out", new)
    run("tools/fit_heads.py", "--data", data, "--split", "train", *learn)
    part = ("--set", "images=24", "--set", "max_proposals=200", "--set", "rounds=0")
    names = ("--weights", new, "--classes", "weights")
    run("tools/evaluate.py", "--data", data, "--split", "test", *names, *part, "--out", tmp_path)
    found = json.loads((tmp_path / "evaluation.json").read_text())["per_class"]
    (wbc,) = [one for one in found if one["name"] == "WBC"]
    assert wbc["positives"] >= 20
    assert wbc["ap"] >= 0.6
