"""What could not be read is known to the same command again, and to no other run."""

from pathlib import Path

import pytest

from detector.errors import TrainingError
from detector.training.engine.distributed import Group
from detector.training.engine.left_out import SkippedFiles

A, B = {Path("a.png"): "a.png: gone"}, {"b.png": "b.png: no image"}


def test_what_several_processes_found_is_told_once_by_the_first_of_the_next_run(tmp_path: Path):
    first, second = (SkippedFiles(tmp_path, Group(rank, 2), resumed=False) for rank in (0, 1))
    assert not first
    first.record(A)
    second.record(B)
    second.record(B)
    assert (first.messages(), second.messages()) == (["a.png: gone"], ["b.png: no image"])
    again, beside = (SkippedFiles(tmp_path, Group(rank, 2), resumed=True) for rank in (0, 1))
    assert again
    assert again.messages() == ["a.png: gone", "b.png: no image"]
    beside.record({"c.png": "c.png: gone"})
    assert beside.messages() == ["c.png: gone"]
    alone = SkippedFiles(tmp_path, Group(), resumed=True)
    assert alone.messages() == ["a.png: gone", "b.png: no image", "c.png: gone"]


def test_a_first_process_that_begins_late_removes_nothing_of_the_others(tmp_path: Path):
    for name in ("left-out.json", "left-out-0.json", "left-out-1.json", "left-out-2.json"):
        (tmp_path / name).write_text("{}")  # of runs before, of one, two and three processes
    second = SkippedFiles(tmp_path, Group(1, 2), resumed=False)
    second.record(B)
    SkippedFiles(tmp_path, Group(0, 2), resumed=False)
    assert [path.name for path in tmp_path.iterdir()] == ["left-out-1.json"]
    assert second.messages() == ["b.png: no image"]


def test_files_of_one_name_in_two_sets_are_two(tmp_path: Path):
    left_out = SkippedFiles(tmp_path, Group(), resumed=False)
    left_out.record({"0.png": "train/0.png: gone"})
    left_out.record({"0.png": "val/0.png: gone"}, "judged: ")
    assert left_out.messages() == ["train/0.png: gone", "val/0.png: gone"]


def test_a_run_from_its_start_knows_nothing_of_one_before_in_its_folder(tmp_path: Path):
    SkippedFiles(tmp_path, Group(), resumed=False).record(A)
    assert not SkippedFiles(tmp_path, Group(), resumed=False)
    assert not list(tmp_path.iterdir())


def test_a_damaged_list_is_a_sentence(tmp_path: Path):
    (tmp_path / "left-out.json").write_text("[]")
    with pytest.raises(TrainingError, match="delete it"):
        SkippedFiles(tmp_path, Group(), resumed=True)
