"""Crops: the fast versions agree with the plain one, nothing aliases, and the mean fills the
outside.
"""

import numpy as np
import pytest
import torch

from detector.crops import warp as crops
from detector.crops.warp import CONTEXT, FILL_MEAN, crop_batch, crop_reference, filter_weights


def _random_boxes(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Regions of every kind: inside, at the edges, and reaching far outside the image."""
    height, width = size
    corner = rng.uniform(-0.5, 1.0, (count, 2)) * [width, height]
    sides = np.exp(rng.uniform(np.log(2), np.log(2 * max(size)), (count, 2)))
    return np.concatenate([corner, corner + sides], axis=1)


@pytest.mark.parametrize("size", [16, 57, 224])
@pytest.mark.parametrize("shape", [(90, 120), (301, 77), (5, 400)])
def test_the_fast_crop_agrees_with_the_plain_one(size, shape, rng):
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    boxes = np.concatenate([_random_boxes(rng, 12, shape), [[0, 0, shape[1], shape[0]]]])
    fast = crop_batch(image, boxes, size).numpy()
    for box, crop in zip(boxes, fast, strict=True):
        assert np.abs(crop - crop_reference(image, box, size)).max() < 1 / 255 / 10


def test_the_crop_of_matrix_products_agrees_with_the_plain_one(rng):
    image = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    boxes = _random_boxes(rng, 70, (90, 120))
    dense = crops._crop_dense(image, boxes, 32, CONTEXT, torch.device("cpu")).numpy()
    for box, crop in zip(boxes, dense, strict=True):
        assert np.abs(crop - crop_reference(image, box, 32)).max() < 1 / 255 / 10


def test_regions_of_many_images_agree_with_the_plain_crop(rng, monkeypatch):
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in [(90, 120), (61, 40)]]
    stack = torch.tensor(crops.FILL_COLOUR, dtype=torch.uint8)[None, :, None, None].repeat(
        2, 1, 90, 120
    )
    for padded, one in zip(stack, images, strict=True):
        padded[:, : len(one), : one.shape[1]] = torch.from_numpy(one).permute(2, 0, 1)
    which = rng.integers(0, 2, 70)
    boxes = np.concatenate([_random_boxes(rng, 1, images[k].shape[:2]) for k in which])
    found = crops.crop_stack(stack, which, boxes, 32, context=0.2).numpy()
    for k, box, crop in zip(which, boxes, found, strict=True):
        assert np.abs(crop - crop_reference(images[k], box, 32, 0.2)).max() < 1 / 255 / 10
    monkeypatch.setattr(crops, "STACK_BYTES", 1)  # one region at a time
    alone = crops.crop_stack(stack, which, boxes, 32, context=0.2).numpy()
    assert np.allclose(alone, found, atol=1e-6)


def test_threads_do_not_change_a_bit(rng):
    image = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    boxes = _random_boxes(rng, 23, (90, 120))
    alone = crop_batch(image, boxes, 32)
    assert torch.equal(alone, crop_batch(image, boxes, 32, threads=4))


def test_a_crop_does_not_depend_on_its_neighbours(rng):
    image = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    boxes = _random_boxes(rng, 9, (90, 120))
    together = crop_batch(image, boxes, 32)
    for k in range(9):
        assert torch.equal(crop_batch(image, boxes[k : k + 1], 32)[0], together[k])


def test_a_region_of_the_crops_own_size_comes_back_unchanged(rng):
    image = rng.integers(0, 256, (227, 227, 3), dtype=np.uint8)
    crop = crop_batch(image, np.array([[16, 16, 211, 211]]), 227)[0].numpy()
    expected = (
        image.astype(np.float32).transpose(2, 0, 1) / 255 - np.array(FILL_MEAN)[:, None, None]
    )
    assert np.abs(crop - expected).max() < 1e-6


def test_outside_the_image_is_the_mean():
    white = np.full((50, 50, 3), 255, np.uint8)
    crop = crop_batch(white, np.array([[0, 0, 50, 50]]), 227)[0].numpy()
    assert np.abs(crop[:, :12]).max() == 0  # 16 pixels of context lie outside
    inside = crop[:, 20:-20, 20:-20]
    assert np.allclose(inside, (1 - np.array(FILL_MEAN))[:, None, None], atol=1e-5)


def test_a_region_wholly_outside_is_all_mean():
    crop = crop_batch(np.full((20, 20, 3), 200, np.uint8), np.array([[500, 500, 600, 580]]), 32)
    assert not crop.any()


def test_shrinking_a_2000_pixel_region_does_not_alias():
    """Against an area average: one-pixel stripes must become grey. Sampling points, as R-CNN did,
    keeps stripes.
    """
    stripes = np.zeros((2000, 2000, 3), np.uint8)
    stripes[:, ::2] = 255
    box = np.array([[0, 0, 2000, 2000]])
    crop = crop_batch(stripes, box, 224, context=0)[0].numpy()
    area = np.full((3, 224, 224), 0.5) - np.array(FILL_MEAN)[:, None, None]
    inner = slice(2, -2)
    assert np.abs(crop - area)[:, inner, inner].max() < 0.02
    points = (np.arange(224) + 0.5) * 2000 / 224 - 0.5
    low = np.floor(points).astype(int)
    bilinear = (stripes[0, low, 0] * (1 - points % 1) + stripes[0, low + 1, 0] * (points % 1)) / 255
    assert np.abs(bilinear - 0.5).max() > 0.4


def test_a_natural_pattern_keeps_close_to_the_area_filter(rng):
    smooth = rng.uniform(0, 255, (25, 25, 3)).repeat(40, 0).repeat(40, 1).astype(np.uint8)
    crop = crop_batch(smooth, np.array([[0, 0, 1000, 1000]]), 125, context=0)[0].numpy()
    area = smooth.reshape(125, 8, 125, 8, 3).mean((1, 3)).transpose(2, 0, 1) / 255
    area = area - np.array(FILL_MEAN)[:, None, None]
    error = np.abs(crop - area)[:, 1:-1, 1:-1]
    assert error.mean() < 0.04  # the triangle blurs the edges of the blocks a little more
    assert np.quantile(error, 0.3) < 1e-5  # 3 of 5 pixels each way lie wholly in one block


def test_weights_sum_to_one_inside_and_to_less_at_the_border():
    weights = filter_weights(-4.0, 2.0, 8, 12)
    assert weights.shape == (8, 12)
    assert weights[4].sum() == pytest.approx(1)
    assert weights[0].sum() < 0.3


@pytest.mark.parametrize(
    ("size", "context"), [(0, 0.1), (32, 0.5), (32, -0.1), (32, 0.4999999999999999)]
)
def test_impossible_crops_are_refused(size, context):
    with pytest.raises(ValueError, match=r"crop side|context"):
        crops.windows(np.array([[0, 0, 1, 1]]), size, context)


@pytest.mark.parametrize("far", [9e3, 1e6, 1e9, 3e38])
def test_the_work_of_a_crop_is_bounded_by_the_image_and_not_by_the_box(far, rng):
    """Of the largest, the pixels under one filter could be neither counted nor held."""
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    boxes = np.array([[-far, -far, far, far], [3, 4, 30, 35], [-far, 0, 60, 40]])
    found = crop_batch(image, boxes, 8)
    assert np.isfinite(found.numpy()).all()
    assert (found[1:2] == crop_batch(image, boxes[1:2], 8)).all()
    if far < 1e6:  # the plain one does hold them
        expected = crops.crop_reference(image, boxes[0], 8)
        assert np.abs(found[0].numpy() - expected).max() < 1e-6
