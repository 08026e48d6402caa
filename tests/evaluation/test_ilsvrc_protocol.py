"""ILSVRC's whole protocol: its blacklist as in the devkit's loop, and R-CNN's cap of a class."""

import math

import numpy as np
import plain_evaluation as plain
import pytest
from evaluation_cases import dataset_of, in_plain_terms, random_case

from detector.datasets.blacklist import without_blacklisted
from detector.errors import SettingsError
from detector.evaluation import evaluate
from detector.evaluation.protocols.caps import cap_per_class
from detector.structures import Annotations, Detections

CAT, DOG = 0, 1


def plain_ap(guesses: list[plain.Guess], truths: list[plain.Truth], banned: set[str]) -> float:
    """eval_detection.m skips what is detected in a blacklisted image, and takes its objects off."""
    guesses = [one for one in guesses if one.image not in banned]
    outcomes = plain.ilsvrc_outcomes(guesses, truths)
    positives = sum(not one.difficult and one.image not in banned for one in truths)
    return plain.area(*plain.curve(outcomes, positives)) if positives else math.nan


@pytest.mark.parametrize("seed", range(40))
def test_a_blacklist_has_the_effect_of_the_devkits_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dataset, results = random_case(rng)
    banned = rng.random((len(dataset), 3)) < 0.3
    names = dataset.classes
    pairs = {i + 1: {names[k] for k in np.flatnonzero(row)} for i, row in enumerate(banned)}
    expected = [
        plain_ap(
            *in_plain_terms(dataset, results, label),
            {s.image_id for s, no in zip(dataset.samples, banned[:, label], strict=True) if no},
        )
        for label in range(3)
    ]
    if all(map(math.isnan, expected)):
        pytest.skip("no object in this case")
    result = evaluate(without_blacklisted(dataset, pairs), results, "ilsvrc", rounds=0)
    assert [one.ap for one in result.per_class] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_blacklisted_class_neither_helps_nor_hurts() -> None:
    truth = Annotations([[0, 0, 50, 50]], [CAT])
    dataset = dataset_of(truth, truth)
    results = {
        "a": Detections([[0, 0, 50, 50]], [0.9], [CAT]),
        "b": Detections([[60, 60, 90, 90]], [0.95], [CAT]),  # a false alarm, and the cat missed
    }
    assert evaluate(dataset, results, "ilsvrc").mean_ap == pytest.approx(0.25)
    for protocol in ("ilsvrc", "voc12", "coco"):
        without_b = without_blacklisted(dataset, {2: {"cat"}})
        assert evaluate(without_b, results, protocol).mean_ap == pytest.approx(1.0)  # type: ignore


def many(scores: list[float], labels: list[int]) -> Detections:
    return Detections([[0, 0, 9, 9]] * len(scores), scores, labels)


def test_the_best_of_each_class_stay_over_all_images() -> None:
    results = {"a": many([0.9, 0.5, 0.1], [CAT, CAT, DOG]), "b": many([0.7, 0.6], [CAT, CAT])}
    capped = cap_per_class(results, 2)
    assert capped["a"].scores.tolist() == pytest.approx([0.9, 0.1])
    assert capped["b"].scores.tolist() == pytest.approx([0.7])


def test_what_ties_with_the_last_stays_too() -> None:
    # R-CNN keeps scores >= that of rank 30,000.
    assert len(cap_per_class({"a": many([0.9, 0.5, 0.5, 0.4], [CAT] * 4)}, 2)["a"]) == 3


def test_a_cap_that_is_not_reached_changes_nothing() -> None:
    results = {"a": many([0.2, 0.9], [DOG, CAT]), "b": Detections.empty()}
    capped = cap_per_class(results, 1)
    assert capped["a"].scores.tolist() == results["a"].scores.tolist()
    assert len(capped["b"]) == 0
    assert cap_per_class({}, 1) == {}
    assert len(cap_per_class({"a": many([], [])}, 1)["a"]) == 0
    with pytest.raises(SettingsError, match="at least 1"):
        cap_per_class({}, 0)
