"""Checkpoints: what is saved comes back, the one before stands by, and bad ones are told."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from detector.errors import CheckpointError
from detector.training.engine import checkpoint as checkpoints
from detector.training.engine.checkpoint import (
    Checkpoint,
    digest_of,
    fingerprint_of,
    load_checkpoint,
    save_checkpoint,
)


def _checkpoint(step: int, value: float = 1.0) -> Checkpoint:
    groups = {"model": {"w": torch.full((3,), value)}, "average": {"w": torch.zeros(3)}}
    return Checkpoint(step, "print", groups)


def test_a_checkpoint_comes_back_and_so_does_the_one_before(tmp_path: Path):
    save_checkpoint(tmp_path, _checkpoint(1, 1.0))
    save_checkpoint(tmp_path, _checkpoint(2, 2.0))
    found = load_checkpoint(tmp_path, "print")
    assert found is not None
    assert (found.step, found.groups["model"]["w"].tolist()) == (2, [2.0] * 3)
    (tmp_path / checkpoints.CURRENT).write_bytes(b"half a fi")
    before = load_checkpoint(tmp_path, "print")
    assert before is not None
    assert before.step == 1


@pytest.mark.parametrize("damage", ["cut", "length", "other"])
def test_a_damaged_checkpoint_is_told_and_never_takes_the_place_of_a_good_one(
    tmp_path: Path, damage: str
):
    for step in (1, 2):
        save_checkpoint(tmp_path, _checkpoint(step))
    path, said = tmp_path / checkpoints.CURRENT, []
    whole = path.read_bytes()
    if damage == "other":
        save_file({"model/w": torch.zeros(1)}, path)
    else:
        path.write_bytes(whole[:-1] if damage == "cut" else bytes(8) + whole[8:])
    found = load_checkpoint(tmp_path, "print", said.append)
    assert found is not None
    assert found.step == 1
    (words,) = said
    assert words.startswith(str(path))
    assert words.endswith(f"; going on from {tmp_path / checkpoints.PREVIOUS}, step 1")
    save_checkpoint(tmp_path, _checkpoint(3))
    path.write_bytes(b"half a fi")
    found = load_checkpoint(tmp_path, "print", said.append)
    assert found is not None
    assert found.step == 1


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_before_the_last_rename_loses_nothing(tmp_path: Path, monkeypatch, renames: int):
    for step in (1, 2):
        save_checkpoint(tmp_path, _checkpoint(step))
    real, done, said = Path.replace, [], []

    def killed(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, _checkpoint(3))
    found = load_checkpoint(tmp_path, "print", said.append)
    assert found is not None
    assert (found.step, said) == (3, [])
    save_checkpoint(tmp_path, _checkpoint(4))
    assert {path.name for path in tmp_path.iterdir()} == {checkpoints.CURRENT, checkpoints.PREVIOUS}


def test_without_a_checkpoint_there_is_none(tmp_path: Path):
    assert load_checkpoint(tmp_path) is None


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path):
    (tmp_path / checkpoints.CURRENT).write_bytes(b"no")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path)


def test_another_runs_checkpoint_is_refused(tmp_path: Path):
    save_checkpoint(tmp_path, _checkpoint(1))
    with pytest.raises(CheckpointError, match="other settings"):
        load_checkpoint(tmp_path, "another print")


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path):
    save_checkpoint(tmp_path, _checkpoint(1))
    with pytest.raises(CheckpointError, match="not finite"):
        save_checkpoint(tmp_path, _checkpoint(2, math.nan))
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1


def test_one_number_that_is_not_finite_is_enough(tmp_path: Path):
    spoilt = Checkpoint(1, "print", {"model": {"w": torch.tensor([1.0, math.inf, 1.0])}})
    with pytest.raises(CheckpointError, match="model w is not finite"):
        save_checkpoint(tmp_path, spoilt)
    assert load_checkpoint(tmp_path) is None


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch):
    save_checkpoint(tmp_path, _checkpoint(1))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(tmp_path, _checkpoint(2))
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1


def test_all_kinds_of_tensors_come_back_by_group_and_name(tmp_path: Path):
    square = torch.arange(6.0).view(2, 3).T  # not contiguous
    saved = Checkpoint(3, "print", {"model": {"a/b": square}, "momentum": {"n": torch.tensor(7)}})
    assert save_checkpoint(tmp_path / "new" / "run", saved) == (
        tmp_path / "new" / "run" / "checkpoint.safetensors"
    )
    found = load_checkpoint(tmp_path / "new" / "run")
    assert found is not None
    assert (found.step, found.fingerprint) == (3, "print")
    assert found.groups.keys() == {"model", "momentum"}
    assert torch.equal(found.groups["model"]["a/b"], square)
    assert found.groups["momentum"]["n"].item() == 7


def test_only_the_newest_two_are_kept(tmp_path: Path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, _checkpoint(step))
    assert {path.name for path in tmp_path.iterdir()} == {checkpoints.CURRENT, checkpoints.PREVIOUS}
    (tmp_path / checkpoints.CURRENT).unlink()  # as after a kill between two renames
    found = load_checkpoint(tmp_path, "print")
    assert found is not None
    assert found.step == 2


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (None, "not a checkpoint of this program"),
        ({"step": "1", "fingerprint": "x", "format": "2"}, "not a checkpoint of this program"),
        ({"fingerprint": "x", "format": "1"}, r"damaged \('step'\)"),
        ({"step": "1", "format": "1"}, r"damaged \('fingerprint'\)"),
        ({"step": "one", "fingerprint": "x", "format": "1"}, "damaged .*'one'"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told(tmp_path: Path, head, words: str):
    path = tmp_path / checkpoints.CURRENT
    save_file({"model/w": torch.zeros(1)}, path, metadata=head)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(tmp_path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("; delete the folder to begin again")


def test_a_tensor_without_a_group_is_damage(tmp_path: Path):
    head = {"step": "1", "fingerprint": "x", "format": "1"}
    save_file({"w": torch.zeros(1)}, tmp_path / checkpoints.CURRENT, metadata=head)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path)


def test_two_damaged_checkpoints_are_both_named(tmp_path: Path):
    for name in (checkpoints.CURRENT, checkpoints.PREVIOUS):
        (tmp_path / name).write_bytes(b"no")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    current, previous = str(caught.value).split("; ")[:2]
    assert current.startswith(str(tmp_path / checkpoints.CURRENT))
    assert previous.startswith(str(tmp_path / checkpoints.PREVIOUS))


def test_a_file_in_the_folders_place_is_a_typed_error(tmp_path: Path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "run", _checkpoint(1))


def test_a_fingerprint_is_of_names_and_values_and_not_of_their_order():
    print_of = fingerprint_of({"rate": 0.1, "data": Path("voc")})
    assert print_of == fingerprint_of({"data": Path("voc"), "rate": 0.1})
    assert print_of != fingerprint_of({"data": Path("voc"), "rate": 0.2})
    assert print_of != fingerprint_of({"data": Path("coco"), "rate": 0.1})
    assert len(print_of) == 16


def test_a_digest_tells_kinds_and_shapes_of_numbers_apart_and_parts():
    same = [
        (np.zeros(4, np.int32),), (np.zeros(2, np.int64),), (np.zeros(4, np.float32),),
        (np.zeros((2, 2), np.int32),), (np.zeros(2, np.int32), np.zeros(2, np.int32)),
    ]  # fmt: skip
    names = [(["ab", "c"],), (["a", "bc"],), (["ab"], ["c"])]
    assert len({digest_of(*parts) for parts in [*same, *names]}) == 8
    assert digest_of(np.zeros((4, 4))[:, ::2]) == digest_of(np.zeros((4, 2)))
