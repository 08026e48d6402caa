"""Values are checked where they are born and cannot be changed afterwards."""

import numpy as np
import pytest

from detector.structures import Annotations, Detections, Proposals

BOX = [[0, 0, 10, 20]]


def test_boxes_become_float32_and_read_only():
    found = Proposals(BOX, (20, 30))
    assert found.boxes.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        found.boxes[0, 0] = 5


def test_a_value_keeps_its_own_copy():
    boxes = np.array(BOX, np.float32)
    found = Proposals(boxes, (20, 30))
    boxes[0, 0] = 7
    assert found.boxes[0, 0] == 0


def test_choosing_rows_returns_the_same_type():
    found = Detections([[0, 0, 1, 1], [0, 0, 2, 2]], [0.9, 0.8], [3, 4])
    second = found[[False, True]]
    assert isinstance(second, Detections)
    assert (second.labels.tolist(), len(second)) == ([4], 1)


def test_a_loop_over_proposals_or_annotations_gives_row_after_row():
    boxes, scores = [[0, 0, 1, 1], [0, 0, 2, 2]], [0.75, 0.5]
    assert [row.scores.tolist() for row in Proposals(boxes, (5, 6), scores)] == [[0.75], [0.5]]
    assert [row.areas.tolist() for row in Annotations(boxes, [0, 1])] == [[1], [4]]
    with pytest.raises(IndexError):
        Detections(boxes, scores, [3, 4])[2]


def test_proposals_keep_size_and_scores_when_cut():
    found = Proposals([[0, 0, 1, 1], [0, 0, 2, 2]], (5, 6), [0.5, 0.25])[:1]
    assert found.size == (5, 6)
    assert found.scores is not None
    assert found.scores.tolist() == [0.5]


def test_empty_values_are_fine():
    assert len(Detections.empty()) == len(Annotations.empty()) == len(Proposals([], (1, 1))) == 0


def test_flags_default_to_false():
    truth = Annotations(BOX, [2])
    assert (truth.difficult.tolist(), truth.crowd.tolist()) == ([False], [False])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[10, 0, 10, 20]], "no area"),
        ([[0, 20, 10, 0]], "no area"),
        ([[0, 0, np.nan, 1]], "not finite"),
        ([[0, 0, np.inf, 1]], "not finite"),
        ([[0, 0, 1]], "expected"),
    ],
)
def test_impossible_boxes_are_refused(boxes, message):
    with pytest.raises(ValueError, match=message):
        Proposals(boxes, (20, 30))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Proposals(BOX, (0, 30)), "height, width"),
        (lambda: Proposals(BOX, (20, 30), [0.1, 0.2]), "scores"),
        (lambda: Proposals(BOX, (20, 30), [np.nan]), "finite"),
        (lambda: Detections(BOX, [0.5], [0, 1]), "labels"),
        (lambda: Detections(BOX, [0.5], [-1]), "negative"),
        (lambda: Detections(BOX, [np.nan], [0]), "finite"),
        (lambda: Annotations(BOX, [-1]), "negative"),
        (lambda: Annotations(BOX, [0], [True, False]), "difficult"),
    ],
)
def test_columns_that_do_not_pair_up_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
