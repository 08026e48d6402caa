"""Boxes that a machine drew: which are taken, and what they count in views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from detector.datasets import Dataset, Sample
from detector.structures import Annotations, Proposals
from detector.training.augment import AugmentSettings
from detector.training.pseudo_boxes import PseudoBoxes, PseudoSettings, choose, digest
from detector.training.view_bank import FixedViews
from detector.training.view_batches import Views
from detector.training.views import View, ViewSettings, whole_view

NOBODY = np.zeros((0, 4))
FOUND = Proposals(
    [[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [20, 20, 30, 30], [40, 0, 50, 10]],
    (100, 100), [0.9, 0.8, 0.7, 0.65, 0.5],
)  # fmt: skip


def settings(**values: object) -> PseudoSettings:
    return PseudoSettings.model_validate({"from": "bundle", **values})


def test_of_what_is_found_the_sure_boxes_are_taken_once_each():
    # The second has IoU 0.8 with the first; the last is below 0.6.
    choice = choose(FOUND, NOBODY, settings())
    assert choice.boxes.tolist() == [[0, 0, 10, 10], [20, 0, 30, 10], [20, 20, 30, 30]]
    assert choice[1:] == (1, 1, 0, 0)


def test_an_iou_of_one_half_is_the_same_object_for_machines_and_people():
    halves = Proposals([[0, 0, 10, 10], [0, 0, 10, 5]], (20, 20), [0.9, 0.8])
    assert choose(halves, NOBODY, settings()).repeated == 1
    true = np.array([[0.0, 0.0, 10.0, 5.0]])
    assert choose(halves, true, settings()).true == 1
    smaller = np.array([[0.0, 0.0, 10.0, 4.9]])
    assert len(choose(halves, smaller, settings()).boxes) == 1


def test_a_true_box_drops_the_box_of_its_object_and_what_repeats_that():
    choice = choose(FOUND, np.array([[0.0, 0.0, 10.0, 10.0]]), settings())
    assert choice.boxes.tolist() == [[20, 0, 30, 10], [20, 20, 30, 30]]
    assert choice[1:] == (1, 1, 1, 0)


def test_an_image_has_no_more_than_it_may_and_nothing_is_nothing():
    choice = choose(FOUND, NOBODY, settings(min_score=0.5, per_image=2))
    assert choice.boxes.tolist() == [[0, 0, 10, 10], [20, 0, 30, 10]]
    assert choice[1:] == (0, 1, 0, 2)
    nothing = choose(FOUND, NOBODY, settings(min_score=1))
    assert (nothing.boxes.shape, nothing.weak) == ((0, 4), 5)


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
@pytest.mark.parametrize("name", ["min_score", "weight", "background"])
def test_shares_lie_between_0_and_1(name, value):
    with pytest.raises(ValidationError, match=name):
        settings(**{name: value})


def test_settings_are_written_as_they_are_read():
    one = settings(weight=0.25)
    assert one.model_dump()["from"] == "bundle"
    assert PseudoSettings.model_validate(one.model_dump()) == one


def test_the_digest_is_of_boxes_and_not_of_weights():
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    one = digest({"a": PseudoBoxes(box, 0.5, 0.0)})
    assert one == digest({"a": PseudoBoxes(box, 0.1, 0.2)})
    assert one != digest({"b": PseudoBoxes(box, 0.5, 0.0)})
    assert one != digest({"a": PseudoBoxes(box + 1, 0.5, 0.0)})


def three_images() -> Views:
    """100 pixels square: one annotated in full, one with a box more by a machine, one with only
    that. A true box without area in the image stands before the other.
    """
    outside, left = [200, 0, 250, 50], [0, 0, 50, 50]
    objects = Annotations(np.array([outside, left]), np.array([0, 0]))
    parts = [(objects, None), (objects, frozenset()), (Annotations.empty(), frozenset())]
    samples = tuple(
        Sample(str(i), Path(f"{i}.png"), (100, 100), one, annotated)
        for i, (one, annotated) in enumerate(parts)
    )
    drawn = {
        1: PseudoBoxes(np.array([[50, 50, 100, 100]]), 0.5, 0.0),
        2: PseudoBoxes(np.array([[50, 50, 100, 100]]), 0.5, 0.1),
    }
    data = Dataset("three", ("object",), samples)
    return Views(data, 64, ViewSettings(), AugmentSettings(), seed=0, pseudo=drawn)


def test_pseudo_boxes_stand_behind_the_true_ones_and_count_less():
    views = three_images()
    view = views.kept(1, 0)
    assert view.boxes.tolist() == [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]
    assert views.weights(1, view).tolist() == [1, 0.5]
    assert views.weights(0, views.kept(0, 0)).tolist() == [1]
    assert views.weights(2, views.kept(2, 1)).tolist() == [0.5]
    assert views.kept(2, 1).boxes.tolist() == [[0, 0.5, 0.5, 1]]  # mirrored


def test_a_part_that_shows_only_the_pseudo_box_has_its_weight():
    view = View(np.zeros(4), False, np.zeros((1, 4)), np.array([1]))
    assert three_images().weights(1, view).tolist() == [0.5]


def test_a_view_says_which_objects_it_shows():
    boxes = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    assert whole_view(boxes).shown.tolist() == [0, 1]
    assert whole_view(NOBODY).shown.tolist() == []


def test_absence_is_evidence_where_people_looked_and_as_little_as_is_set_where_machines_did():
    views = three_images()
    assert [views.completeness(image) for image in range(3)] == [1, 0, 0.1]


def test_kept_views_have_weights_too():
    views = three_images()
    fixed = FixedViews(views, np.array([0, 2, 0]), np.array([1, 1]), np.array([0, 1]))
    boxes, weights = fixed.weighted(1)
    assert boxes.tolist() == [[0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1]]
    assert weights.tolist() == [1, 0.5]
