"""The two average precisions, by hand and against the devkit's loops."""

import numpy as np
import plain_evaluation as plain
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.evaluation.protocols.average_precision import (
    area_under_envelope,
    eleven_point,
    envelope,
    precision_recall,
)


@pytest.mark.parametrize(
    ("hits", "positives", "area", "eleven"),
    [
        ([1, 1], 2, 1.0, 1.0),  # everything found, in order
        ([0, 1], 1, 0.5, 0.5),  # one false alarm first
        ([1, 0, 1], 2, 5 / 6, (6 * 1 + 5 * 2 / 3) / 11),
        ([1], 2, 0.5, 6 / 11),  # half found: recall 0, .1, ..., .5 are reached
        ([0, 0], 3, 0.0, 0.0),
        ([], 3, 0.0, 0.0),  # silent detector
        ([1, 0, 0, 1, 1], 3, (1 + 3 / 5 + 3 / 5) / 3, (4 * 1 + 7 * 3 / 5) / 11),
    ],
)
def test_average_precision_by_hand(
    hits: list[int], positives: int, area: float, eleven: float
) -> None:
    right = np.array(hits, float)
    precision, recall = precision_recall(right, 1 - right, positives)
    assert area_under_envelope(precision, recall) == pytest.approx(area, abs=1e-12)
    assert eleven_point(precision, recall) == pytest.approx(eleven, abs=1e-12)


def test_recall_three_of_ten_reaches_the_level_of_three_tenths() -> None:
    # 3 * 0.1 is 0.30000000000000004 in floating point, and would not be reached.
    precision, recall = precision_recall(np.ones(3), np.zeros(3), 10)
    assert eleven_point(precision, recall) == pytest.approx(4 / 11, abs=1e-12)


def test_the_envelope_falls_monotonically() -> None:
    assert envelope(np.array([0.5, 0.2, 0.4, 0.1])).tolist() == [0.5, 0.4, 0.4, 0.1]


def test_a_detection_counted_twice_weighs_twice() -> None:
    precision, recall = precision_recall(np.array([2, 0]), np.array([0, 1]), 4)
    assert precision.tolist() == [1.0, 2 / 3]
    assert recall.tolist() == [0.5, 0.5]


@given(st.lists(st.sampled_from(["true", "false"]), max_size=40), st.integers(1, 30))
def test_both_rules_agree_with_the_devkits_loops(outcomes: list[str], misses: int) -> None:
    positives = outcomes.count("true") + misses - 1 or 1
    right = np.array([one == "true" for one in outcomes], float)
    precision, recall = precision_recall(right, 1 - right, positives)
    slow_recall, slow_precision = plain.curve(outcomes, positives)
    assert (
        abs(area_under_envelope(precision, recall) - plain.area(slow_recall, slow_precision))
        < 1e-12
    )
    assert (
        abs(eleven_point(precision, recall) - plain.eleven_points(slow_recall, slow_precision))
        < 1e-12
    )
