"""Maps kept on disk are those of the trunk, survive interruptions, and keep to their settings."""

import copy
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.datasets import Dataset, Sample
from detector.errors import TrainingError
from detector.models import build_model
from detector.models.inference.prepare import FixedBatches, prepare_for_inference
from detector.models.split import Trunk
from detector.structures import Annotations, Proposals
from detector.training.augment import AugmentSettings
from detector.training.engine.feature_cache import through
from detector.training.engine.run_folder import shared_lock
from detector.training.regions.bank import BankSettings, RegionBank, choose_rows
from detector.training.regions.crops import RegionCrops
from detector.training.regions.sampling import RegionPool, SamplingSettings

STILL = AugmentSettings(flip=False, brightness=0, contrast=0, saturation=0, colour_shift=0)
OBJECTS = Annotations(np.array([[4, 4, 44, 44]]), np.array([0]))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    samples = []
    for i in range(5):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(path)
        annotated = frozenset({0}) if i == 4 else None
        samples.append(Sample(str(i), path, (60, 80), OBJECTS, annotated))
    return Dataset("five", ("thing", "other"), tuple(samples))


@pytest.fixture
def pool(dataset: Dataset) -> RegionPool:
    near = [[4 + i, 4, 44 + i, 44] for i in range(1, 9)]  # IoU 0.67 and more with the object
    far = [[50 + i, 30, 75, 55] for i in range(8)]
    proposals = Proposals(np.array(near + far), (60, 80))
    return RegionPool(dataset, {str(i): proposals for i in range(5)}, SamplingSettings())


class Trunk4a(RegionBank):
    """A bank of one start's maps, by what fills it."""

    precision: str

    def build(self) -> Iterator[int]:
        torch.manual_seed(0)
        self.trunk = Trunk(build_model("googlenet", 3).eval(), "4a")
        network = prepare_for_inference(self.trunk, self.precision)
        return self.fill(FixedBatches(network, batch_size=4))


def _bank(
    folder: Path, dataset: Dataset, pool: RegionPool, fingerprint: str = "a", precision="float32"
) -> Trunk4a:
    rows = choose_rows(pool, _partial(dataset), BankSettings(positives_per_object=3))
    crops = RegionCrops(dataset, 32, STILL, 0)
    made = Trunk4a(folder, pool.restricted(rows), crops, (512, 2, 2), fingerprint)
    made.precision = precision
    return made


def _partial(dataset: Dataset) -> np.ndarray:
    return np.array([sample.annotated is not None for sample in dataset.samples])


def test_each_object_keeps_its_box_and_some_others_and_partial_images_fewer(
    dataset: Dataset, pool: RegionPool
):
    settings = BankSettings(positives_per_object=3, background_per_image=4, partial_share=0.5)
    rows = choose_rows(pool, _partial(dataset), settings)
    kept = pool.restricted(rows)
    positive = np.bincount(kept.image[kept.positive])
    assert positive.tolist() == [3, 3, 3, 3, 2]
    assert np.bincount(kept.image[kept.background]).tolist() == [4, 4, 4, 4, 2]
    annotated = kept.overlap[kept.positive] >= 0.999
    assert np.bincount(kept.image[kept.positive][annotated]).tolist() == [1] * 5
    assert np.array_equal(rows, choose_rows(pool, _partial(dataset), settings))


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 2e-3), ("bfloat16", 5e-2)])
def test_the_maps_of_a_bank_are_those_of_the_trunk(
    precision, rounding, dataset, pool, tmp_path: Path
):
    bank = _bank(tmp_path / "bank", dataset, pool, precision=precision)
    assert list(bank.build()) == [1, 2, 3, 4, 5]
    batch = bank.open().pool.draw(0, 0)
    maps, allowed_classes, read = bank(batch, 0)
    crops = RegionCrops(dataset, 32, STILL, 0)(batch, 0).inputs
    with torch.inference_mode():
        expected = bank.trunk.eval()(crops)
    assert torch.allclose(
        maps, expected, rtol=rounding, atol=rounding * float(expected.abs().max())
    )
    assert allowed_classes.shape == (len(batch), 3)
    assert read.all()


@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_bank_goes_on_and_ends_with_the_same_bytes(
    killed: bool, dataset, pool, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("detector.training.engine.feature_cache.SAVE_EVERY", 2)
    list(_bank(tmp_path / "whole", dataset, pool).build())
    first = _bank(tmp_path / "cut", dataset, pool)
    steps = first.build()
    assert [next(steps) for _ in range(3)] == [1, 2, 3]
    state = tmp_path / "cut" / "bank.json"
    saved = state.read_text()
    steps.close()
    if killed:  # nothing is saved any more
        state.write_text(saved)
    with pytest.raises(TrainingError, match="not complete"):
        first.open()
    again = _bank(tmp_path / "cut", dataset, pool)
    assert list(again.build()) == ([3, 4, 5] if killed else [4, 5])
    same = [(tmp_path / name / "maps.f16").read_bytes() for name in ("whole", "cut")]
    assert same[0] == same[1]


@pytest.mark.parametrize("together", [1, 2, 3])
def test_images_that_share_a_batch_of_the_network_keep_their_own_features(together: int):
    """Also one without crops, and the last ones, which do not fill a batch."""
    counts, calls = [2, 0, 1, 3], []

    def network(crops: torch.Tensor) -> torch.Tensor:
        calls.append(len(crops))
        return 10 * crops

    def make(image: int) -> torch.Tensor:
        return torch.full((counts[image], 1, 1, 1), float(image))

    found = list(through(network, make, 4, together=together)(1))
    assert [one.flatten().tolist() for one in found] == [[], [20], [30] * 3]
    assert calls == {1: [1, 3], 2: [1, 3], 3: [4]}[together]


def test_a_bank_is_filled_by_one_run_at_a_time(dataset, pool, tmp_path: Path):
    one, other = (_bank(tmp_path / "bank", dataset, pool) for _ in range(2))
    filling = one.build()
    next(filling)
    with pytest.raises(TrainingError, match=r"bank: another run is filling this bank; begin when"):
        next(other.build())
    assert list(filling) == [2, 3, 4, 5]
    with shared_lock(tmp_path / "bank", ""):  # a full one is nobody's
        assert list(other.build()) == []
    assert other.open().read.all()


def test_a_bank_that_somebody_stopped_filling_is_free(dataset, pool, tmp_path: Path):
    one, other = (_bank(tmp_path / "bank", dataset, pool) for _ in range(2))
    filling = one.build()
    next(filling)
    filling.close()
    assert list(other.build()) == [2, 3, 4, 5]


def test_a_bank_of_other_settings_or_regions_is_refused(dataset, pool, tmp_path: Path):
    """An annotation that moved, or another image, makes kept maps those of other regions."""
    list(_bank(tmp_path / "bank", dataset, pool).build())
    moved, named = copy.copy(pool), copy.copy(pool)
    moved.boxes = pool.boxes + 1
    named.image_ids = ("x", *pool.image_ids[1:])
    for other, fingerprint in ((pool, "b"), (moved, "a"), (named, "a")):
        with pytest.raises(TrainingError, match="other settings, of other images or boxes"):
            list(_bank(tmp_path / "bank", dataset, other, fingerprint).build())


@pytest.mark.parametrize("left", [None, 1000])
def test_maps_that_are_gone_or_short_are_made_again(left, dataset, pool, tmp_path: Path):
    bank = _bank(tmp_path / "bank", dataset, pool)
    list(bank.build())
    path = tmp_path / "bank" / "maps.f16"
    whole = path.read_bytes()
    path.unlink() if left is None else path.write_bytes(whole[:left])
    with pytest.raises(TrainingError, match="not complete"):
        bank.open()
    assert list(bank.build()) == [1, 2, 3, 4, 5]
    assert path.read_bytes() == whole


def test_a_bank_that_begins_again_and_is_killed_is_not_complete(dataset, pool, tmp_path: Path):
    """Its maps were lost; the file has its full length again before the first of them is made."""
    bank = _bank(tmp_path / "bank", dataset, pool)
    list(bank.build())
    path = tmp_path / "bank" / "maps.f16"
    whole = path.read_bytes()
    path.unlink()
    steps = bank.build()
    next(steps)
    state = (tmp_path / "bank" / "bank.json").read_text()
    steps.close()
    path.write_bytes(bytes(len(whole)))
    (tmp_path / "bank" / "bank.json").write_text(state)  # as a kill leaves both
    with pytest.raises(TrainingError, match="not complete"):
        bank.open()
    assert list(bank.build()) == [1, 2, 3, 4, 5]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("begun", [False, True])
def test_a_full_disk_is_an_error_before_the_first_map_and_costs_none_that_there_is(
    begun: bool, dataset, pool, tmp_path: Path, monkeypatch
):
    if begun:
        steps = _bank(tmp_path / "bank", dataset, pool).build()
        next(steps)
        steps.close()
    path = tmp_path / "bank" / "maps.f16"
    kept = path.read_bytes() if begun else b""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space.*maps\.f16"):
        next(_bank(tmp_path / "bank", dataset, pool).build())
    assert path.read_bytes() == kept
