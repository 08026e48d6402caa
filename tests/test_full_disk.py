"""A disk that fills up while something is saved: a typed error, and what was saved before loads."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from full_disk import files_of_at_most
from torch import nn

from detector.detection.aggregate import MemberOutput
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    load_bundle,
    save_bundle,
)
from detector.errors import BundleError, CheckpointError, ProposalError
from detector.evaluation.scoring.store import Part, RegionOutputs, RegionStore
from detector.models import ARCHITECTURES
from detector.proposals.cache.stored import ProposalStore
from detector.structures import Proposals
from detector.training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

ROOM = 40_000
"""Bytes that still fit: enough for headers and SQLite's own 32 kB, for nothing saved here."""


class Saving(NamedTuple):
    """Something that is saved as number 1, then as number 2; `load` says which number is there."""

    save: Callable[[Path, int], object]
    load: Callable[[Path], int]
    error: type[Exception]


def _save_checkpoint(folder: Path, number: int) -> None:
    weights = torch.full((200, 200), float(number))
    save_checkpoint(folder, Checkpoint(number, "print", {"model": {"w": weights}}))


def _load_checkpoint(folder: Path) -> int:
    found = load_checkpoint(folder, "print")
    assert found is not None
    assert found.groups["model"]["w"].unique().tolist() == [found.step]
    return found.step


class Tiny(nn.Module):
    """Enough of an architecture to be stored: 130 kB of kernels, and a last layer."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 13)
        self.classifier = nn.Linear(64, num_outputs)


def _save_bundle(folder: Path, number: int) -> None:
    manifest = BundleManifest(
        classes=("cat", "dog"),
        members=(MemberManifest(architecture="tiny", input_size=32),),
        proposals={"engine": "selective-search"},
        provenance=Provenance(training_data="none", licence="none"),
    )
    weights = {name: torch.full_like(one, number) for name, one in Tiny(3).state_dict().items()}
    save_bundle(folder, manifest, [weights], "float32")


def _load_bundle(folder: Path) -> int:
    model = load_bundle(folder).models[0]
    assert isinstance(model, Tiny)
    return int(model.conv.weight[0, 0, 0, 0])


def _proposals(number: int) -> Proposals:
    """30,000 boxes about a size of the number: over 30 kB, packed."""
    corners = np.random.default_rng(number).integers(0, 900, (30_000, 2))
    return Proposals(np.hstack([corners, corners + number]), (1000, 1000))


def _save_proposals(folder: Path, number: int) -> None:
    with ProposalStore(folder / "cache.sqlite", "rw") as store:
        store.put("ab" * 32, "cd" * 32, _proposals(number))


def _load_proposals(folder: Path) -> int:
    with ProposalStore(folder / "cache.sqlite") as store:
        assert store.verify() == []
        found = store.get("ab" * 32, "cd" * 32)
    assert found is not None
    return int(found.boxes[0, 2] - found.boxes[0, 0])


def _kept(folder: Path) -> RegionStore:
    return RegionStore(folder, [Part(0, "logits", 3, {"any": 1})])


def _save_scores(folder: Path, number: int) -> None:
    proposals = _proposals(number)
    logits = torch.full((len(proposals), 3), float(number))
    outputs = MemberOutput(logits, *[logits[:, :0]] * 4)
    _kept(folder).put("ab", RegionOutputs(proposals, (outputs,)), len(proposals))


def _load_scores(folder: Path) -> int:
    found = _kept(folder).get("ab")
    assert found is not None
    return int(found.outputs[0].logits[0, 0])


SAVINGS = {
    "bundle": Saving(_save_bundle, _load_bundle, BundleError),
    "checkpoint": Saving(_save_checkpoint, _load_checkpoint, CheckpointError),
    "proposal cache": Saving(_save_proposals, _load_proposals, ProposalError),
    "region scores": Saving(_save_scores, _load_scores, OSError),
}


@pytest.mark.parametrize("saving", SAVINGS.values(), ids=SAVINGS.keys())
def test_what_was_saved_before_is_still_there(
    saving: Saving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The system itself refuses the bytes, in the middle of the writing."""
    monkeypatch.setitem(ARCHITECTURES, "tiny", Tiny)
    saving.save(tmp_path, 1)
    with files_of_at_most(ROOM), pytest.raises(saving.error):
        saving.save(tmp_path, 2)
    assert saving.load(tmp_path) == 1
    assert not list(tmp_path.rglob("*.tmp"))
    saving.save(tmp_path, 2)  # and once there is room, all is as ever
    assert saving.load(tmp_path) == 2
