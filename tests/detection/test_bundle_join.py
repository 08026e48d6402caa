"""Bundles joined into an ensemble: members and heads come along, common layers are stored once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from class_heads import class_head
from torch import nn

from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    join_bundles,
    load_bundle,
    save_bundle,
    save_heads,
    save_temperatures,
)
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import SizePrior
from detector.errors import BundleError
from detector.heads import BoxRegression, HeadManifest, LinearScores
from detector.models import ARCHITECTURES, build_model

CLASSES = ("cat", "dog")
FEATURES = 128  # of a GoogLeNet of an eighth of the published widths
NARROW = {"width": 0.125}
STAGES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


def saved(
    folder: Path,
    seed: int,
    regression: bool = True,
    classes=CLASSES,
    start: int = 0,
    apart: str = "4d",
    **options,
) -> Path:
    """A bundle of one narrow GoogLeNet; from `apart` on it differs with the seed."""
    torch.manual_seed(start)
    options = NARROW | options
    model = build_model("googlenet", len(classes) + 1, **options)
    torch.manual_seed(seed)
    changed = (*STAGES[STAGES.index(apart) :], "weight", "bias")  # and the classifier's own
    for name, value in model.named_parameters():
        if name.split(".")[1] in changed:
            value.data.add_(torch.randn_like(value) * 0.01)
    manifest = BundleManifest(
        classes=classes,
        members=(
            MemberManifest(
                architecture="googlenet", options=options, input_size=64, stored_as="float32"
            ),
        ),
        thresholds=DetectionSettings(score=0.2 + seed / 10),
        proposals={"max": seed},
        prior=SizePrior(sides=(0.5,), log_odds=(float(seed),)),
        provenance=Provenance(
            training_data=f"set {seed}",
            licence="CC0-1.0",
            started_from=f"start {start}",
            recipe={"steps": seed},
        ),
    )
    save_bundle(folder, manifest, [model.state_dict()])
    if regression:
        rng = np.random.default_rng(seed)
        rows = 4 * len(classes)
        head = BoxRegression(
            rng.normal(size=(rows, FEATURES)).astype(np.float32), np.zeros(rows, "f4")
        )
        on = manifest.thresholds.model_copy(update={"regression": True})
        save_heads(folder, folder, [(HeadManifest(kind="regression"), head)], on)
    return folder


def test_members_and_their_heads_come_along_and_the_trunk_is_stored_once(tmp_path: Path):
    one, two = saved(tmp_path / "one", 1), saved(tmp_path / "two", 2)
    manifest = join_bundles([one, two], tmp_path / "both")
    assert [member.trunk for member in manifest.members] == [None, (0, "4c")]
    assert manifest.members[1].bytes < 0.8 * manifest.members[0].bytes
    assert manifest.thresholds == load_bundle(one).manifest.thresholds
    assert manifest.prior == load_bundle(one).manifest.prior
    assert manifest.provenance.training_data == "set 1; then set 2"
    assert manifest.provenance.licence == "CC0-1.0"
    assert manifest.provenance.started_from == "start 0"
    assert manifest.provenance.recipe == {"members": [{"steps": 1}, {"steps": 2}]}
    assert manifest.proposals == {"max": 1}
    joined = load_bundle(tmp_path / "both")
    for place, source in enumerate((one, two)):
        alone = load_bundle(source)
        for name, value in alone.models[0].state_dict().items():
            assert torch.equal(joined.models[place].state_dict()[name], value)
        (head,) = alone.heads
        assert (joined.heads[place].weight == head.weight).all()
        assert joined.manifest.heads[place].member == place


def test_a_head_that_one_member_lacks_is_left_out_and_off(tmp_path: Path):
    one, two = saved(tmp_path / "one", 1), saved(tmp_path / "two", 2, regression=False)
    manifest = join_bundles([one, two], tmp_path / "both")
    assert manifest.heads == ()
    assert not manifest.thresholds.regression


def test_without_heads_the_first_ones_thresholds_stay(tmp_path: Path):
    one, two = (saved(tmp_path / str(seed), seed, regression=False) for seed in (1, 2))
    assert join_bundles([one, two], tmp_path / "both").thresholds.score_threshold == pytest.approx(
        0.3
    )


def test_an_ensemble_may_join_another(tmp_path: Path):
    parts = [saved(tmp_path / str(seed), seed) for seed in (1, 2, 3)]
    join_bundles(parts[:2], tmp_path / "two")
    manifest = join_bundles([tmp_path / "two", parts[2]], tmp_path / "three")
    assert [member.trunk for member in manifest.members] == [None, (0, "4c"), (0, "4c")]
    assert [head.member for head in manifest.heads] == [0, 1, 2]


def test_the_deepest_trunk_in_common_is_shared(tmp_path: Path):
    """The first two are alike up to 3b, the second and the third up to 4e."""
    one, two = (saved(tmp_path / str(seed), seed, apart="4a") for seed in (1, 2))
    second = load_bundle(two)
    state = second.models[0].state_dict()
    state["inception.5a.one.conv.weight"] += 1
    three = tmp_path / "three"
    save_bundle(three, bare(second.manifest), [state])
    # The second has its trunk from the first, so that the third cannot have the second's.
    manifest = join_bundles([one, two, three], tmp_path / "out")
    assert [member.trunk for member in manifest.members] == [None, (0, "3b"), (0, "3b")]
    manifest = join_bundles([three, two, one], tmp_path / "again")
    assert [member.trunk for member in manifest.members] == [None, (0, "4e"), (0, "3b")]


def bare(manifest: BundleManifest) -> BundleManifest:
    off = manifest.thresholds.model_copy(update={"regression": False})
    return manifest.model_copy(update={"heads": (), "thresholds": off})


def test_a_trunk_is_taken_from_the_owner_that_has_it(tmp_path: Path):
    """Owners that share nothing with each other, since their stems differ."""
    one, two = saved(tmp_path / "one", 1), saved(tmp_path / "two", 2, start=9)
    near_two = saved(tmp_path / "three", 3, start=9, apart="4b")
    manifest = join_bundles([one, two, near_two], tmp_path / "out")
    assert [member.trunk for member in manifest.members] == [None, None, (1, "4a")]
    manifest = join_bundles([two, one, near_two, saved(tmp_path / "four", 4)], tmp_path / "again")
    assert [member.trunk for member in manifest.members] == [None, None, (0, "4a"), (1, "4c")]


def test_the_same_network_asked_otherwise_is_stored_but_for_its_last_module(tmp_path: Path):
    one = saved(tmp_path / "one", 1, regression=False)
    save_temperatures(one, tmp_path / "warm", [2.0], {})
    manifest = join_bundles([one, tmp_path / "warm"], tmp_path / "both")
    assert manifest.members[1].trunk == (0, "5a")
    assert manifest.provenance.training_data == "set 1"


def test_the_same_network_twice_is_refused(tmp_path: Path):
    parts = [saved(tmp_path / str(seed), seed) for seed in (1, 2)]
    join_bundles(parts, tmp_path / "both")
    for again, named in ((parts[1], "1 and 2"), (tmp_path / "both", "0 and 2")):
        with pytest.raises(BundleError, match=f"members {named} of the ensemble would be one"):
            join_bundles([tmp_path / "both", again], tmp_path / "more")
    assert not (tmp_path / "more").exists()
    # With other regression it moves boxes otherwise.
    other = saved(tmp_path / "other", 1, regression=False)
    (head,) = load_bundle(parts[1]).heads
    save_heads(other, other, [(HeadManifest(kind="regression"), head)])
    assert len(join_bundles([parts[0], other], tmp_path / "more").members) == 2


def test_networks_with_auxiliary_heads_are_joined_whole(tmp_path: Path):
    parts = [saved(tmp_path / str(seed), seed, auxiliary=True) for seed in (1, 2)]
    manifest = join_bundles(parts, tmp_path / "both")
    assert [member.trunk for member in manifest.members] == [None, None]
    assert len(load_bundle(tmp_path / "both").models) == 2


def test_networks_built_otherwise_share_nothing(tmp_path: Path):
    one = saved(tmp_path / "one", 1)
    manifest = join_bundles([one, saved(tmp_path / "two", 1, dropout=0.1)], tmp_path / "both")
    assert [member.trunk for member in manifest.members] == [None, None]


def test_networks_that_cannot_be_cut_are_joined_whole(tmp_path: Path, monkeypatch):
    class Tiny(nn.Module):
        def __init__(self, num_outputs: int) -> None:
            super().__init__()
            self.classifier = nn.Linear(2, num_outputs)

    monkeypatch.setitem(ARCHITECTURES, "tiny", Tiny)
    manifest = BundleManifest(
        classes=CLASSES,
        members=(MemberManifest(architecture="tiny", stored_as="float32"),),
        provenance=Provenance(training_data="none", licence="CC0-1.0"),
    )
    parts = [tmp_path / "one", tmp_path / "two"]
    for folder in parts:
        save_bundle(folder, manifest, [Tiny(3).state_dict()])
    joined = join_bundles(parts, tmp_path / "both")
    assert [member.trunk for member in joined.members] == [None, None]
    assert len(load_bundle(tmp_path / "both").models) == 2


def test_other_classes_are_refused(tmp_path: Path):
    one = saved(tmp_path / "one", 1)
    with pytest.raises(BundleError, match=r"two: its classes, or their order, .* one class list$"):
        join_bundles([one, saved(tmp_path / "two", 2, classes=("cat", "cow"))], tmp_path / "both")
    row = np.ones(1, np.float32)
    mug = class_head(LinearScores(np.ones((1, FEATURES), np.float32), row, row, row))
    save_heads(one, one, [(HeadManifest(kind="class", name="mug"), mug)])
    with pytest.raises(BundleError, match="one: has added classes; join first"):
        join_bundles([one, one], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_none_of_the_parts_is_written_over(tmp_path: Path):
    parts = [saved(tmp_path / "one", 1), saved(tmp_path / "two", 2)]
    before = (parts[0] / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match="one: is one of those to join"):
        join_bundles(parts, tmp_path / "two" / ".." / "one")
    assert (parts[0] / "bundle.json").read_bytes() == before


def test_the_tool_says_what_is_shared(tmp_path: Path, capsys, monkeypatch):
    from detector.cli import bundle_join as join
    from detector.cli.app import run_tool

    words = [str(saved(tmp_path / str(seed), seed)) for seed in (1, 2)]
    with pytest.raises(SystemExit) as stopped:
        run_tool(join.main, [*words, "--out", str(tmp_path / "both")])
    assert not stopped.value.code
    assert "up to 4c as 0, regression" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        run_tool(join.main, [words[0], "--out", str(tmp_path / "both")])
    assert stopped.value.code == 2
