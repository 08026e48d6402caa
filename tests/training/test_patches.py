"""Patches and their batches: sizes as published, each image once an epoch, chance by position."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from detector.datasets.labelled.images import LabelledImages, labelled_images
from detector.errors import ImageError, TrainingError
from detector.structures import FILL_MEAN
from detector.training.augment import AugmentSettings
from detector.training.classifier import patch_batches
from detector.training.classifier.patch_batches import UNREADABLE, PatchBatches, Stream
from detector.training.classifier.patches import (
    METHODS,
    Patch,
    PatchSettings,
    draw_patch,
    resize_patch,
)


def test_patches_have_8_to_100_percent_of_the_area_and_aspects_of_3_to_4(rng):
    drawn = [draw_patch((100, 120), PatchSettings(), rng) for _ in range(2000)]
    area = np.array([p.width * p.height for p in drawn]) / 12000
    aspect = np.array([p.width / p.height for p in drawn])
    assert 0.075 < area.min() < 0.1
    assert 0.9 < area.max() <= 1
    assert 0.72 < aspect.min() < 0.78
    assert 1.28 < aspect.max() < 1.39
    assert all(p.x + p.width <= 120 and p.y + p.height <= 100 for p in drawn)
    corners = {(p.x == 0, p.y == 0) for p in drawn}
    assert len(corners) == 4


def test_areas_are_uniform_where_they_fit(rng):
    small = PatchSettings(min_area=0.1, max_area=0.5)
    area = [np.prod(draw_patch((1000, 1000), small, rng)[2:]) / 1e6 for _ in range(2000)]
    assert np.histogram(area, 4, (0.1, 0.5))[0].min() > 400  # of 500 in each quarter


@pytest.mark.parametrize("size", [(500, 500), (375, 500), (500, 375), (480, 640), (400, 600)])
def test_areas_are_uniform_in_photographs_of_any_shape(size):
    """To reject what does not fit had made large patches rare: a median of 0.43 for 0.54."""
    rng = np.random.default_rng(0)
    drawn = [draw_patch(size, PatchSettings(), rng) for _ in range(4000)]
    shares = np.sort([p.width * p.height / (size[0] * size[1]) for p in drawn])
    largest = min(1, 4 / 3 * min(size) / max(size))  # of 4 : 3 in the image
    wanted = np.minimum(np.linspace(0.08, 1, 4000), largest)
    assert np.abs(shares - wanted).max() < 0.03
    assert np.median(shares) == pytest.approx(0.54, abs=0.02)
    aspects = np.array([p.width / p.height for p in drawn])
    assert 0.74 < aspects.min() < 0.76
    assert 1.31 < aspects.max() < 1.35
    assert all(p.x + p.width <= size[1] and p.y + p.height <= size[0] for p in drawn)


@pytest.mark.parametrize(
    ("size", "largest"),
    [
        ((10, 1000), (13, 10)),  # 13 / 10 is as near to 4 / 3 as pixels go
        ((1000, 10), (10, 13)),
        ((1, 1), (1, 1)),
    ],
)
def test_an_image_that_no_patch_fits_gives_a_largest_one_anywhere(size, largest, rng):
    drawn = [draw_patch(size, PatchSettings(min_area=0.9), rng) for _ in range(20)]
    assert {(p.width, p.height) for p in drawn} == {largest}
    assert len(set(drawn)) > 10 or size == (1, 1)


def test_four_methods_resize_each_in_its_way():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 2:] = 200
    half = {
        method: resize_patch(image, Patch(1, 0, 2, 4), 4, method)[0, :, 0] for method in METHODS
    }
    assert half["nearest"].tolist() == [0, 0, 200, 200]
    assert half["bilinear"].tolist() == [0, 50, 150, 200]
    assert half["cubic"].tolist() != half["bilinear"].tolist()
    assert resize_patch(image, Patch(0, 0, 4, 4), 1, "area")[0, 0, 0] == 100


def test_each_epoch_of_the_stream_has_each_image_once_in_a_new_order():
    stream = Stream(7, seed=1, batch=7)
    orders = [stream.at(stream.positions(epoch)).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    across = stream.at(np.arange(5, 9)).tolist()
    assert across == orders[0][5:] + orders[1][:2]


def coloured(count: int = 6) -> LabelledImages:
    """Noise of `count` different seeds, as PNG in memory; label = number % 2."""
    files = {}
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files[f"{number}.png"] = buffer.getvalue()
    return labelled_images("x", [(str(int(f[0]) % 2), f) for f in files], files.__getitem__, [])


def batches(images: LabelledImages, **other) -> PatchBatches:
    stream = Stream(len(images), seed=3, batch=4, **other)
    return PatchBatches(images, 16, PatchSettings(), AugmentSettings(), stream)


def test_the_parts_of_two_processes_are_the_batch_of_one():
    whole = batches(coloured())(2)
    parts = [batches(coloured(), rank=rank, world_size=2)(2) for rank in (0, 1)]
    assert whole.positions.tolist() == [8, 9, 10, 11]
    for rank, part in enumerate(parts):
        assert torch.equal(part.crops, whole.crops[rank::2])
        assert torch.equal(part.labels, whole.labels[rank::2])


def test_a_batch_is_a_function_of_its_step():
    make = batches(coloured())
    later, again = make(5), batches(coloured())(5)
    assert torch.equal(later.crops, again.crops)
    assert not torch.equal(make(4).crops, later.crops)


def test_without_distortion_a_patch_is_the_images_own_pixels():
    still = AugmentSettings(flip=False, brightness=0, contrast=0, saturation=0, colour_shift=0)
    whole = PatchSettings(min_area=1, min_aspect=1.5, max_aspect=1.5, methods=("nearest",))
    images = coloured()
    make = PatchBatches(images, 30, whole, still, Stream(len(images), seed=0, batch=1))
    batch = make(0)
    with Image.open(io.BytesIO(images.read(images.files[batch.images[0]]))) as image:
        pixels = np.asarray(image)
    seen = (batch.crops[0].permute(1, 2, 0).numpy() + np.array(FILL_MEAN)) * 255
    assert np.abs(seen - pixels[(np.arange(30) * 20) // 30]).max() < 0.01


def test_without_mirroring_everything_else_about_a_patch_stays():
    made = [
        replace(batches(coloured()), augment=AugmentSettings(flip=flip))(2)
        for flip in (True, False)
    ]
    pairs = list(zip(made[0].crops, made[1].crops, strict=True))
    same, turned = (
        [torch.allclose(one.flip(turn), still, atol=1e-5) for one, still in pairs]
        for turn in ([], [2])
    )
    assert all(a != b for a, b in zip(same, turned, strict=True))
    assert any(same)
    assert any(turned)


def test_an_unreadable_image_costs_its_own_sample_and_is_named():
    good = coloured()

    def read(file: str) -> bytes:
        if file == "2.png":
            raise ImageError("2.png: gone")
        return b"junk" if file == "3.png" else good.read(file)

    spoilt = labelled_images("x", [(str(int(f[0]) % 2), f) for f in good.files], read, [])
    make, clean = batches(spoilt), batches(good)
    for step in range(3):  # two epochs
        one, other = make(step), clean(step)
        bad = np.isin([good.files[i] for i in one.images], ["2.png", "3.png"])
        assert (one.labels[bad] == UNREADABLE).all()
        assert torch.equal(one.crops[~bad], other.crops[~bad])
        assert torch.equal(one.labels[~bad], other.labels[~bad])
    assert make.broken["2.png"] == "2.png: gone"
    assert "not an image" in make.broken["3.png"]


def test_any_other_fault_of_a_worker_names_the_step_and_the_file(monkeypatch):
    def fault(*_: object) -> None:
        raise RuntimeError("out of ink")

    monkeypatch.setattr(patch_batches, "resize_patch", fault)
    with pytest.raises(TrainingError, match=r"step 1: .*\d\.png failed \(RuntimeError: out of ink"):
        batches(coloured())(1)


def test_what_replays_a_step_is_small_and_complete():
    make = batches(coloured())
    replay = make.replay(2)
    assert replay["positions"] == [8, 9, 10, 11]
    assert replay["files"] == [make.images.files[i] for i in make(2).images]
