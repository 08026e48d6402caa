"""Settings: files and changes become typed values, faults name themselves, engines go by name."""

from __future__ import annotations

import os
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
from detector.errors import SettingsError, WeightsError
from detector.hardware import (
    choose_device,
    choose_precision,
    has_fast_bfloat16,
    usable_cores,
    use_device,
)
from detector.models import build_model
from detector.proposals.engines import build_engine
from detector.settings import load_config, put, validate
from detector.training.classifier.recipes import with_recipe
from detector.training.classifier.settings import ClassifierTrainingConfig
from detector.training.engine.network import MemberConfig, build_network
from detector.training.regions.settings import RegionTrainingConfig

ROOT = Path(__file__).resolve().parents[1]


def test_proposals_keep_what_the_bundle_says_and_is_not_named(tmp_path: Path):
    bundle = with_proposals(tmp_path, "opencv", longest_side=100, min_side=7.0)
    for text, sides in {
        None: (100, 7.0),
        "opencv": (100, 7.0),
        "opencv:longest_side=90": (90, 7.0),
        "opencv:seed=3": (100, 7.0),
        "selective-search": (500, None),  # another engine, another meaning
    }.items():
        made = load_detector(bundle, proposals=text).propose_regions.settings
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


def test_the_number_of_threads_reaches_the_search(tmp_path: Path):
    bundle = with_proposals(tmp_path, "selective-search", preset="single")
    assert load_detector(bundle, threads=1).propose_regions.threads == 1
    assert load_detector(bundle, threads=300).propose_regions.threads == 300
    assert load_detector(bundle).propose_regions.threads == usable_cores()


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


def test_changes_reach_the_setting_they_name():
    tree = load_config(None, ["optimiser.rate=0.5", "data=[{path: a}]", "member.freeze=[conv1.]"])
    settings = validate(RegionTrainingConfig, tree, "options")
    assert settings.optimiser.rate == 0.5
    assert settings.data[0].path == "a"
    assert settings.member.freeze == ("conv1.",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.speed=1", "known: method, steps, rate"),
        ("speed=1", "known: data, classes"),
        ("optimiser.rate=fast", r"optimiser\.rate"),
        ("optimiser.momentum=1", r"optimiser\.momentum"),
        ("member.input_size=7", r"member\.input_size"),
        ("optimiser", "room.setting=value"),
        ("optimiser.rate.deeper=1", "rate"),
        ("optimiser.rate=[1", "YAML"),
    ],
)
def test_a_fault_names_the_setting_and_what_would_be_right(change, message):
    def read() -> None:
        tree = load_config(None, ["optimiser.rate=1", change])
        validate(RegionTrainingConfig, {"data": [], **tree}, "options")

    with pytest.raises(SettingsError, match=message):
        read()


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "\x00", "a: " + "[" * 5000])
def test_a_file_that_is_no_configuration_is_refused(content, tmp_path: Path):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(SettingsError, match=r"c\.yaml"):
        load_config(tmp_path / "c.yaml")


def test_a_change_nested_too_deep_is_refused():
    with pytest.raises(SettingsError, match="not a YAML value"):
        load_config(None, ["data=" + "[" * 5000])


def test_a_missing_configuration_is_refused():
    with pytest.raises(SettingsError, match="cannot be read"):
        load_config("no/such.yaml")


def test_yaml_cannot_run_code(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("a: !!python/object/apply:os.system ['touch owned']")
    with pytest.raises(SettingsError, match="not a YAML file"):
        load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_in_the_repository_is_valid(path: Path, monkeypatch):
    tree = load_config(path)
    if "trunk" in tree:  # of a MultiBox, whose settings are its tool's
        from detector.training.multibox.settings import MultiBoxTrainingConfig

        validate(MultiBoxTrainingConfig, tree, str(path))
        return
    if "recipe" in tree:  # of a classifier's training
        settings = validate(ClassifierTrainingConfig, with_recipe(tree), str(path))
        build_model(settings.network.architecture, 5, **settings.network.options)
        return
    settings = validate(RegionTrainingConfig, tree, str(path))
    build_engine(settings.proposals.engine, settings.proposals.options)
    build_model(settings.member.architecture, 5, **settings.member.options)


def test_an_unknown_engine_is_refused():
    with pytest.raises(SettingsError, match="selective-search"):
        build_engine("magic", {})


def test_a_network_starts_from_its_own_weights_with_a_fresh_last_layer(tmp_path: Path):
    from safetensors.torch import save_file

    trained = build_model("googlenet", 6)
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    same = build_network(MemberConfig(weights="w.safetensors"), 6, tmp_path)
    other = build_network(MemberConfig(weights="w.safetensors"), 4, tmp_path)
    theirs = trained.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in same.state_dict().items())
    assert other.state_dict()["classifier.weight"].shape == (4, 1024)
    assert torch.equal(other.state_dict()["conv1.conv.weight"], theirs["conv1.conv.weight"])


def test_weights_of_another_architecture_are_refused(shared_weights: Path):
    member = MemberConfig(architecture="inception_v3", weights="bvlc_googlenet.safetensors")
    with pytest.raises(WeightsError, match="googlenet"):
        build_network(member, 4, shared_weights)


def test_devices_and_number_formats_go_by_name():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_precision("float32", torch.device("cpu")) == torch.float32
    fast = has_fast_bfloat16(torch.device("cpu"))
    expected = torch.bfloat16 if fast else torch.float32
    assert choose_precision("auto", torch.device("cpu")) == expected
    for choose in (choose_device, lambda name: load_detector(device=name)):
        with pytest.raises(SettingsError, match=r"^device abacus: .*; try auto or cpu$"):
            choose("abacus")
    with pytest.raises(SettingsError, match="float32"):
        choose_precision("int3", torch.device("cpu"))


def test_the_shipped_bundle_is_within_its_limits_and_says_where_it_is_from():
    manifest = read_manifest(SHIPPED)
    assert len(manifest.classes) == 20
    stored = [one.bytes for one in (*manifest.members, *manifest.heads)]
    assert sum(stored) <= 40e6
    assert manifest.provenance.licence
    assert "VOC" in manifest.provenance.training_data.upper()
    assert "val_map_voc12" in manifest.metrics


def test_an_empty_room_of_a_configuration_can_be_filled():
    tree: dict[str, Any] = {"member": None, "steps": 3}
    put(tree, "member.weights", "here")
    assert tree["member"] == {"weights": "here"}
    with pytest.raises(SettingsError, match="steps is a value"):
        put(tree, "steps.more", 1)


def test_emulated_bfloat16_is_not_fast_for_networks_either(monkeypatch):
    from detector.models.inference.prepare import fastest_precision

    def supported(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert fastest_precision("cuda") == "float32"
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert fastest_precision("cpu") == "float32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert fastest_precision("cpu") == "bfloat16"
    assert has_fast_bfloat16(torch.device("cpu"))


def test_each_process_of_torchrun_has_a_card_of_its_own(monkeypatch):
    second = {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", second) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)  # there is no card to try
    for name in ("auto", "cuda"):
        assert choose_device(name, second) == torch.device("cuda:1")
    assert choose_device("cuda:0", second) == torch.device("cuda:0")
    assert choose_device("cuda") == torch.device("cuda")


def test_renaming_without_a_class_list_is_a_settings_error():
    source = {"path": "a", "rename": "coco-to-voc"}
    assert validate(RegionTrainingConfig, {"data": [source], "classes": "voc"}, "x").data
    with pytest.raises(SettingsError, match="set classes, such as classes=voc"):
        validate(RegionTrainingConfig, {"data": [source]}, "x")


@pytest.mark.parametrize(
    ("limit", "cores"), [("150000", 1), ("50000", 1), ("300000", 3), ("max", 8)]
)
def test_a_containers_share_of_the_processors_counts(limit, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text(f"{limit} 100000\n")
    assert usable_cores(tmp_path) == cores
