"""Loading a detector: what the bundle says stays unless the caller says otherwise."""

from pathlib import Path
from typing import Any

import pytest
import torch

from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    read_manifest,
    save_bundle,
)
from detector.detection.load import SHIPPED, load_detector
from detector.errors import SettingsError
from detector.hardware import choose_device, usable_cores, use_device
from detector.models import build_model


def with_proposals(folder: Path, engine: str, **options: Any) -> Path:
    """A bundle of random weights whose regions come so."""
    manifest = BundleManifest(
        classes=("cat",),
        members=(MemberManifest(architecture="googlenet", input_size=32),),
        proposals={"engine": engine, "options": options},
        provenance=Provenance(training_data="none", licence="CC0"),
    )
    save_bundle(folder, manifest, [build_model("googlenet", 2).state_dict()])
    return folder


def test_proposals_keep_what_the_bundle_says_and_is_not_named(tmp_path: Path):
    bundle = with_proposals(tmp_path, "opencv", longest_side=100, min_side=7.0)
    for text, sides in {
        None: (100, 7.0),
        "opencv": (100, 7.0),
        "opencv:longest_side=90": (90, 7.0),
        "opencv:seed=3": (100, 7.0),
        "selective-search": (500, None),  # another engine, another meaning
    }.items():
        made = load_detector(bundle, proposals=text).proposer.settings
        assert (made.longest_side, getattr(made, "min_side", None)) == sides, text


@pytest.mark.parametrize("given", [{"batch_size": 0}, {"threads": 0}, {"threads": -2}])
def test_none_at_a_time_is_refused_by_the_front_door_as_by_the_command(tmp_path: Path, given):
    bundle = with_proposals(tmp_path, "selective-search", preset="single")
    with pytest.raises(SettingsError, match="at least 1"):
        load_detector(bundle, **given)


def test_a_threshold_is_given_by_its_name(tmp_path: Path):
    bundle = with_proposals(tmp_path, "selective-search", preset="single")
    assert load_detector(bundle).settings.score_threshold == 0.05
    assert load_detector(bundle, threshold=0.4).settings.score_threshold == 0.4
    both = {"threshold": 0.4, "settings": {"score_threshold": 0.4, "nms_threshold": 0.2}}
    assert load_detector(bundle, **both).settings.nms_threshold == 0.2
    with pytest.raises(SettingsError, match="differ; give one"):
        load_detector(bundle, threshold=0.4, settings={"score_threshold": 0.3})
    with pytest.raises(SettingsError, match="score_threshold"):
        load_detector(bundle, threshold=1.5)


def test_threads_are_those_of_the_search_and_of_the_networks(tmp_path: Path):
    bundle = with_proposals(tmp_path, "selective-search", preset="single")
    for asked, threads in ((1, 1), (300, 300), (None, usable_cores())):
        detect = load_detector(bundle, threads=asked)
        assert detect.proposer.threads == detect.threads == threads


def test_only_a_command_keeps_float32_from_being_rounded_by_its_device(tmp_path: Path):
    """What is read, or loaded for a program of somebody else, leaves the process as it is."""
    places = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [one.allow_tf32 for one in places]
    try:
        for one in places:
            one.allow_tf32 = True
        choose_device("cpu")
        load_detector(with_proposals(tmp_path, "selective-search"), device="cpu")
        assert [one.allow_tf32 for one in places] == [True, True]
        assert use_device("cpu") == torch.device("cpu")
        assert [one.allow_tf32 for one in places] == [False, False]
    finally:
        for one, value in zip(places, before, strict=True):
            one.allow_tf32 = value


def test_the_shipped_bundle_is_within_its_limits_and_says_where_it_is_from():
    manifest = read_manifest(SHIPPED)
    assert len(manifest.classes) == 20
    stored = [one.bytes for one in (*manifest.members, *manifest.heads)]
    assert sum(stored) <= 40e6
    assert manifest.provenance.licence
    assert "VOC" in manifest.provenance.training_data.upper()
    assert "val_map_voc12" in manifest.metrics
