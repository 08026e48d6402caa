"""The compiled pipeline against the readable one: the same hierarchies, bit for bit."""

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from detector.proposals.selective_search import (
    SelectiveSearchSettings,
    colour,
    engine,
    plain,
    superpixels,
)
from detector.proposals.selective_search.strategies import Strategy, parse
from detector.proposals.selective_search.workspace import BufferPool, Workspace
from detector.structures import Array

STRATEGIES = (
    "HSV-30-CTSF",
    "Lab-40-TSF",
    "rgI-5-CTSF",
    "H-20-F",
    "I-5-S",
    "RGB-20-C",
    "rgb-10-T",
    "C-10-CT",
    "Lab-3-CF",
    "HSV-8-CTSF",
    "RGB-1-SF",
)


def natural(number: int) -> Array:
    """A piece of one of scikit-learn's two photographs, 36 x 48 at most, sometimes shrunk first."""
    chance = np.random.default_rng(number)
    photograph = load_sample_image(("china.jpg", "flower.jpg")[number % 2])
    step = int(chance.integers(1, 5))
    photograph = photograph[::step, ::step]
    height, width = (int(chance.integers(10, most)) for most in (36, 48))
    y = int(chance.integers(0, photograph.shape[0] - height))
    x = int(chance.integers(0, photograph.shape[1] - width))
    return np.ascontiguousarray(photograph[y : y + height, x : x + width])


def drawn(number: int) -> Array:
    """Noise, coarse noise, flat patches with ties, gradients and thin images."""
    chance = np.random.default_rng(number)
    height, width = (int(chance.integers(1, most)) for most in (20, 26))
    match number % 5:
        case 0:
            image = chance.integers(0, 256, (height, width, 3))
        case 1:
            image = chance.integers(0, 4, (height, width, 3)) * 85
        case 2:
            image = np.kron(chance.integers(0, 3, (5, 6, 3)) * 100, np.ones((4, 4, 1)))
        case 3:
            image = np.stack(
                np.broadcast_arrays(*np.ogrid[0 : 5 * height : 5, 0 : 7 * width : 7], 90), axis=-1
            )
        case _:
            image = chance.integers(100, 104, (1 + number % 3, width, 3))
    return np.ascontiguousarray(image.astype(np.uint8))


def assert_same(image: Array, *texts: str, **changes: object) -> None:
    strategies = tuple(Strategy.model_validate(parse(text)) for text in texts)
    settings = SelectiveSearchSettings(strategies=strategies, superpixel_scale=1.0, **changes)
    for found in chain(*engine.hierarchies(image, settings, threads=1, buffer_pool=BufferPool())):
        expected = plain.hierarchy(image, found.strategy, settings)
        for name, one, other in zip(expected._fields, found.hierarchy, expected, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"{name} of {found.strategy}")


@pytest.mark.parametrize("number", range(30))
def test_compiled_and_readable_agree_on_photographs(number: int) -> None:
    assert_same(natural(number), STRATEGIES[number % len(STRATEGIES)])


@pytest.mark.parametrize("number", range(30))
def test_compiled_and_readable_agree_on_drawn_images(number: int) -> None:
    assert_same(drawn(number), STRATEGIES[number * 7 % len(STRATEGIES)])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("make", [natural, drawn])
def test_what_several_k_share_is_what_each_of_them_finds(
    make: Callable[[int], Array], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In strips of so many rows, whose borders cut through components."""
    monkeypatch.setattr(superpixels, "STRIP_PIXELS", 1)
    monkeypatch.setattr(superpixels, "MIN_ROWS", rows)
    for number in range(5):
        assert_same(make(10 * rows + number), "RGB-3-S", "RGB-20-CT", "RGB-90-CT", min_size=4)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.5])
@pytest.mark.parametrize("min_size", [1, 9])
def test_they_agree_for_other_smoothing_and_sizes(sigma: float, min_size: int) -> None:
    assert_same(natural(3), "HSV-20-CTSF", sigma=sigma, min_size=min_size)


@pytest.mark.parametrize("name", colour.COLOURS)
def test_colour_conversion_agrees_on_every_corner_and_many_random_colours(name: str) -> None:
    levels = np.array([0, 1, 2, 5, 64, 127, 128, 254, 255], np.uint8)
    corners = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    random = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for image in (corners, random):
        image = np.ascontiguousarray(image)
        np.testing.assert_array_equal(
            superpixels.planes_of(image, name, Workspace()), colour.planes(image, name)
        )


@pytest.mark.slow
@pytest.mark.parametrize("text", STRATEGIES)
def test_they_agree_on_a_larger_photograph(text: str) -> None:
    photograph = np.ascontiguousarray(load_sample_image("china.jpg")[::3, ::3])
    assert_same(photograph, text)
