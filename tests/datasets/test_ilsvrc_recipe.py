"""R-CNN's recipe on ILSVRC builds: val1 whole, train for positives only, at most N of a class."""

from pathlib import Path

import numpy as np
import pytest
from dataset_files import write_ilsvrc

from detector.datasets.sources import DataSource, build_dataset
from detector.errors import SettingsError
from detector.settings import load_config, validate
from detector.structures import Proposals
from detector.training.engine.network import build_network
from detector.training.regions.sampling import RegionPool
from detector.training.regions.settings import RegionTrainingConfig

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "ilsvrc_det.yaml"
ACCORDION, AIRPLANE = "n02672831", "n02691156"
BOX, OTHER = (10, 20, 29, 39), (50, 50, 69, 69)
TRAIN = [f"ILSVRC2013_train/{ACCORDION}/{ACCORDION}_{i}" for i in range(5)]
BLACKLIST = "devkit/data/ILSVRC2015_det_validation_blacklist.txt"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight images of val and five of train, each with an accordion and an airplane."""
    both = [(ACCORDION, BOX), (AIRPLANE, OTHER)]
    lists = {"train_1": dict.fromkeys(TRAIN, 1)}
    home = tmp_path / "ILSVRC"
    write_ilsvrc(home, {f"v{i}": both for i in range(8)}, dict.fromkeys(TRAIN, both), lists)
    path = home / BLACKLIST
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{i} {AIRPLANE}\n" for i in range(1, 9)))
    return tmp_path


def test_the_recipe_of_the_repository_builds_and_draws_a_batch(data: Path) -> None:
    settings = validate(RegionTrainingConfig, load_config(CONFIG), "recipe")
    dataset = build_dataset(settings.data, settings.classes, data)
    assert len(dataset.classes) == 200
    assert sorted(s.positives_only for s in dataset.samples) == [False] * 4 + [True] * 5
    network = build_network(settings.member.model_copy(update={"weights": None}), 201)
    assert network.state_dict()["classifier.weight"].shape[0] == 201

    windows = Proposals([[10, 20, 28, 40], [60, 10, 90, 40]], (80, 100))
    proposals = {sample.image_id: windows for sample in dataset.samples}
    batch = RegionPool(dataset, proposals, settings.sampling).draw(0, 0)
    assert len(batch) == 128
    background = batch.labels == 200
    assert not any(dataset.samples[i].positives_only for i in batch.image[background])
    # Airplanes are blacklisted in all of val: its background may be one, and none is a positive.
    assert batch.allowed_classes[background][:, 1].all()
    planes = batch.image[batch.labels == 1]
    assert len(planes)
    assert all(dataset.samples[i].positives_only for i in planes)


def test_a_cap_counts_classes_over_the_whole_of_a_source(data: Path) -> None:
    source = DataSource(path="ILSVRC", split="train", cap_per_class=2)
    dataset = build_dataset([source], "own", data)
    real = [s.annotations.labels[~s.annotations.difficult] for s in dataset.samples]
    assert np.bincount(np.concatenate(real)).tolist() == [2, 2]
    assert dataset.dropped_by_rule() == {"over-the-cap": 6}


def test_background_of_train_may_be_asked_for(data: Path) -> None:
    source = DataSource(path="ILSVRC", split="train", positives_only=False)
    samples = build_dataset([source], "own", data).samples
    assert {s.positives_only for s in samples} == {False}
    assert {s.annotated for s in samples} == {frozenset({0})}  # what train_1.txt proves


def test_a_cap_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="cap_per_class"):
        validate(RegionTrainingConfig, {"data": [{"path": "a", "cap_per_class": 0}]}, "options")
