"""Bootstrap intervals: against drawing the images for real, and by their known limits."""

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_cases import dataset_of, random_case

from detector.datasets import Dataset
from detector.errors import EvaluationError, SettingsError
from detector.evaluation import Interval, compare, evaluate
from detector.evaluation.bootstrap import image_draws, interval_of, interval_of_ap, resample
from detector.evaluation.protocols.matching import match
from detector.evaluation.protocols.rules import RULES
from detector.structures import Annotations, Detections


def bootstrap_interval(
    dataset: Dataset, results: dict[str, Detections], *protocol: str, **how: int
) -> Interval:
    interval = evaluate(dataset, results, *protocol, **how).interval  # type: ignore[arg-type]
    assert interval is not None
    return interval


def resampled_means(
    dataset: Dataset, results: dict[str, Detections], protocol: str, draws: np.ndarray
) -> np.ndarray:
    judge, average = RULES[protocol]
    return resample(match(dataset, results, judge), average, draws).means


def drawn(
    dataset: Dataset, results: dict[str, Detections], times: np.ndarray
) -> tuple[Dataset, dict[str, Detections]]:
    """The data set with image i present times[i] times, under new names."""
    samples, found = [], {}
    for sample, n in zip(dataset.samples, times, strict=True):
        for copy in range(n):
            name = f"{sample.image_id}{copy}"
            samples.append(replace(sample, image_id=name))
            if sample.image_id in results:
                found[name] = results[sample.image_id]
    return replace(dataset, samples=tuple(samples)), found


@pytest.mark.parametrize("protocol", ["voc07", "voc12", "ilsvrc"])
@pytest.mark.parametrize("seed", range(10))
def test_a_round_equals_evaluating_the_images_drawn(protocol: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dataset, results = random_case(rng, images=8, ties=False)
    times = rng.multinomial(8, np.full(8, 1 / 8))
    fast = resampled_means(dataset, results, protocol, times[None])[0]
    slow = evaluate(*drawn(dataset, results, times), protocol, rounds=0).mean_ap  # type: ignore
    assert fast == pytest.approx(slow, abs=1e-12)


def test_the_interval_holds_the_estimate_and_repeats_with_its_seed() -> None:
    dataset, results = random_case(np.random.default_rng(3), images=20)
    one = bootstrap_interval(dataset, results, "voc12", seed=1, rounds=200)
    assert one.low < one.estimate < one.high
    assert one.estimate == evaluate(dataset, results, "voc12").mean_ap
    assert bootstrap_interval(dataset, results, "voc12", seed=1, rounds=200) == one
    assert bootstrap_interval(dataset, results, "voc12", seed=2, rounds=200) != one


def test_a_perfect_detector_has_no_spread() -> None:
    truth = Annotations([[0, 0, 10, 10]], [0])
    dataset = dataset_of(truth, truth, truth)
    results = {image: Detections([[0, 0, 10, 10]], [0.9], [0]) for image in "abc"}
    interval = bootstrap_interval(dataset, results, "voc12", rounds=50)
    assert (interval.low, interval.estimate, interval.high) == (1.0, 1.0, 1.0)


def test_half_of_two_images_found_gives_the_binomial_shares() -> None:
    # One object an image, found in a and missed in b: a round has AP 0, 1/2 or 1 with
    # probability 1/4, 1/2 and 1/4.
    truth = Annotations([[0, 0, 10, 10]], [0])
    dataset = dataset_of(truth, truth)
    results = {"a": Detections([[0, 0, 10, 10]], [0.9], [0])}
    draws = np.array([[2, 0], [1, 1], [0, 2]])
    assert resampled_means(dataset, results, "voc12", draws).tolist() == [1.0, 0.5, 0.0]


def test_a_detector_does_not_differ_from_itself() -> None:
    dataset, results = random_case(np.random.default_rng(5), images=10)
    same = compare(dataset, results, results, "voc12", rounds=50)
    assert (same.difference.low, same.difference.high, same.p_worse) == (0.0, 0.0, 1.0)


def test_a_better_detector_is_told_from_a_worse_one_in_pairs() -> None:
    truth = Annotations([[0, 0, 10, 10]], [0])
    dataset = dataset_of(*[truth] * 20)
    all_found = {s.image_id: Detections([[0, 0, 10, 10]], [0.9], [0]) for s in dataset.samples}
    some_found = {name: found for name, found in all_found.items() if name < "k"}
    result = compare(dataset, some_found, all_found, "voc12", rounds=200)
    assert result.difference.estimate == pytest.approx(0.5)
    assert 0 < result.difference.low < 0.5 < result.difference.high < 1
    assert result.p_worse == 0.0


def test_the_share_of_rounds_without_a_gain_is_the_binomial_one() -> None:
    # The first finds c's object, the second those of a and b. A round that draws c twice or thrice
    # is worse by a third or more: 3 x 1/9 x 2/3 + 1/27 = 7/27; any other is better by as much.
    truth = Annotations([[0, 0, 10, 10]], [0])
    found = {image: Detections([[0, 0, 10, 10]], [0.9], [0]) for image in "abc"}
    first, second = {"c": found["c"]}, {"a": found["a"], "b": found["b"]}
    result = compare(dataset_of(truth, truth, truth), first, second, "voc12", rounds=2000)
    assert result.difference.estimate == pytest.approx(1 / 3)
    assert result.p_worse == pytest.approx(7 / 27, abs=0.04)  # four standard deviations


def test_coco_has_no_interval_and_no_comparison() -> None:
    dataset, results = random_case(np.random.default_rng(0))
    assert evaluate(dataset, results, "coco").interval is None
    with pytest.raises(SettingsError, match="voc07, voc12, ilsvrc"):
        compare(dataset, results, results, "coco")


def test_a_round_without_objects_does_not_count() -> None:
    truth = Annotations([[0, 0, 10, 10]], [0])
    dataset = dataset_of(truth, Annotations.empty())
    results = {"a": Detections([[0, 0, 10, 10]], [0.9], [0])}
    draws = np.array([[0, 2], [2, 0]])
    means = resampled_means(dataset, results, "voc12", draws)
    assert means == pytest.approx([np.nan, 1.0], nan_ok=True)
    # Of single rounds, the seeds that draw image a twice or once have a mAP, the others have none.
    refused = 0
    for seed in range(12):
        try:
            bootstrap_interval(dataset, results, "voc12", seed=seed, rounds=1)
        except EvaluationError:
            refused += 1
    assert 0 < refused < 12


def test_a_round_without_objects_speaks_for_neither_detector() -> None:
    truth = Annotations([[0, 0, 10, 10]], [0])
    dataset = dataset_of(truth, Annotations.empty())
    found = {"a": Detections([[0, 0, 10, 10]], [0.9], [0])}
    assert compare(dataset, found, {}, rounds=50).p_worse == 1.0
    assert compare(dataset, {}, found, rounds=50).p_worse == 0.0
    empty_twice = next(n for n in range(12) if image_draws(2, n, 1)[0, 0] == 0)
    with pytest.raises(EvaluationError, match="no resampled set"):
        compare(dataset, found, {}, seed=empty_twice, rounds=1)


def test_a_comparison_is_plain_json() -> None:
    dataset, results = random_case(np.random.default_rng(3), images=6)
    result = compare(dataset, {}, results, "voc12", rounds=20)
    content = json.loads(result.to_json())
    assert content["first"]["estimate"] == 0.0
    assert content["difference"]["estimate"] == result.second.estimate
    assert content["second"]["confidence"] == 0.95


def test_bounds_lie_about_the_estimate_though_resampling_lifts_the_mean() -> None:
    dataset, results = random_case(np.random.default_rng(11), images=60)
    interval = bootstrap_interval(dataset, results, "voc12", seed=0, rounds=400)
    below, above = interval.estimate - interval.low, interval.high - interval.estimate
    assert 0.4 < below / above < 2.5


def test_no_rounds_and_no_objects_are_refused() -> None:
    dataset, results = random_case(np.random.default_rng(0))
    with pytest.raises(SettingsError, match="rounds is 0"):
        compare(dataset, results, results, rounds=0)
    with pytest.raises(SettingsError, match="rounds is -1"):
        bootstrap_interval(dataset, results, rounds=-1)
    with pytest.raises(EvaluationError):
        bootstrap_interval(dataset_of(Annotations.empty()), {})


def test_the_bounds_leave_a_fortieth_on_either_side() -> None:
    """Resampled 0, 0.001, ..., 1: 95 % lie from 0.025 to 0.975, about a mean of one half."""
    found = interval_of(0.7, np.append(np.arange(1001) / 1000, np.nan))
    assert (found.estimate, found.confidence) == (0.7, 0.95)
    assert (found.low, found.high) == (pytest.approx(0.225), pytest.approx(1.175))


def test_unless_told_otherwise_a_thousand_rounds_are_drawn_with_seed_0() -> None:
    dataset, results = random_case(np.random.default_rng(3), images=6)
    expected = bootstrap_interval(dataset, results, "voc12", seed=0, rounds=1000)
    assert bootstrap_interval(dataset, results) == expected
    assert compare(dataset, results, results).first == expected


def test_the_bounds_of_a_mean_ap_stay_within_0_and_1() -> None:
    assert interval_of_ap(0.99, np.array([0.7, 0.8, 0.99])).high == 1.0
    assert interval_of_ap(0.01, np.array([0.01, 0.2, 0.3])).low == 0.0


def test_each_class_has_the_interval_of_an_evaluation_of_its_own() -> None:
    dataset, results = random_case(np.random.default_rng(3), images=20)
    whole = evaluate(dataset, results, rounds=50)
    for label, one in enumerate(whole.per_class):
        of_class = [
            replace(s, annotations=s.annotations[s.annotations.labels == label])
            for s in dataset.samples
        ]
        found = {name: some[some.labels == label] for name, some in results.items()}
        alone = evaluate(replace(dataset, samples=tuple(of_class)), found, rounds=50)
        assert one.interval == alone.interval


def test_a_class_without_objects_has_no_interval() -> None:
    result = evaluate(dataset_of(Annotations([[0, 0, 10, 10]], [0])), {}, rounds=5)
    assert [one.interval is None for one in result.per_class] == [False, True]
