"""Settings are values that nobody changes; files and changes become typed ones, and faults name
themselves.
"""

import importlib
import math
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import detector
from detector.errors import SettingsError
from detector.heads.bbox_regression import RegressionSettings
from detector.heads.few_shot import OneClassSettings
from detector.heads.svm import SvmSettings
from detector.models import build_model
from detector.proposals.engines import build_engine
from detector.settings import Settings, load_config, put, validate
from detector.training.augment import AugmentSettings
from detector.training.classifier.recipes import with_recipe
from detector.training.classifier.settings import ClassifierTrainingConfig, OptimiserSettings
from detector.training.regions.box_loss import BoxLossSettings
from detector.training.regions.sampling import SamplingSettings
from detector.training.regions.settings import OptimiserConfig, RegionTrainingConfig

ROOT = Path(__file__).resolve().parents[1]


def _below(one: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for other in one.__subclasses__():
        yield other
        yield from _below(other)


def test_all_settings_and_manifests_are_frozen_finite_and_refuse_unknown_names():
    for module in pkgutil.walk_packages(detector.__path__, "detector."):
        if not module.name.startswith("detector.labelling."):  # needs packages of their own
            importlib.import_module(module.name)
    ours = {one for one in _below(BaseModel) if one.__module__.startswith("detector.")}
    assert len(ours) >= 40
    # A model card reads parts of an evaluation's files, which hold more than it shows.
    parts = {one for one in ours if one.__module__.endswith(".bundle.card")}
    for one in parts:
        assert one.model_config == {"frozen": True, "allow_inf_nan": False}, one
    ours -= parts
    for one in ours:
        assert issubclass(one, Settings), one
        assert one.model_config == Settings.model_config, one
    assert Settings.model_config == {
        "frozen": True, "extra": "forbid", "allow_inf_nan": False, "populate_by_name": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "accepted", "refused"),
    [
        (SvmSettings, "negative_iou", (0.01, 0.99), (0, 1)),
        (SvmSettings, "c", (1e-6,), (0,)),
        (SvmSettings, "passes", (1,), (0,)),
        (RegressionSettings, "least_iou", (0.01, 0.99), (0, 1)),
        (RegressionSettings, "ridge", (1e-6,), (0,)),
        (OneClassSettings, "shifted", (0,), (-1,)),
        (OneClassSettings, "proposals", (0,), (-1,)),
        (OneClassSettings, "folds", (2,), (1,)),
        (OneClassSettings, "near_iou", (0.01, 0.29), (0, 0.3)),
        (SamplingSettings, "positives_per_batch", (1,), (0,)),
        (SamplingSettings, "background_per_batch", (0,), (-1,)),
        (SamplingSettings, "hard_candidates", (0,), (-1,)),
        (SamplingSettings, "near_iou", (0.01, 0.99), (0, 1)),
        (SamplingSettings, "background_prior", (0.01,), (0,)),
        (SamplingSettings, "class_power", (0, 1), (-0.1, 1.1)),
        (AugmentSettings, "contrast", (0, 0.99), (-0.1, 1)),
        (BoxLossSettings, "weight", (0.01,), (0,)),
    ],
)
def test_what_makes_no_sense_is_refused(kind, name, accepted, refused):
    for value in accepted:
        assert getattr(kind(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(SettingsError, match=f"^here: {name}: Input should be"):
            validate(kind, {name: value}, "here")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_is_told_by_its_name(value):
    with pytest.raises(SettingsError, match=r"^optimiser: rate: .*finite"):
        validate(OptimiserConfig, {"rate": value}, "optimiser")


def test_validating_only_at_the_end_and_clipping_nothing_may_be_told_as_infinity():
    settings = OptimiserSettings(validate_every=math.inf, clip=math.inf)
    assert (settings.validate_every, settings.clip) == (math.inf, math.inf)
    for name in ("validate_every", "clip"):
        with pytest.raises(SettingsError, match=name):
            validate(OptimiserSettings, {name: math.nan}, "optimiser")


def test_changes_reach_the_setting_they_name():
    tree = load_config(None, ["optimiser.rate=0.5", "data=[{path: a}]", "member.freeze=[conv1.]"])
    settings = validate(RegionTrainingConfig, tree, "options")
    assert settings.optimiser.rate == 0.5
    assert settings.data[0].path == "a"
    assert settings.member.freeze == ("conv1.",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.speed=1", "known: method, rate, "),
        ("speed=1", "known: data, classes"),
        ("optimiser.rate=fast", r"optimiser\.rate"),
        ("optimiser.momentum=1", r"optimiser\.momentum"),
        ("member.input_size=7", r"member\.input_size"),
        ("optimiser", "NAME=VALUE"),
        ("optimiser.rate.deeper=1", "rate"),
        ("optimiser.rate=[1", "YAML"),
        ("data=" + "[" * 5000, "not a YAML value"),
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
    with pytest.raises(SettingsError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


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


def test_an_empty_room_of_a_configuration_can_be_filled():
    tree: dict[str, Any] = {"member": None, "steps": 3}
    put(tree, "member.weights", "here")
    assert tree["member"] == {"weights": "here"}
    with pytest.raises(SettingsError, match="steps is a value"):
        put(tree, "steps.more", 1)


def test_renaming_without_a_class_list_is_a_settings_error():
    source = {"path": "a", "rename": "coco-to-voc"}
    assert validate(RegionTrainingConfig, {"data": [source], "classes": "voc"}, "x").data
    with pytest.raises(SettingsError, match="set classes, such as classes=voc"):
        validate(RegionTrainingConfig, {"data": [source]}, "x")
