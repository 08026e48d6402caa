"""ILSVRC's rule for a right detection, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detector.boxes import coco_from_xyxy, iou_xywh
from detector.evaluation.protocols.ilsvrc import judge_ilsvrc, thresholds
from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (10, 10, 0.25),  # 100 / 400
        (20, 10, 1 / 3),  # 200 / 600
        (1, 1, 1 / 121),
        (100, 100, 0.5),  # 10000 / 12100 is more than a half
        (25, 25, 0.5),  # 625 / 1225 = .510
        (24, 24, 576 / 1156),  # .498: the first square below a half
    ],
)
def test_small_objects_ask_for_less(width: float, height: float, expected: float) -> None:
    assert thresholds(np.array([[3, 4, width, height]])) == pytest.approx(expected)


def judge(boxes: list[list[float]], objects: list[list[float]], ignored: list[bool]) -> list[int]:
    found, there = (coco_from_xyxy(np.array(one).reshape(-1, 4)) for one in (boxes, objects))
    return judge_ilsvrc(iou_xywh(found, there), there, np.array(ignored, bool)).tolist()


SMALL = [10.0, 10, 20, 20]


@pytest.mark.parametrize(
    ("boxes", "objects", "ignored", "verdicts"),
    [
        ([[10, 10, 20, 12.5]], [SMALL], [False], [RIGHT]),  # IoU .25 is enough at 10 x 10
        ([[10, 10, 20, 12.4]], [SMALL], [False], [WRONG]),
        ([SMALL, SMALL], [SMALL], [False], [RIGHT, WRONG]),
        ([SMALL, SMALL], [SMALL], [True], [NEITHER, NEITHER]),
        ([SMALL], [SMALL, SMALL], [True, False], [RIGHT]),  # a real object comes first
        ([SMALL], [], [], [WRONG]),
        ([], [SMALL], [False], []),
    ],
)
def test_verdicts_by_hand(
    boxes: list[list[float]], objects: list[list[float]], ignored: list[bool], verdicts: list[int]
) -> None:
    assert judge(boxes, objects, ignored) == verdicts


def test_a_second_detection_may_take_the_neighbour() -> None:
    # Where VOC's rule says wrong: the nearest object is taken, the next nearest is free.
    first, second = [0.0, 0, 10, 10], [0.0, 2, 10, 12]
    assert judge([first, [0, 0.5, 10, 10.5]], [first, second], [False, False]) == [RIGHT, RIGHT]
