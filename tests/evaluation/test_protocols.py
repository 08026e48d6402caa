"""Whole evaluations: by hand, and equal to the devkits' loops on random cases."""

import json
import math
from dataclasses import replace

import numpy as np
import plain_evaluation as plain
import pytest
from evaluation_cases import dataset_of, in_plain_terms, random_case

from detector.errors import EvaluationError, SettingsError
from detector.evaluation import evaluate
from detector.structures import Annotations, Detections

CAT, DOG = 0, 1


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("protocol", ["voc07", "voc12", "ilsvrc"])
def test_random_cases_equal_the_devkits_loops(protocol: str, seed: int) -> None:
    dataset, results = random_case(np.random.default_rng(seed))
    outcomes_of = plain.ilsvrc_outcomes if protocol == "ilsvrc" else plain.voc_outcomes
    average = plain.eleven_points if protocol == "voc07" else plain.area
    expected = []
    for label in range(3):
        guesses, truths = in_plain_terms(dataset, results, label)
        positives = sum(not truth.difficult for truth in truths)
        if positives:
            expected.append(average(*plain.curve(outcomes_of(guesses, truths), positives)))
        else:
            expected.append(math.nan)
    if all(map(math.isnan, expected)):
        pytest.skip("no object in this case")
    result = evaluate(dataset, results, protocol, rounds=0)  # type: ignore[arg-type]
    assert [one.ap for one in result.per_class] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert result.mean_ap == pytest.approx(np.nanmean(expected), abs=1e-12)


def two_images() -> tuple[object, dict[str, Detections]]:
    """Cats in a and b, a dog in b; one cat found, one dog found behind a false alarm."""
    truth = dataset_of(
        Annotations([[0, 0, 10, 10]], [CAT]),
        Annotations([[0, 0, 10, 10], [20, 20, 40, 40]], [CAT, DOG]),
    )
    results = {
        "a": Detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.8], [CAT, DOG]),
        "b": Detections([[20, 20, 40, 40]], [0.7], [DOG]),
    }
    return truth, results


def test_a_small_evaluation_by_hand() -> None:
    dataset, results = two_images()
    result = evaluate(dataset, results, "voc12")
    cat, dog = result.per_class
    assert (cat.ap, cat.positives, cat.detections, cat.best_recall) == (0.5, 2, 1, 0.5)
    assert (dog.ap, dog.positives, dog.detections, dog.best_recall) == (0.5, 1, 2, 1.0)
    assert dog.precision.tolist() == [0.0, 0.5]
    assert result.mean_ap == 0.5
    assert result.extras == {"images": 2, "images_with_detections": 2}


def test_a_class_without_objects_has_no_say() -> None:
    dataset = dataset_of(Annotations([[0, 0, 10, 10]], [CAT]))
    results = {"a": Detections([[0, 0, 10, 10], [0, 0, 9, 9]], [0.9, 0.9], [CAT, DOG])}
    result = evaluate(dataset, results, "voc12")
    assert result.mean_ap == 1.0
    assert math.isnan(result.per_class[DOG].ap)


def test_difficult_objects_earn_neither_reward_nor_penalty() -> None:
    truth = Annotations([[0, 0, 10, 10], [20, 0, 30, 10]], [CAT, CAT], [True, False])
    results = {"a": Detections([[0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.8], [CAT, CAT])}
    cat = evaluate(dataset_of(truth), results, "voc12").per_class[CAT]
    assert (cat.ap, cat.positives, cat.detections) == (1.0, 1, 1)


@pytest.mark.parametrize("protocol", ["voc07", "voc12", "ilsvrc", "coco"])
def test_a_class_that_is_not_annotated_in_an_image_is_not_judged_there(protocol: str) -> None:
    truth = Annotations([[0, 0, 50, 50]], [CAT])
    dataset = dataset_of(truth, truth)
    only_cats = replace(dataset.samples[0], annotated=frozenset({CAT}))
    dataset = replace(dataset, samples=(only_cats, dataset.samples[1]))
    found = Detections([[0, 0, 50, 50], [60, 60, 90, 90]], [0.5, 0.9], [CAT, DOG])
    result = evaluate(dataset, {"a": found, "b": found}, protocol)  # type: ignore[arg-type]
    assert [one.detections for one in result.per_class] == [2, 1]
    assert result.mean_ap == pytest.approx(1.0)


def test_an_object_of_a_class_that_is_not_annotated_in_its_image_does_not_count() -> None:
    truth = Annotations([[0, 0, 50, 50], [60, 60, 90, 90]], [CAT, DOG])
    dataset = dataset_of(truth, truth)
    only_cats = replace(dataset.samples[0], annotated=frozenset({CAT}))
    dataset = replace(dataset, samples=(only_cats, dataset.samples[1]))
    found = Detections([[60, 60, 90, 90]], [0.9], [DOG])
    cat, dog = evaluate(dataset, {"a": found, "b": found}, "voc12").per_class
    assert (cat.positives, cat.ap) == (2, 0.0)
    assert (dog.positives, dog.detections, dog.ap) == (1, 1, 1.0)


def test_equal_scores_keep_the_order_of_the_images() -> None:
    dataset = dataset_of(Annotations.empty(), Annotations([[0, 0, 10, 10]], [CAT]))
    found = Detections([[0, 0, 10, 10]], [0.5], [CAT])
    assert evaluate(dataset, {"b": found, "a": found}, "voc12").mean_ap == 0.5


def test_the_json_is_plain_and_has_no_nan() -> None:
    dataset = dataset_of(Annotations([[0, 0, 10, 10]], [CAT]))
    results = {"a": Detections([[0, 0, 10, 10]], [0.9], [CAT])}
    result = evaluate(dataset, results, "voc12", rounds=0)
    content = json.loads(result.to_json())
    assert list(content) == [
        "protocol", "mean_ap", "interval", "rounds", "seed", "extras", "per_class",
    ]  # fmt: skip
    assert (content["interval"], content["rounds"], content["seed"]) == (None, 0, None)
    assert content["extras"] == {"images": 1, "images_with_detections": 1}
    assert content["protocol"] == "voc12"
    assert content["mean_ap"] == 1.0
    dog = {"name": "dog", "ap": None, "interval": None, "positives": 0, "detections": 0}
    dog |= {"recall": 0.0}
    assert content["per_class"][DOG] == {**dog, "curve": [0.0] * 101}
    assert content["per_class"][CAT]["curve"] == [1.0] * 101
    assert result.to_json() == evaluate(dataset, results, "voc12", rounds=0).to_json()


def test_the_curve_falls_to_zero_beyond_the_recall_that_is_reached() -> None:
    dataset, results = two_images()
    curve = evaluate(dataset, results, "voc12").per_class[CAT].curve()
    assert curve[50] == 1.0
    assert curve[51] == 0.0


def test_the_curve_has_a_point_for_every_hundredth_of_recall() -> None:
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]
    found = Detections(boxes[:2], [0.9, 0.8], [CAT, CAT])
    curve = evaluate(dataset_of(Annotations(boxes, [CAT] * 3)), {"a": found}).per_class[CAT].curve()
    assert curve.tolist() == [1.0] * 67 + [0.0] * 34  # two thirds: up to 0.66


def test_results_of_other_images_are_refused() -> None:
    dataset, results = two_images()
    with pytest.raises(EvaluationError, match=r"1 of 3 results are of images .* 'z'"):
        evaluate(dataset, {**results, "z": Detections.empty()}, "voc12")


def test_results_with_more_classes_are_refused() -> None:
    dataset, _ = two_images()
    results = {"a": Detections([[0, 0, 5, 5]], [0.5], [2])}
    for protocol in ("voc12", "coco"):
        with pytest.raises(EvaluationError, match="has label 2, but there are 2 classes"):
            evaluate(dataset, results, protocol)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", ["voc12", "coco"])
def test_truth_without_objects_has_no_map(protocol: str) -> None:
    with pytest.raises(EvaluationError, match="none of its images has an object"):
        evaluate(dataset_of(Annotations.empty()), {}, protocol)  # type: ignore[arg-type]


def test_an_unknown_protocol_is_named_with_the_known_ones() -> None:
    dataset, results = two_images()
    with pytest.raises(SettingsError, match=r"voc10.*voc07, voc12, ilsvrc, coco"):
        evaluate(dataset, results, "voc10")  # type: ignore[arg-type]
