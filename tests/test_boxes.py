"""Boxes: numbers one can do by hand, round trips, and torchvision as authority."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import box_iou
from torchvision.ops import nms as torchvision_nms

from detector import boxes as box_ops

corners = arrays(np.float64, (5, 4), elements=st.floats(-500, 500, width=32))


def _proper(raw: np.ndarray) -> np.ndarray:
    low, high = np.minimum(raw[:, :2], raw[:, 2:]), np.maximum(raw[:, :2], raw[:, 2:])
    return np.concatenate([low, high + 1], axis=1)


def _random(rng: np.random.Generator, n: int) -> np.ndarray:
    return _proper(rng.uniform(0, 100, (n, 4)))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1),
        ([0, 0, 10, 10], [5, 0, 15, 10], 50 / 150),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0),  # they touch
        ([0, 0, 10, 10], [2, 2, 4, 4], 4 / 100),
    ],
)
def test_iou(one, other, expected):
    assert box_ops.iou(np.array([one]), np.array([other]))[0, 0] == pytest.approx(expected)


def test_iou_agrees_with_torchvision(rng):
    one, other = _random(rng, 40), _random(rng, 30)
    theirs = box_iou(torch.from_numpy(one), torch.from_numpy(other)).numpy()
    assert np.allclose(box_ops.iou(one, other), theirs, atol=1e-12)


def test_iou_with_no_boxes_has_the_right_shape():
    assert box_ops.iou(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_nms_agrees_with_torchvision(threshold, rng):
    boxes, scores = _random(rng, 200), rng.permutation(200) / 200
    theirs = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).numpy()
    assert box_ops.nms(boxes, scores, threshold).tolist() == theirs.tolist()


def test_nms_keeps_the_first_of_equal_scores():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    assert box_ops.nms(boxes, np.array([0.5, 0.5, 0.5]), 0.3).tolist() == [0, 2]


def test_nms_keeps_boxes_at_the_threshold_itself():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]])  # IoU is exactly one half
    assert box_ops.nms(boxes, np.array([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert box_ops.nms(boxes, np.array([0.9, 0.8]), 0.49).tolist() == [0]


def test_nms_of_nothing_is_nothing():
    assert box_ops.nms(np.zeros((0, 4)), np.zeros(0), 0.3).tolist() == []


def test_voting_moves_a_box_to_the_weighted_mean_of_those_around_it():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]])
    voted = box_ops.vote(boxes[:1], boxes, np.array([0.9, 0.3, 0.9]), 0.5)
    assert voted[0] == pytest.approx([0, 0, 10, (0.9 * 10 + 0.3 * 8) / 1.2])


def test_voting_moves_each_kept_box_by_its_own_neighbours():
    """The fourth box has an IoU of exactly one half with the first, and counts."""
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [50, 50, 60, 62], [0, 0, 10, 5]])
    voted = box_ops.vote(boxes[:2], boxes, np.array([0.9, 0.5, 0.5, 0.1]), 0.5)
    assert voted.tolist() == [pytest.approx([0, 0, 10, 9.5]), pytest.approx([50, 50, 60, 61])]


def test_voting_without_any_score_leaves_the_box():
    boxes = np.array([[0, 0, 10, 10]])
    assert box_ops.vote(boxes, boxes, np.array([0.0]), 0.5).tolist() == [[0, 0, 10, 10]]


def test_clip_cuts_to_height_and_width():
    clipped = box_ops.clip(np.array([[-5, -5, 50, 50]]), (20, 30))
    assert clipped.tolist() == [[0, 0, 30, 20]]


def test_unique_keeps_the_first_of_boxes_that_round_alike():
    boxes = np.array([[0, 0, 9.8, 10], [5, 5, 8, 8], [0, 0, 10, 10.2]])
    assert box_ops.unique(boxes).tolist() == [0, 1]


def test_unique_is_told_for_no_boxes_too_and_rounds_halves_to_even():
    assert box_ops.unique(np.zeros((0, 4))).tolist() == []
    boxes = np.array([[0, 0, 10, 2.5], [0, 0, 10, 2], [0, 0, 10, 3], [0, 0, 10, 2.4]])
    assert box_ops.unique(boxes).tolist() == [0, 2]


def test_area_is_width_times_height():
    assert box_ops.area(np.array([[1, 2, 4, 7], [0, 0, 0, 9]], np.float32)).tolist() == [15, 0]


def test_boxes_without_area_overlap_nothing():
    point = np.array([[5, 5, 5, 5]])
    assert box_ops.iou(point, point).tolist() == [[0]]


def test_ilsvrc_boxes_are_zero_based_and_inclusive():
    assert box_ops.xyxy_from_ilsvrc(np.array([[0, 0, 9, 19]])).tolist() == [[0, 0, 10, 20]]
    assert box_ops.ilsvrc_from_xyxy(np.array([[0, 0, 10, 20]])).tolist() == [[0, 0, 9, 19]]


def test_mirroring_exchanges_left_and_right():
    assert box_ops.flip_horizontally(np.array([[1, 2, 4, 8]]), 10).tolist() == [[6, 2, 9, 8]]


def test_voc_boxes_are_one_based_and_inclusive():
    assert box_ops.xyxy_from_voc(np.array([[1, 1, 10, 20]])).tolist() == [[0, 0, 10, 20]]


def test_coco_boxes_are_corner_and_size():
    assert box_ops.xyxy_from_coco(np.array([[5, 6, 10, 20]])).tolist() == [[5, 6, 15, 26]]


def test_yolo_boxes_are_fractions_about_a_centre():
    found = box_ops.xyxy_from_yolo(np.array([[0.5, 0.5, 0.2, 0.5]]), (100, 200))
    assert found.tolist() == [[80, 25, 120, 75]]


@given(corners)
def test_every_convention_comes_back(raw):
    boxes = _proper(raw)
    assert np.allclose(box_ops.xyxy_from_voc(box_ops.voc_from_xyxy(boxes)), boxes)
    assert np.allclose(box_ops.xyxy_from_ilsvrc(box_ops.ilsvrc_from_xyxy(boxes)), boxes)
    assert np.allclose(box_ops.xyxy_from_coco(box_ops.coco_from_xyxy(boxes)), boxes)


@given(corners)
def test_mirroring_twice_is_no_change(raw):
    boxes = _proper(raw)
    twice = box_ops.flip_horizontally(box_ops.flip_horizontally(boxes, 640), 640)
    assert np.allclose(twice, boxes, atol=1e-3)
