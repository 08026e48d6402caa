"""VOC's and ILSVRC's rules for a right detection, by hand."""

import numpy as np
import pytest

from detector.boxes import coco_from_xyxy, iou, iou_xywh, xyxy_from_voc
from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG, Judge
from detector.evaluation.protocols.rules import judge_ilsvrc, judge_voc, thresholds

OBJECT = [10.0, 10, 20, 20]
FIRST, SECOND = [0.0, 0, 10, 10], [0.0, 2, 10, 12]
both = pytest.mark.parametrize("rule", [judge_voc, judge_ilsvrc])


def judge(
    rule: Judge, boxes: list[list[float]], objects: list[list[float]], ignored: list[bool]
) -> list[int]:
    found, there = (coco_from_xyxy(np.array(one).reshape(-1, 4)) for one in (boxes, objects))
    return rule(iou_xywh(found, there), there, np.array(ignored, bool)).tolist()


@both
@pytest.mark.parametrize(
    ("boxes", "objects", "ignored", "verdicts"),
    [
        ([OBJECT], [OBJECT], [False], [RIGHT]),
        ([OBJECT, OBJECT], [OBJECT], [False], [RIGHT, WRONG]),  # the second is a duplicate
        ([[10, 10, 20, 15]], [OBJECT], [False], [RIGHT]),  # exactly one half
        ([OBJECT, OBJECT], [OBJECT], [True], [NEITHER, NEITHER]),  # difficult, never used up
        ([OBJECT], [], [], [WRONG]),
        ([], [OBJECT], [False], []),
        ([[50, 50, 60, 60]], [OBJECT], [False], [WRONG]),
    ],
)
def test_verdicts_of_both_rules(
    rule: Judge,
    boxes: list[list[float]],
    objects: list[list[float]],
    ignored: list[bool],
    verdicts: list[int],
) -> None:
    assert judge(rule, boxes, objects, ignored) == verdicts


def test_small_objects_ask_for_less_by_ilsvrcs_rule() -> None:
    # IoU 0.25 is enough at 10 x 10.
    assert judge(judge_ilsvrc, [[10, 10, 20, 12.5]], [OBJECT], [False]) == [RIGHT]
    assert judge(judge_ilsvrc, [[10, 10, 20, 12.4]], [OBJECT], [False]) == [WRONG]
    assert judge(judge_voc, [[10, 10, 20, 14.9]], [OBJECT], [False]) == [WRONG]


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
def test_the_threshold_of_an_object(width: float, height: float, expected: float) -> None:
    assert thresholds(np.array([[3, 4, width, height]])) == pytest.approx(expected)


def test_a_real_object_comes_before_an_ignored_one_by_ilsvrcs_rule() -> None:
    assert judge(judge_ilsvrc, [OBJECT], [OBJECT, OBJECT], [True, False]) == [RIGHT]


@pytest.mark.parametrize(("rule", "second"), [(judge_voc, WRONG), (judge_ilsvrc, RIGHT)])
def test_a_taken_object_stands_in_the_way_of_its_neighbour_by_vocs_rule(
    rule: Judge, second: int
) -> None:
    # Both detections overlap the first object most; the second one would also do (IoU 2/3),
    # but VOC compares a detection with its nearest object only.
    found = judge(rule, [FIRST, [0, 0.5, 10, 10.5]], [FIRST, SECOND], [False, False])
    assert found == [RIGHT, second]


def test_exclusive_ends_are_the_devkits_one_pixel() -> None:
    # Inclusive 1..10 and 6..15 share the five pixels 6..10 of fifteen: the devkit's +1.
    boxes = xyxy_from_voc(np.array([[1, 1, 10, 1], [6, 1, 15, 1]]))
    assert iou(boxes[:1], boxes[1:])[0, 0] == pytest.approx(5 / 15, abs=1e-15)
