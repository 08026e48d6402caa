"""Priors: where k-means puts them, how the grids are laid, and what they refuse."""

import numpy as np
import pytest

from detector.boxes import iou
from detector.errors import SettingsError
from detector.proposals.multibox.priors import (
    MIN_DEVIATION,
    Priors,
    count_on_grids,
    free_priors,
    grid_priors,
)

LEFT, RIGHT = [0.0, 0.0, 0.4, 0.4], [0.6, 0.6, 1.0, 1.0]


def some_boxes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.05, 0.4, (count, 2))], 1)


def test_two_heaps_of_boxes_give_their_two_centres():
    boxes = np.array([LEFT, [0.0, 0.0, 0.4, 0.5], RIGHT, [0.6, 0.5, 1.0, 1.0]])
    priors = free_priors(boxes, 2)
    found = priors.boxes[np.argsort(priors.boxes[:, 0])]
    expected = np.array([[0.0, 0.0, 0.4, 0.45], [0.6, 0.55, 1.0, 1.0]])
    assert found == pytest.approx(expected, abs=1e-6)


def test_identical_boxes_are_one_prior_with_the_least_deviation():
    priors = free_priors(np.array([LEFT] * 5), 1)
    assert priors.boxes[0].tolist() == pytest.approx(LEFT)
    assert priors.deviation[0].tolist() == pytest.approx([MIN_DEVIATION] * 4)


@pytest.mark.parametrize(
    ("boxes", "count", "message"),
    [
        ([], 1, "no boxes"),
        ([LEFT, LEFT, RIGHT], 3, "at most 2"),
        ([LEFT], 0, "at most 1"),
        ([[0.0, 0.0, 1.2, 1.0]], 1, r"corners in \[0, 1\]"),
        ([[0.5, 0.0, 0.5, 1.0]], 1, "x2 > x1"),
        ([[0.0, 0.0, np.nan, 1.0]], 1, "box 0"),
    ],
)
def test_what_cannot_give_priors_is_a_typed_error(boxes, count, message):
    with pytest.raises(SettingsError, match=message):
        free_priors(np.array(boxes).reshape(-1, 4), count)


def test_boxes_on_the_border_are_as_good_as_others():
    assert free_priors(np.array([[0, 0, 1, 1], LEFT]), 2).boxes.max() == 1


def test_the_published_grids_hold_1420_priors_inside_the_image():
    priors = grid_priors(some_boxes(400))
    assert len(priors) == count_on_grids((8, 6, 4, 3, 2)) == 11 * 129 + 1 == 1420
    assert priors.boxes[-1].tolist() == [0, 0, 1, 1]
    assert priors.boxes.min() >= 0
    assert priors.boxes.max() <= 1


def test_a_cell_holds_eleven_shapes_around_its_middle_and_fine_grids_the_small_ones():
    priors = grid_priors(some_boxes(100), grids=(2, 1))
    first = priors.boxes[:11]  # the upper left cell of 2 x 2, whose middle is at a quarter
    inside = (first[:, :2] > 0).all(1)
    assert inside.any()
    middle = (first[inside, :2] + first[inside, 2:]) / 2
    assert middle == pytest.approx(np.full_like(middle, 0.25), abs=1e-6)
    sides = priors.boxes[:, 2:] - priors.boxes[:, :2]
    assert sides[:11].prod(1).max() < sides[44:55].prod(1).max()


def test_more_priors_cover_boxes_better():
    boxes = some_boxes(300)
    found = [iou(boxes, free_priors(boxes, n).boxes).max(1).mean() for n in (2, 10, 50)]
    assert found[0] < found[1] < found[2] < 1


def test_the_same_seed_gives_the_same_priors():
    one, other = (free_priors(some_boxes(50), 7, seed=3) for _ in range(2))
    assert np.array_equal(one.boxes, other.boxes)
    assert np.array_equal(one.deviation, other.deviation)


@pytest.mark.parametrize(
    ("boxes", "deviation", "grids", "message"),
    [
        ([LEFT], [[0.1, 0.1, 0.1, 0.0]], (), "above 0"),
        ([LEFT], [[0.1, 0.1]], (), "deviation"),
        ([LEFT], [[0.1] * 4], (2,), "have 45 places"),
    ],
)
def test_priors_that_cannot_be_are_refused(boxes, deviation, grids, message):
    with pytest.raises(SettingsError, match=message):
        Priors(np.array(boxes), np.array(deviation), grids)
