"""Bulk jobs killed at random instants, with their workers or without, and started again: nothing is
missing, nothing is there twice, and the output is that of an undisturbed run, byte for byte.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from small_detector import save_detector
from toy_regions import write_squares

from detector.cli import evaluate_detections as evaluate
from detector.cli import propose
from detector.cli.main import main
from detector.proposals.cache.stored import ProposalStore

IMAGES = 60
NAMES = {propose: ["propose", "run"], evaluate: ["evaluate", "detections"]}
SEARCH = ["--engine", "opencv", "--preset", "single", "--quiet"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixty pictures of coloured blocks, each of them searched in about 20 ms."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(IMAGES):
        blocks = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((180, 135)).save(folder / f"{number:02d}.png")
    return folder


def undisturbed(tool: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*NAMES[tool], *arguments])
    assert stopped.value.code == 0


def started(tool: ModuleType, arguments: list[str]) -> subprocess.Popen[str]:
    """In a process group of its own, which can be killed as a whole."""
    command = [sys.executable, "-m", "detector", *NAMES[tool], *arguments]
    return subprocess.Popen(
        command,
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def killed(
    tool: ModuleType,
    arguments: list[str],
    done: Callable[[], int],
    rng: np.random.Generator,
    longest: float,
) -> bool:
    """Whether a run was killed before its end: up to `longest` seconds after its first result or,
    one time in four, while it starts; one time in two with all its workers.
    """
    before, starting = done(), rng.random() < 0.25
    process = started(tool, arguments)
    if starting:
        time.sleep(rng.uniform(0, 0.8))
    else:
        while process.poll() is None and done() <= before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, longest))
    running = process.poll() is None
    if running and rng.random() < 0.5:
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    return running


def stored(cache: Path) -> int:
    try:
        with ProposalStore(cache) as store:
            return store.count()
    except Exception:  # not there yet
        return 0


def rows(cache: Path) -> list[tuple[str, bytes]]:
    """(image, boxes as stored), by image; of an image that was stored twice there are two."""
    connection = sqlite3.connect(cache)
    query = "SELECT images.name, data FROM regions JOIN images ON images.id = regions.image"
    found = sorted(connection.execute(query).fetchall())
    connection.close()
    return found


@pytest.mark.parametrize(
    ("kills", "workers"), [(3, "1"), pytest.param(10, "2", marks=pytest.mark.slow)]
)
def test_proposals_of_a_killed_job_are_those_of_an_undisturbed_one(
    kills: int, workers: str, photos: Path, tmp_path: Path
):
    rng, cache, whole = np.random.default_rng(kills), tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    options = [str(photos), *SEARCH, "--workers", workers, "--out"]
    undisturbed(propose, [*options, str(whole)])
    done = 0
    while done < kills and killed(
        propose, [*options, str(cache)], lambda: stored(cache), rng, 0.12 / kills
    ):
        done += 1
    assert done >= 3, "the job ended before the kills; make it longer"
    assert 0 < stored(cache) < IMAGES
    undisturbed(propose, [*options, str(cache)])
    assert rows(cache) == rows(whole)
    assert len(rows(cache)) == IMAGES
    with ProposalStore(cache) as store:
        assert store.verify() == []


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The ids of the processes that search."""
    found = []
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for number in map(int, children.read_text().split()):
            if b"spawn_main" in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(number)
    return found


@pytest.mark.slow
def test_a_job_whose_workers_are_killed_needs_no_new_start(photos: Path, tmp_path: Path):
    """Four times the older of two workers: each image is tried twice, and none is lost."""
    cache, whole = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    options = [str(photos), *SEARCH, "--workers", "2", "--out"]
    undisturbed(propose, [*options, str(whole)])
    process = started(propose, [*options, str(cache)])
    hits = 0
    for results in (1, 8, 16, 24):
        while process.poll() is None and stored(cache) < results:
            time.sleep(0.01)
        if victims := workers_of(process):
            os.kill(min(victims), signal.SIGKILL)
            hits += 1
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (0, "")
    assert hits >= 2
    assert rows(cache) == rows(whole)


@pytest.mark.slow
def test_the_verdict_of_a_killed_evaluation_is_that_of_an_undisturbed_one(tmp_path: Path):
    rng = np.random.default_rng(0)
    data, bundle = tmp_path / "squares", save_detector(tmp_path / "bundle", ("green", "red"))
    write_squares(data, images=30)
    options = [
        "--data",
        str(data),
        "--split",
        "train",
        "--weights",
        str(bundle),
        "--set",
        "rounds=0",
    ]
    options += ["--device", "cpu", "--set", "threads=2", "--quiet", "--out"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    undisturbed(evaluate, [*options, str(whole)])

    def scored() -> int:
        return len(list(out.rglob("*.npz")))

    done = 0
    while done < 3 and killed(evaluate, [*options, str(out)], scored, rng, 0.1):
        done += 1
    assert done == 3, "the job ended before the kills; make it longer"
    undisturbed(evaluate, [*options, str(out)])
    assert scored() == 30
    assert (out / "detections.json").read_bytes() == (whole / "detections.json").read_bytes()
    verdicts = [json.loads((folder / "evaluation.json").read_text()) for folder in (out, whole)]
    for verdict, folder in zip(verdicts, (out, whole), strict=True):  # they name their --out
        assert verdict.pop("command").startswith("inception-rcnn evaluate detections")
        assert verdict.pop("detections") == str(folder / "detections.json")
    assert verdicts[0] == verdicts[1]
