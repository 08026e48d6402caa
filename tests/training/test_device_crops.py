"""Crops made on the device are those of the processor, and bad images cost only themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.datasets import Dataset, Sample
from detector.structures import Annotations, Proposals
from detector.training.augment import AugmentSettings
from detector.training.regions.crops import (
    CROP_BYTES,
    SHARE,
    DeviceCrops,
    RegionCrops,
    fit_in_memory,
    needed_bytes,
)
from detector.training.regions.sampling import RegionPool, SamplingSettings

CPU = torch.device("cpu")
SIZES = [(60, 80), (81, 44), (50, 50)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    samples = []
    for i, (height, width) in enumerate(SIZES):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        truth = Annotations(np.array([[4, 4, 34, 34]]), np.array([0]))
        samples.append(Sample(str(i), path, None, truth))
    return Dataset("three", ("thing",), tuple(samples))


@pytest.fixture
def pool(dataset: Dataset) -> RegionPool:
    boxes = np.array([[3, 3, 33, 33], [0, 0, 40, 44], [20, 8, 44, 50]])
    found = {str(i): Proposals(boxes, size) for i, size in enumerate(SIZES)}
    return RegionPool(dataset, found, SamplingSettings(positives_per_batch=9))


def _loaded(dataset: Dataset, pool: RegionPool, augment: AugmentSettings) -> DeviceCrops:
    made = DeviceCrops(dataset, pool.sizes, 32, augment, 5, 0.2, device=CPU)
    assert list(made.load(2)) == [1, 2, 3]
    return made


def test_crops_of_the_device_are_those_of_the_processor(dataset: Dataset, pool: RegionPool):
    augment = AugmentSettings()
    device, host = _loaded(dataset, pool, augment), RegionCrops(dataset, 32, augment, 5, 0.2)
    batch = pool.draw(0, 3)
    assert 0 < batch.flip.sum() < len(batch)
    crops, allowed_classes, read = device(batch, 3)
    wanted, allowed, _ = host(batch, 3)
    assert read.all()
    assert (crops - wanted).abs().max() < 1 / 255 / 5
    assert torch.equal(allowed_classes, allowed)
    assert crops.is_contiguous(memory_format=torch.channels_last)
    other = device(batch, 4).inputs
    assert (other - crops).abs().max() > 0.01  # another distortion


@pytest.mark.parametrize("fault", ["damaged", "of another size"])
def test_an_image_that_went_bad_costs_its_own_regions(fault: str, dataset, pool):
    path = dataset.samples[1].path
    if fault == "damaged":
        path.write_bytes(path.read_bytes()[:60])
    else:
        Image.new("RGB", (10, 10)).save(path)
    made = _loaded(dataset, pool, AugmentSettings(flip=False))
    assert list(made.broken) == [path]
    assert str(path) in made.broken[path]
    batch = pool.draw(0, 0)
    crops, allowed_classes, read = made(batch, 0)
    lost = torch.from_numpy(batch.image == 1)
    assert allowed_classes[lost].all()
    assert torch.equal(read, ~lost)
    assert not allowed_classes[~lost].all(1).any()
    assert torch.isfinite(crops).all()


def test_only_a_cuda_device_takes_images_and_only_what_fits(monkeypatch, pool):
    needed = 3 * 3 * 81 * 80 + CROP_BYTES
    assert needed_bytes(pool.sizes) == needed
    assert not fit_in_memory(pool.sizes, CPU)
    cuda = torch.device("cuda", 0)
    for free, fits in ((needed / SHARE + 1, True), (needed / SHARE - 100, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 1e9))
        assert fit_in_memory(pool.sizes, cuda) is fits
    assert not fit_in_memory(pool.sizes[:0], cuda)
