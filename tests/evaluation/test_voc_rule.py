"""VOC's rule for a right detection, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detector.boxes import coco_from_xyxy, iou, iou_xywh, xyxy_from_voc
from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG
from detector.evaluation.protocols.voc import judge_voc

OBJECT = [10.0, 10, 20, 20]


def judge(boxes: list[list[float]], objects: list[list[float]], ignored: list[bool]) -> list[int]:
    found, there = (coco_from_xyxy(np.array(one).reshape(-1, 4)) for one in (boxes, objects))
    return judge_voc(iou_xywh(found, there), there, np.array(ignored, bool)).tolist()


@pytest.mark.parametrize(
    ("boxes", "objects", "ignored", "verdicts"),
    [
        ([OBJECT], [OBJECT], [False], [RIGHT]),
        ([OBJECT, OBJECT], [OBJECT], [False], [RIGHT, WRONG]),  # the second is a duplicate
        ([[10, 10, 20, 15]], [OBJECT], [False], [RIGHT]),  # exactly one half
        ([[10, 10, 20, 14.9]], [OBJECT], [False], [WRONG]),  # just below
        ([OBJECT, OBJECT], [OBJECT], [True], [NEITHER, NEITHER]),  # difficult, never used up
        ([OBJECT], [], [], [WRONG]),
        ([], [OBJECT], [False], []),
        ([[50, 50, 60, 60]], [OBJECT], [False], [WRONG]),
    ],
)
def test_verdicts_by_hand(
    boxes: list[list[float]], objects: list[list[float]], ignored: list[bool], verdicts: list[int]
) -> None:
    assert judge(boxes, objects, ignored) == verdicts


def test_a_taken_object_stands_in_the_way_of_its_neighbour() -> None:
    # Both detections overlap the first object most; the second one would also do (IoU 2/3),
    # but VOC compares a detection with its nearest object only.
    first, second = [0.0, 0, 10, 10], [0.0, 2, 10, 12]
    assert judge([first, [0, 0.5, 10, 10.5]], [first, second], [False, False]) == [RIGHT, WRONG]


def test_exclusive_ends_are_the_devkits_one_pixel() -> None:
    # Inclusive 1..10 and 6..15 share the five pixels 6..10 of fifteen: the devkit's +1.
    boxes = xyxy_from_voc(np.array([[1, 1, 10, 1], [6, 1, 15, 1]]))
    assert iou(boxes[:1], boxes[1:])[0, 0] == pytest.approx(5 / 15, abs=1e-15)
