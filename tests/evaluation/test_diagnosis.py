"""Errors by kind, misses by reason, slices, confusions, calibration: cases done by hand, and twins
in plain loops.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_cases import dataset_of, proposals_of, random_case

from detector.boxes import iou
from detector.errors import EvaluationError
from detector.evaluation import evaluate
from detector.evaluation.diagnosis.calibration_error import (
    best_threshold,
    calibration,
    calibration_of,
)
from detector.evaluation.diagnosis.diagnosis import diagnose, worst_images
from detector.evaluation.diagnosis.errors import KINDS, NO_ERROR, error_gains, kinds_of
from detector.evaluation.diagnosis.misses import REASONS, evidence_of, region_evidence
from detector.evaluation.diagnosis.oracles import map_of
from detector.evaluation.protocols.matching import WRONG, Matching
from detector.evaluation.protocols.rules import match_voc
from detector.structures import Annotations, Detections

CAT, DOG = 0, 1
OBJECT = [0, 0, 10, 10]


def gains(matching: Matching) -> dict[str, tuple[int, float]]:
    return {one.kind: (one.number, one.gain) for one in error_gains(matching)}


@pytest.mark.parametrize("seed", range(20))
def test_the_table_has_the_mean_ap_of_the_protocol(seed: int) -> None:
    dataset, results = random_case(np.random.default_rng(seed), images=6)
    expected = evaluate(dataset, results, "voc12", rounds=0).mean_ap
    assert map_of(match_voc(dataset, results)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ([0, 0, 10, 10], DOG, "classification"),
        ([0, 0, 10, 4.9], CAT, "localisation"),  # IoU 0.49
        ([0, 0, 10, 4.9], DOG, "both"),
        ([0, 0, 10, 5], DOG, "classification"),  # IoU 0.5 itself
        ([0, 0, 10, 1], CAT, "localisation"),  # IoU 0.1 itself
        ([0, 0, 10, 1], DOG, "background"),
        ([0, 0, 10, 1.1], DOG, "both"),
        ([0, 0, 10, 0.9], CAT, "background"),  # IoU 0.09
        ([50, 50, 60, 60], CAT, "background"),
    ],
)
def test_each_false_alarm_has_its_kind(box: list[float], label: int, kind: str) -> None:
    dataset = dataset_of(Annotations([OBJECT], [CAT]))
    matching = match_voc(dataset, {"a": Detections([box], [0.9], [label])})
    assert [KINDS[one] for one in kinds_of(matching)] == [kind]


def test_a_second_detection_of_an_object_is_a_duplicate() -> None:
    dataset = dataset_of(Annotations([OBJECT], [CAT]))
    matching = match_voc(
        dataset, {"a": Detections([[0, 0, 10, 9], OBJECT], [0.9, 0.8], [CAT, CAT])}
    )
    assert kinds_of(matching).tolist() == [NO_ERROR, KINDS.index("duplicate")]


def test_what_finds_a_difficult_object_is_no_error() -> None:
    truth = Annotations([OBJECT, [50, 50, 60, 60]], [CAT, CAT], [True, False])
    matching = match_voc(dataset_of(truth), {"a": Detections([OBJECT], [0.9], [CAT])})
    assert kinds_of(matching).tolist() == [NO_ERROR]


def test_objects_are_counted_through_all_images() -> None:
    """One cat an image, and in the second a dog beside it: objects 0, 1 and 2."""
    first, second = Annotations([OBJECT], [CAT]), Annotations([OBJECT, [0, 0, 10, 8]], [CAT, DOG])
    found = {name: Detections([OBJECT], [score], [CAT]) for name, score in (("a", 0.8), ("b", 0.9))}
    matching = match_voc(dataset_of(first, second), found)
    assert matching.images.tolist() == [1, 0]  # best first
    assert (matching.own.tolist(), matching.own_iou.tolist()) == ([1, 0], [1.0, 1.0])
    assert (matching.other.tolist(), matching.other_iou.tolist()) == ([2, -1], [0.8, 0.0])
    assert matching.finder.tolist() == [1, 0, -1]
    assert matching.objects.images.tolist() == [0, 1, 1]
    assert matching.image_areas.tolist() == [10_000, 10_000]


def test_a_box_on_an_object_that_was_found_is_not_mended() -> None:
    found = Detections([OBJECT, [0, 0, 10, 4]], [0.9, 0.8], [CAT, CAT])
    known = gains(match_voc(dataset_of(Annotations([OBJECT], [CAT])), {"a": found}))
    assert known["localisation"] == (1, 0.0)


def test_gains_are_the_points_that_mending_brings() -> None:
    """Two cats; found: background first (0.9), then one cat (0.8), then the other with IoU 0.4.

    AP is 1/2 x 1/2 = 1/4. Without the background it is 1/2; with the box mended the ranks 2 and 3
    are right, precision 2/3 at recall 1: 2/3.
    """
    truth = Annotations([OBJECT, [20, 0, 30, 10]], [CAT, CAT])
    found = Detections([[50, 50, 60, 60], OBJECT, [20, 0, 30, 4]], [0.9, 0.8, 0.7], [CAT, CAT, CAT])
    matching = match_voc(dataset_of(truth), {"a": found})
    assert map_of(matching) == pytest.approx(1 / 4)
    known = gains(matching)
    assert known["background"] == (1, pytest.approx(1 / 2 - 1 / 4))
    assert known["localisation"] == (1, pytest.approx(2 / 3 - 1 / 4))
    assert known["missed"] == (0, 0.0)  # mending the box would find it
    assert known["all missed objects"] == (1, pytest.approx(1 / 2 - 1 / 4))
    assert known["all false alarms"] == (2, pytest.approx(1 / 2 - 1 / 4))


def test_a_class_mended_counts_for_the_class_it_has_in_truth() -> None:
    truth = Annotations([OBJECT, [20, 0, 30, 10]], [CAT, DOG])
    found = Detections([OBJECT, [20, 0, 30, 10]], [0.9, 0.8], [CAT, CAT])
    known = gains(match_voc(dataset_of(truth), {"a": found}))
    assert known["classification"] == (1, pytest.approx(1 / 2))  # the dogs' AP goes from 0 to 1


def test_of_two_objects_of_a_class_the_mended_one_is_half() -> None:
    truth = Annotations([OBJECT, [20, 0, 30, 10], [40, 0, 50, 10]], [CAT, DOG, DOG])
    found = Detections([OBJECT, [20, 0, 30, 10]], [0.9, 0.8], [CAT, CAT])
    known = gains(match_voc(dataset_of(truth), {"a": found}))
    assert known["classification"] == (1, pytest.approx(1 / 4))  # the dogs' AP goes from 0 to 1/2


def test_only_the_first_claim_to_an_object_is_mended() -> None:
    """Two boxes near one cat: the better is mended and right, the other goes; AP from 0 to 1."""
    found = Detections([[0, 0, 10, 3], [0, 0, 10, 4]], [0.9, 0.8], [CAT, CAT])
    known = gains(match_voc(dataset_of(Annotations([OBJECT], [CAT])), {"a": found}))
    assert known["localisation"] == (2, pytest.approx(1.0))


@pytest.mark.parametrize("seed", range(20))
def test_kinds_agree_with_a_plain_reading_and_no_mending_harms(seed: int) -> None:
    dataset, results = random_case(np.random.default_rng(seed), images=6)
    matching = match_voc(dataset, results)
    kinds = kinds_of(matching)
    for row in np.flatnonzero(matching.verdicts == WRONG):
        truth = dataset.samples[matching.images[row]].annotations
        truth = truth[~(truth.difficult | truth.crowd)]
        overlaps = iou(matching.boxes[row : row + 1], truth.boxes)[0]
        own = max(overlaps[truth.labels == matching.labels[row]], default=0.0)
        other = max(overlaps[truth.labels != matching.labels[row]], default=0.0)
        if 0.1 <= own < 0.5:
            expected = "localisation"
        elif other >= 0.5:
            expected = "classification"
        elif own >= 0.5:
            expected = "duplicate"
        elif max(own, other) <= 0.1:
            expected = "background"
        else:
            expected = "both"
        assert KINDS[kinds[row]] == expected
    assert all(gain >= -1e-12 for _, gain in gains(matching).values())


COVERED, UNCOVERED = [[0, 0, 10, 9]], [[0, 0, 10, 4]]


@pytest.mark.parametrize(
    ("regions", "scores", "found", "reason"),
    [
        (COVERED, [0.4, 0, 0.6], ([OBJECT], [0.4], [CAT]), "below threshold"),
        (UNCOVERED, [0.9, 0, 0.1], ([], [], []), "not proposed"),
        ([[0, 0, 10, 5]], [0.5, 0, 0.5], ([], [], []), "suppressed"),  # limits are within
        (COVERED, [0.9, 0, 0.1], ([], [], []), "suppressed"),
        (COVERED, [0.3, 0, 0.7], ([[0, 0, 10, 4]], [0.9], [CAT]), "badly localised"),
        (COVERED, [0.1, 0.8, 0.1], ([], [], []), "misclassified"),
        (COVERED, [0.1, 0.1, 0.8], ([], [], []), "misclassified"),  # as background
        (COVERED, [0.4, 0.3, 0.3], ([], [], []), "below threshold"),
        (None, None, ([OBJECT], [0.4], [CAT]), "below threshold"),
        (None, None, ([[0, 0, 10, 4]], [0.9], [CAT]), "badly localised"),
        (None, None, ([[0, 0, 10, 1]], [0.5], [CAT]), "badly localised"),  # limits are within
        (None, None, ([[0, 0, 10, 0.9]], [0.5], [CAT]), "unseen"),
        (None, None, ([[0, 0, 10, 5]], [0.5], [DOG]), "misclassified"),
        (None, None, ([[0, 0, 10, 4.9]], [0.5], [DOG]), "unseen"),
        (None, None, ([OBJECT], [0.9], [DOG]), "misclassified"),
        (None, None, ([], [], []), "unseen"),
    ],
)
def test_each_missed_object_has_its_reason(regions, scores, found, reason) -> None:
    dataset = dataset_of(Annotations([OBJECT], [CAT]))
    evidence = None
    if regions is not None:
        pair = (proposals_of(regions), np.array([scores]))
        evidence = evidence_of(dataset, {"a": pair})
    result = diagnose(dataset, {"a": Detections(*found)}, 0.5, evidence)
    assert [REASONS[one] for one in result.reasons] == [reason]
    assert result.misses()[reason] == 1


def test_an_image_without_any_region_has_nothing_proposed() -> None:
    dataset = dataset_of(Annotations([OBJECT], [CAT]))
    evidence = evidence_of(dataset, {"a": (proposals_of([]), np.zeros((0, 3)))})
    result = diagnose(dataset, {}, 0.5, evidence)
    assert [REASONS[one] for one in result.reasons] == ["not proposed"]


def test_an_image_without_objects_has_no_evidence() -> None:
    dataset = dataset_of(Annotations.empty(), Annotations([OBJECT], [CAT]))
    regions = (proposals_of(COVERED), np.array([[0.9, 0, 0.1]]))
    evidence = evidence_of(dataset, {"a": regions, "b": regions})
    assert [len(column) for column in evidence["a"]] == [0, 0, 0]
    assert [REASONS[one] for one in diagnose(dataset, {}, 0.5, evidence).reasons] == ["suppressed"]


def test_what_was_found_has_no_reason_and_is_not_among_the_worst() -> None:
    truth = Annotations([OBJECT], [CAT])
    found = {"a": Detections([OBJECT], [0.9], [CAT])}
    result = diagnose(dataset_of(truth, truth), found, 0.5)
    assert result.reasons.tolist() == [-1, REASONS.index("unseen")]
    assert worst_images(result, 5) == [(1, 1, 0)]


def test_the_worst_images_have_most_misses_and_false_alarms_together() -> None:
    """a: nothing wrong; b: one missed; c: one missed and two false alarms, one too weak."""
    truth = Annotations([OBJECT], [CAT])
    false = Detections(
        [[50, 50, 60, 60], [70, 50, 80, 60], [50, 70, 60, 80]], [0.9, 0.5, 0.4], [0] * 3
    )
    found = {"a": Detections([OBJECT], [0.5], [CAT]), "c": false}
    result = diagnose(dataset_of(truth, truth, truth), found, 0.5)
    assert worst_images(result, 5) == [(2, 1, 2), (1, 1, 0)]
    assert worst_images(result, 1) == [(2, 1, 2)]


def test_of_images_that_are_equally_bad_the_first_come_first() -> None:
    truth = Annotations([OBJECT], [CAT])
    missed = diagnose(dataset_of(*[truth] * 40), {}, 0.5)
    assert worst_images(missed, 40) == [(image, 1, 0) for image in range(40)]
    twice = Annotations([OBJECT, [50, 50, 70, 70]], [CAT, CAT])
    mixed = diagnose(dataset_of(*[truth, twice] * 150), {}, 0.5)
    worst = [image for image, _, _ in worst_images(mixed, 300)]
    assert worst == [*range(1, 300, 2), *range(0, 300, 2)]


def test_what_was_found_with_too_low_a_score_is_missed_in_its_image() -> None:
    dataset = dataset_of(Annotations([OBJECT], [CAT]))
    result = diagnose(dataset, {"a": Detections([OBJECT], [0.4], [CAT])}, 0.5)
    assert worst_images(result, 5) == [(0, 1, 0)]


def test_an_image_after_the_last_object_may_be_the_worst() -> None:
    dataset = dataset_of(Annotations([OBJECT], [CAT]), Annotations.empty())
    found = {"a": Detections([OBJECT], [0.9], [CAT]), "b": Detections([OBJECT], [0.9], [CAT])}
    assert worst_images(diagnose(dataset, found, 0.5), 5) == [(1, 0, 1)]


def test_perfect_stages_have_their_ceilings() -> None:
    """A cat found, a cat called dog, a cat found with IoU 0.4, one that no region covers."""
    boxes = [[x, 0, x + 10, 10] for x in (0, 20, 40, 60)]
    dataset = dataset_of(Annotations(boxes, [CAT] * 4))
    found = Detections([boxes[0], boxes[1], [40, 0, 50, 4]], [0.9, 0.8, 0.7], [CAT, DOG, CAT])
    regions = proposals_of([boxes[0], boxes[1], [40, 0, 50, 9]])
    evidence = evidence_of(dataset, {"a": (regions, np.full((3, 3), 1 / 3))})
    oracles = diagnose(dataset, {"a": found}, 0.5, evidence).oracles
    assert oracles["as measured"] == pytest.approx(1 / 4)
    assert oracles["perfect proposals"] == pytest.approx(1 / 3)
    assert oracles["perfect classes"] == pytest.approx(2 / 4)
    assert oracles["perfect boxes"] == pytest.approx(2 / 4)
    edge = Detections([[0, 0, 10, 1]], [0.9], [CAT])  # IoU 0.1 is near enough
    oracles = diagnose(dataset_of(Annotations([OBJECT], [CAT])), {"a": edge}).oracles
    assert (oracles["as measured"], oracles["perfect boxes"]) == (0.0, 1.0)


def test_slices_follow_cocos_sizes_and_the_shape() -> None:
    truth = Annotations([[0, 0, 20, 20], [0, 30, 60, 90]], [CAT, CAT])
    found = Detections([[0, 0, 20, 20], [70, 0, 75, 20]], [0.6, 0.9], [CAT, CAT])
    rows = {(s.by, s.name): s for s in diagnose(dataset_of(truth), {"a": found}, 0.5).slices}
    small, medium = rows["size", "small"], rows["size", "medium"]
    # The false alarm is small: it halves the precision of small ones and leaves the others alone.
    assert (small.objects, small.recall, small.mean_ap) == (1, 1.0, pytest.approx(0.5))
    assert (medium.objects, medium.recall, medium.mean_ap) == (1, 0.0, 0.0)
    assert rows["size", "large"].objects == 0
    assert np.isnan(rows["size", "large"].mean_ap)
    assert rows["shape", "4/5 to 5/4"].mean_ap == pytest.approx(0.5)  # both squares
    assert rows["share", "1 to 5 %"].objects == 1  # 400 of 10,000 pixels
    assert [s.name for s in rows.values() if s.by == "share"] == [
        "up to 1 %", "1 to 5 %", "5 to 25 %", "over 25 %",
    ]  # fmt: skip


def test_shares_and_shapes_have_their_edges() -> None:
    """Of 10,000 pixels: 99, 100, 499, 500, 2,499 and 2,500; then widths over heights."""
    sides = [(9, 11), (10, 10), (1, 499), (20, 25), (51, 49), (50, 50)]
    boxes = [[0, 0, wide, high] for wide, high in sides]
    rows = diagnose(dataset_of(Annotations(boxes, [CAT] * 6)), {}, 0.5).slices
    assert [s.objects for s in rows if s.by == "share"] == [1, 2, 2, 1]
    sides = [(width, 100) for width in (49, 50, 79, 80, 124, 125, 199, 200)]
    boxes = [[0, 0, wide, high] for wide, high in sides]
    rows = diagnose(dataset_of(Annotations(boxes, [CAT] * 8)), {}, 0.5).slices
    assert [s.objects for s in rows if s.by == "shape"] == [1, 2, 2, 2, 1]


def test_a_size_on_an_edge_is_in_the_larger_slice() -> None:
    truth = Annotations([[0, 0, 32, 32], [0, 0, 96, 96], [0, 0, 20, 10]], [CAT] * 3)
    found = Detections([[0, 0, 32, 32], [0, 0, 96, 96]], [0.5, 0.4], [CAT] * 2)
    rows = {(s.by, s.name): s for s in diagnose(dataset_of(truth), {"a": found}, 0.5).slices}
    assert [rows["size", name].objects for name in ("small", "medium", "large")] == [1, 1, 1]
    assert [rows["shape", name].objects for name in ("4/5 to 5/4", "2 and more")] == [2, 1]
    # Both are found; at the operating threshold of 0.5 only the first.
    assert [rows["size", name].recall for name in ("medium", "large")] == [1.0, 1.0]
    assert [rows["size", name].recall_at for name in ("medium", "large")] == [1.0, 0.0]


def test_shares_need_the_images_sizes() -> None:
    dataset = dataset_of(Annotations([OBJECT], [CAT]))
    unsized = replace(dataset, samples=(replace(dataset.samples[0], size=None),))
    assert "share" not in {s.by for s in diagnose(unsized, {}).slices}


def test_confusions_count_every_object_and_every_false_alarm_once() -> None:
    boxes = [[x, 0, x + 10, 10] for x in (0, 20, 40)]
    truth = Annotations(boxes, [CAT, CAT, DOG])
    found = Detections(
        [boxes[0], boxes[1], boxes[1], [80, 80, 90, 90], boxes[2]],
        [0.9, 0.8, 0.7, 0.6, 0.1],
        [CAT, DOG, DOG, DOG, DOG],
    )
    result = diagnose(dataset_of(truth), {"a": found}, 0.5)
    # cat right; cat taken for dog; the second such, and a box on nothing: background; dog missed
    assert result.confusion.tolist() == [[1, 1, 0], [0, 0, 1], [0, 2, 0]]


def test_a_confusion_needs_half_an_overlap_and_the_threshold() -> None:
    truth = Annotations([OBJECT, [20, 0, 30, 10]], [CAT, CAT])
    found = Detections([[0, 0, 10, 5], [20, 0, 30, 4.9]], [0.5, 0.5], [DOG, DOG])
    table = diagnose(dataset_of(truth), {"a": found}, 0.5).confusion
    assert table.tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 0]]


def test_a_false_alarm_takes_the_object_that_it_overlaps_most_in_its_own_image() -> None:
    first = Annotations([OBJECT, [0, 0, 10, 8]], [CAT, 2])
    dataset = dataset_of(first, first, classes=("cat", "dog", "cow"))
    found = {"b": Detections([[0, 0, 10, 8.5]], [0.9], [DOG])}
    table = diagnose(dataset, found, 0.5).confusion
    assert table.tolist() == [[0, 0, 0, 2], [0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    alone = dataset_of(Annotations.empty(), first, classes=("cat", "dog", "cow"))
    table = diagnose(alone, {"a": found["b"]}, 0.5).confusion
    assert table.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


def test_calibration_error_is_the_mean_gap_between_score_and_precision() -> None:
    # bin 9: two of score 0.95, one right: gap 0.45; bin 2: two of 0.25, none right: gap 0.25
    found = calibration(np.array([0.95, 0.95, 0.25, 0.25]), np.array([1, 0, 0, 0], bool))
    assert found.error == pytest.approx((2 * 0.45 + 2 * 0.25) / 4)
    assert found.number.tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0, 2]
    assert found.precision[9] == 0.5
    assert np.isnan(found.precision[0])
    assert calibration(np.ones(3), np.ones(3, bool)).error == 0.0
    assert np.isnan(calibration(np.zeros(0), np.zeros(0, bool)).error)
    # Bins that hold more weigh more: three of 0.95, one right, and one of 0.25.
    uneven = calibration(np.array([0.95, 0.95, 0.95, 0.25]), np.array([1, 0, 0, 0], bool))
    assert uneven.error == pytest.approx((3 * (0.95 - 1 / 3) + 0.25) / 4)


def test_calibration_is_of_what_is_right_or_wrong() -> None:
    """Found: the cat, nothing twice, and a difficult cat, which is neither."""
    truth = Annotations([OBJECT, [50, 50, 60, 60]], [CAT, CAT], [False, True])
    boxes = [OBJECT, [20, 20, 30, 30], [70, 70, 80, 80], [50, 50, 60, 60]]
    found = Detections(boxes, [0.95, 0.95, 0.95, 0.15], [CAT] * 4)
    judged = calibration_of(match_voc(dataset_of(truth), {"a": found}))
    assert judged.number.tolist() == [0] * 9 + [3]
    assert judged.precision[9] == pytest.approx(1 / 3)


def test_the_evidence_is_that_of_the_region_which_says_the_class_most() -> None:
    """Of two regions on the cat the second says cat by 0.6 and nothing more; the first says dog."""
    regions = proposals_of([[0, 0, 10, 9], [0, 0, 10, 8], [50, 50, 60, 60]])
    scores = np.array([[0.3, 0.6, 0.1], [0.6, 0.1, 0.3], [0.9, 0.1, 0.0]])
    one = region_evidence(Annotations([OBJECT], [CAT]), regions, scores)
    assert (one.overlap.tolist(), one.score.tolist()) == ([pytest.approx(0.9)], [0.6])
    assert one.says_own.tolist() == [True]
    other = region_evidence(Annotations([OBJECT], [DOG]), regions, scores)
    assert (other.score.tolist(), other.says_own.tolist()) == ([0.6], [True])
    none = region_evidence(Annotations([OBJECT], [CAT]), proposals_of([]), np.zeros((0, 3)))
    assert none.says_own.tolist() == [False]


def test_the_best_threshold_has_the_best_f1() -> None:
    # Ranks right, right, wrong, right of 4 objects: F1 2/5, 4/6, 4/7, 6/8.
    boxes = [[x, 0, x + 10, 10] for x in (0, 20, 40, 60)]
    found = Detections(
        [boxes[0], boxes[1], [80, 80, 90, 90], boxes[2]], [0.9, 0.8, 0.7, 0.6], [CAT] * 4
    )
    matching = match_voc(dataset_of(Annotations(boxes, [CAT] * 4)), {"a": found})
    assert best_threshold(matching) == (pytest.approx(0.6), pytest.approx(6 / 8))
    equal = Detections(found.boxes, [0.9, 0.6, 0.6, 0.6], found.labels)
    matching = match_voc(dataset_of(Annotations(boxes, [CAT] * 4)), {"a": equal})
    assert best_threshold(matching) == (pytest.approx(0.6), pytest.approx(6 / 8))
    nothing = match_voc(dataset_of(Annotations(boxes, [CAT] * 4)), {})
    assert best_threshold(nothing) == (0.5, 0.0)


def test_classes_that_an_image_does_not_annotate_are_not_judged_in_it() -> None:
    dataset = dataset_of(Annotations([OBJECT], [CAT]))
    partial = replace(dataset, samples=(replace(dataset.samples[0], annotated=frozenset([CAT])),))
    found = {"a": Detections([OBJECT, [50, 50, 60, 60]], [0.9, 0.8], [CAT, DOG])}
    assert len(match_voc(partial, found).scores) == 1


def test_a_diagnosis_is_plain_json() -> None:
    dataset, results = random_case(np.random.default_rng(1), images=6)
    content = json.loads(diagnose(dataset, results).to_json())
    assert list(content) == [
        "threshold", "best_threshold", "best_f1", "errors", "misses", "misses_with_regions",
        "oracles", "slices", "classes", "confusion", "calibration",
    ]  # fmt: skip
    kinds = [one["kind"] for one in content["errors"]]
    assert kinds == [*KINDS, "all false alarms", "all missed objects"]
    assert list(content["misses"]) == list(REASONS)
    assert not content["misses_with_regions"]
    assert len(content["confusion"]) == len(dataset.classes) + 1


def test_without_objects_there_is_nothing_to_diagnose() -> None:
    with pytest.raises(EvaluationError, match="nothing to diagnose"):
        diagnose(dataset_of(Annotations.empty()), {})
