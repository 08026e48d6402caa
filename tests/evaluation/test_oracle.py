"""The ceiling that proposals set."""

import numpy as np
import pytest
from evaluation_cases import dataset_of, proposals_of

from detector.errors import EvaluationError
from detector.evaluation import evaluate, oracle_detections
from detector.evaluation.coverage import coverage
from detector.structures import Annotations

CAT, DOG = 0, 1


def test_each_object_gets_its_best_proposal_and_no_other() -> None:
    dataset = dataset_of(Annotations([[0, 0, 10, 10]], [DOG]))
    proposals = {"a": proposals_of([[0, 0, 10, 8], [0, 0, 10, 9], [50, 50, 60, 60]])}
    found = oracle_detections(dataset, proposals)["a"]
    assert found.boxes.tolist() == [[0, 0, 10, 9]]
    assert found.scores == pytest.approx([0.9])
    assert found.labels.tolist() == [DOG]


def test_one_region_may_stand_for_two_classes() -> None:
    truth = Annotations([[0, 0, 10, 10], [0, 0, 10, 8]], [CAT, DOG])
    found = oracle_detections(dataset_of(truth), {"a": proposals_of([[0, 0, 10, 9]])})["a"]
    assert found.labels.tolist() == [CAT, DOG]
    assert found.scores == pytest.approx([0.9, 8 / 9])


def test_oracle_map_is_the_mean_recall_over_the_classes() -> None:
    truth = Annotations(
        [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 50, 20, 80]], [CAT, CAT, CAT, DOG]
    )
    dataset = dataset_of(truth)
    proposals = {"a": proposals_of([[0, 0, 10, 9], [0, 50, 20, 80], [20, 0, 30, 10]])}
    result = evaluate(dataset, oracle_detections(dataset, proposals), "voc12")
    assert [one.ap for one in result.per_class] == pytest.approx([2 / 3, 1.0])
    assert coverage(dataset, proposals, [None]).recall(0.5).tolist() == [3 / 4]


def test_perfect_proposals_reach_one() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 50, (8, 2))
    boxes = np.concatenate([low, low + rng.integers(5, 40, (8, 2))], 1)
    dataset = dataset_of(Annotations(boxes, rng.integers(0, 2, 8)))
    found = oracle_detections(dataset, {"a": proposals_of(boxes.tolist())})
    for protocol in ("voc07", "voc12", "ilsvrc", "coco"):
        assert evaluate(dataset, found, protocol).mean_ap == pytest.approx(1.0)  # type: ignore


def test_what_no_proposal_reaches_is_not_found() -> None:
    dataset = dataset_of(Annotations([[0, 0, 10, 10]], [CAT]))
    for boxes in ([], [[0, 0, 10, 4.9]]):
        assert len(oracle_detections(dataset, {"a": proposals_of(boxes)})["a"]) == 0


def test_missing_proposals_are_named() -> None:
    dataset = dataset_of(Annotations.empty(), Annotations.empty())
    with pytest.raises(EvaluationError, match="1 of 2 images, for example 'b'"):
        oracle_detections(dataset, {"a": proposals_of([])})
