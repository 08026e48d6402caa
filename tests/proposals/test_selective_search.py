"""Selective search from the outside: its promises for any image, settings and threads."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from detector import boxes as box_ops
from detector.errors import ImageError, SettingsError
from detector.proposals.selective_search import SelectiveSearch, SelectiveSearchSettings, Strategy
from detector.proposals.selective_search.strategies import preset
from detector.structures import Array


@pytest.fixture(scope="module")
def photograph() -> Array:
    return np.ascontiguousarray(load_sample_image("flower.jpg")[::3, ::3])


@pytest.fixture(scope="module")
def two_squares() -> Array:
    """A 100 x 120 grey field with a red and a blue square of 40 pixels."""
    image = np.full((100, 120, 3), 128, np.uint8)
    image[30:70, 10:50] = (220, 20, 20)
    image[30:70, 70:110] = (20, 20, 220)
    return image


def test_the_two_squares_are_proposed_to_the_pixel(two_squares: Array) -> None:
    boxes = SelectiveSearch(sigma=0.0)(two_squares).boxes.tolist()
    assert [10, 30, 50, 70] in boxes
    assert [70, 30, 110, 70] in boxes
    assert [0, 0, 120, 100] in boxes


def test_the_presets_are_those_of_the_paper() -> None:
    assert [str(s) for s in preset("single")] == ["HSV-100-CTSF"]
    assert [str(s) for s in preset("fast")] == [
        f"{colour}-{k}-{terms}"
        for colour in ("HSV", "Lab")
        for k in (50, 100)
        for terms in ("CTSF", "TSF")
    ]
    quality = preset("quality")
    assert len(quality) == len(set(quality)) == 80
    assert {s.colour for s in quality} == {"HSV", "Lab", "rgI", "H", "I"}
    assert {s.terms for s in quality} == {"CTSF", "TSF", "F", "S"}
    assert {s.k for s in quality} == {50, 100, 150, 300}


@pytest.mark.parametrize("which", ["fast", "quality"])
def test_threads_history_and_copies_change_nothing(photograph: Array, which: str) -> None:
    image = photograph[::2, ::2].copy()
    first = SelectiveSearch(preset=which, threads=1)(image)
    shared = SelectiveSearch(preset=which, threads=3)
    shared(photograph)
    for again in (
        shared(image),
        shared(np.asfortranarray(image)),
        SelectiveSearch(**shared.settings.model_dump(exclude_unset=True))(image),
    ):
        np.testing.assert_array_equal(again.boxes, first.boxes)


def test_a_strategy_is_ranked_the_same_in_any_company(photograph: Array) -> None:
    """The random numbers belong to the seed and the strategy, not to a stream."""
    names = ("HSV-100-CTSF", "Lab-50-TSF")
    together = SelectiveSearch(strategies=names).regions(photograph)
    alone = SelectiveSearch(strategies=names[1:]).regions(photograph)
    mine = together.rows[together.rows[:, 0] == 1, 1]
    ranks = {int(region): rank for rank, region in enumerate(alone.rows[:, 1])}
    shared = [ranks[int(region)] for region in mine if int(region) in ranks]
    assert len(shared) > 10
    assert shared == sorted(shared)


def test_seeds_change_the_order_but_not_the_set(photograph: Array) -> None:
    one, other = (SelectiveSearch(seed=seed)(photograph).boxes for seed in (0, 1))
    assert one.tolist() != other.tolist()
    assert sorted(one.tolist()) == sorted(other.tolist())


def test_boxes_are_distinct_wide_enough_inside_and_hold_the_whole_image(photograph: Array) -> None:
    found = SelectiveSearch(min_box_side=30, superpixel_scale=1.0)(photograph)
    height, width = photograph.shape[:2]
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    assert sides.min() >= 30
    assert len(box_ops.unique(found.boxes)) == len(found) > 50
    np.testing.assert_array_equal(box_ops.clip(found.boxes, (height, width)), found.boxes)
    assert [0, 0, width, height] in found.boxes.tolist()


def test_a_maximum_area_spares_only_the_whole_image(photograph: Array) -> None:
    found = SelectiveSearch(max_area_fraction=0.25)(photograph)
    whole = photograph.shape[0] * photograph.shape[1]
    areas = box_ops.area(found.boxes)
    assert (areas == whole).sum() == 1
    assert np.sort(areas)[-2] <= 0.25 * whole


@pytest.mark.parametrize("count", [1, 7, 100])
def test_the_first_boxes_are_a_prefix_that_holds_the_whole_image(
    photograph: Array, count: int
) -> None:
    everything = SelectiveSearch()(photograph).boxes.tolist()
    first = SelectiveSearch(max_boxes=count)(photograph).boxes.tolist()
    whole = [0, 0, photograph.shape[1], photograph.shape[0]]
    assert len(first) == count
    assert whole in first
    assert first[:-1] == everything[: count - 1]


def test_an_early_stop_runs_whole_colour_spaces_and_no_more(photograph: Array) -> None:
    quality = SelectiveSearch(preset="quality", stop_at=1).regions(photograph)
    assert {found.strategy.colour for found in quality.results} == {"HSV"}
    never = SelectiveSearch(preset="quality", stop_at=10_000_000)(photograph)
    np.testing.assert_array_equal(never.boxes, SelectiveSearch(preset="quality")(photograph).boxes)


def test_scores_obey_the_early_stop_and_the_most_boxes(photograph: Array) -> None:
    one_space = SelectiveSearch(preset="quality", stop_at=1)
    boxes, numbers = one_space.box_features(photograph)
    assert len(boxes) == len(numbers) == len(one_space(photograph))
    assert len(one_space.proposals_with_scores(photograph)) == len(boxes)
    every = SelectiveSearch().proposals_with_scores(photograph)
    best = SelectiveSearch(max_boxes=20).proposals_with_scores(photograph)
    assert len(best) == 20
    assert best.boxes[:19].tolist() == every.boxes[:19].tolist()  # the last is the whole image
    assert len(SelectiveSearch(max_boxes=20).box_features(photograph)[0]) >= len(every)


def test_the_early_stop_counts_what_is_found_and_not_what_is_kept(photograph: Array) -> None:
    stopped = SelectiveSearch(preset="quality", stop_at=100, max_boxes=10).regions(photograph)
    assert {found.strategy.colour for found in stopped.results} == {"HSV"}


def test_larger_superpixels_mean_fewer_boxes(photograph: Array) -> None:
    counts = [len(SelectiveSearch(superpixel_scale=s)(photograph)) for s in (1.0, 2.0, 4.0)]
    assert counts[0] > counts[1] > counts[2] > 10


def test_min_size_is_k_unless_set_and_both_are_scaled() -> None:
    strategy = Strategy(colour="HSV", k=50, terms="S")
    assert SelectiveSearchSettings(superpixel_scale=2.0).least_pixels(strategy) == 100
    assert SelectiveSearchSettings(superpixel_scale=2.0, min_size=30).least_pixels(strategy) == 60
    assert SelectiveSearchSettings(superpixel_scale=2.0).scaled_k(strategy) == 100 * 128


def test_large_images_are_searched_at_500_and_reported_in_their_own_pixels() -> None:
    image = np.full((800, 1000, 3), 90, np.uint8)
    image[200:600, 400:800] = (250, 240, 0)
    found = SelectiveSearch(sigma=0.0)(image)
    assert found.size == (800, 1000)
    assert [400, 200, 800, 600] in found.boxes.tolist()
    full = SelectiveSearch(sigma=0.0, longest_side=None)(image)
    assert [400, 200, 800, 600] in full.boxes.tolist()


def test_masks_fit_their_boxes(photograph: Array) -> None:
    found = SelectiveSearch(preset="single").regions(photograph)
    for index in range(0, len(found), 5):
        mask = found.mask(index)
        assert mask.shape == photograph.shape[:2]
        y, x = np.nonzero(mask)
        around = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert around == found.proposals.boxes[index].tolist()


def test_masks_of_shrunk_images_have_the_original_size() -> None:
    image = np.full((600, 900, 3), 90, np.uint8)
    image[150:450, 300:600] = (250, 240, 0)
    found = SelectiveSearch(sigma=0.0, longest_side=450).regions(image)
    index = found.proposals.boxes.tolist().index([300, 150, 600, 450])
    expected = (image == (250, 240, 0)).all(2)
    assert (found.mask(index) != expected).mean() < 0.01


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (2, 2), (3, 700), (40, 40)]
)
@pytest.mark.parametrize("which", ["fast", "quality"])
def test_constant_and_thin_images_give_the_whole_image(shape: tuple[int, int], which: str) -> None:
    found = SelectiveSearch(preset=which, threads=1)(np.full((*shape, 3), 77, np.uint8))
    assert found.boxes.tolist() == [[0, 0, shape[1], shape[0]]]


def test_black_white_and_grey_images_are_searched(rng: np.random.Generator) -> None:
    grey = np.repeat(rng.integers(0, 256, (60, 70, 1)), 3, axis=2).astype(np.uint8)
    for image in (grey, np.where(grey > 128, 255, 0).astype(np.uint8)):
        assert np.isfinite(SelectiveSearch(preset="quality")(image).boxes).all()


def test_views_with_strides_give_what_their_copies_give(photograph: Array) -> None:
    view = photograph[::-1, ::2]
    assert not view.flags.c_contiguous
    np.testing.assert_array_equal(
        SelectiveSearch()(view).boxes, SelectiveSearch()(view.copy()).boxes
    )


def test_the_image_is_not_written_to(photograph: Array) -> None:
    before = photograph.copy()
    photograph.setflags(write=False)
    SelectiveSearch()(photograph)
    np.testing.assert_array_equal(before, photograph)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[[1, 2, 3]]],
        None,
    ],
)
def test_anything_but_rgb_bytes_is_refused_by_name(image: object) -> None:
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8"):
        SelectiveSearch()(image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"superpixel_scale": 0}, r"superpixel_scale: .*equal to 0\.01 \(found 0\)"),
        ({"superpixel_scale": float("nan")}, "superpixel_scale"),
        ({"sigma": 11}, "sigma: .*less than or equal to 10"),
        ({"sigma": 1e-300}, r"at least 0\.01"),
        ({"max_area_fraction": 0}, "greater than 0"),
        ({"min_box_side": 0}, "equal to 1"),
        ({"seed": -1}, "equal to 0"),
        ({"longest_side": 3}, "equal to 16"),
        ({"preset": "slow"}, "'single', 'fast' or 'quality'"),
        ({"ranking": "best"}, "paper"),
        ({"strategies": ["HSV-100"]}, "COLOUR-K-TERMS"),
        ({"strategies": ["XYZ-100-C"]}, "'RGB'"),
        ({"strategies": ["HSV-0-C"]}, "greater than or equal to 1"),
        ({"strategies": ["HSV-50-FC"]}, "C\\?T\\?S\\?F"),
        ({"strategies": []}, "at least 1"),
        ({"strategies": ["HSV-50-C", "HSV-50-C"]}, "twice"),
        ({"preset": "fast", "strategies": ["HSV-50-C"]}, "not both"),
        ({"superpixels": 3}, "unknown setting superpixels; .*known: .*superpixel_scale"),
        ({"threads": 0}, "at least 1"),
        ({"threads": "two"}, "threads = two: a number"),
    ],
)
def test_settings_out_of_range_say_the_range(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        SelectiveSearch(**settings)  # type: ignore[arg-type]
