"""Members of a bundle that share a trunk: stored once, loaded whole, refused if they do not fit."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    SharedTrunk,
    load_bundle,
    save_bundle,
)
from detector.errors import BundleError
from detector.models import build_model
from detector.models.split import Trunk

NARROW = {"width": 0.25}  # of the published widths: a sixteenth of the bytes


def manifest(*trunks: SharedTrunk | None) -> BundleManifest:
    return BundleManifest(
        classes=("cat",),
        members=tuple(
            MemberManifest(architecture="googlenet", options=NARROW, input_size=64, trunk=trunk)
            for trunk in trunks
        ),
        provenance=Provenance(training_data="none", licence="CC0-1.0"),
    )


@pytest.fixture(scope="module")
def states() -> list[dict[str, torch.Tensor]]:
    """Two networks that are alike up to 4e."""
    torch.manual_seed(0)
    owner, other = (build_model("googlenet", 2, **NARROW) for _ in range(2))
    trunk = Trunk(owner, "4e").state_dict()
    return [owner.state_dict(), {**other.state_dict(), **trunk}]


def test_the_trunk_is_stored_once_and_both_come_back_whole(states, tmp_path: Path):
    written = save_bundle(tmp_path, manifest(None, SharedTrunk(0, "4e")), states, "float32")
    first, second = written.members
    assert second.bytes < 0.45 * first.bytes
    loaded = load_bundle(tmp_path)
    for model, state in zip(loaded.models, states, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert len(load_bundle(tmp_path, members=1).models) == 1


def test_a_state_with_another_trunk_is_not_saved(states, tmp_path: Path):
    changed = dict(states[1])
    changed["conv1.conv.bias"] = changed["conv1.conv.bias"] + 1
    with pytest.raises(BundleError, match=r"conv1\.conv\.bias is not that of the trunk"):
        save_bundle(tmp_path, manifest(None, SharedTrunk(0, "4e")), [states[0], changed])
    assert not list(tmp_path.iterdir())


def test_a_cut_that_does_not_exist_is_refused(states, tmp_path: Path):
    with pytest.raises(BundleError, match="9z"):
        save_bundle(tmp_path, manifest(None, SharedTrunk(0, "9z")), states)


@pytest.mark.parametrize(
    "trunks",
    [
        (SharedTrunk(0, "4e"),),
        (None, SharedTrunk(1, "4e")),
        (None, SharedTrunk(-1, "4e")),
        (None, SharedTrunk(0, "4e"), SharedTrunk(1, "4e")),
    ],
    ids=str,
)
def test_a_trunk_is_that_of_a_whole_member_before(trunks):
    with pytest.raises(ValidationError, match="trunk"):
        manifest(*trunks)


def test_the_owner_must_be_built_alike():
    members = (
        MemberManifest(architecture="googlenet", options={"form": "bn"}),
        MemberManifest(architecture="googlenet", trunk=SharedTrunk(0, "4e")),
    )
    with pytest.raises(ValidationError, match="built alike"):
        BundleManifest(
            classes=("cat",), members=members,
            provenance=Provenance(training_data="none", licence="CC0-1.0"),
        )  # fmt: skip
