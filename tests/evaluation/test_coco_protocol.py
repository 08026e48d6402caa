"""COCO's twelve numbers are pycocotools' own, from the very same files."""

import contextlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import dataset_of

from detector.datasets import Dataset, read_coco
from detector.evaluation import evaluate
from detector.evaluation.protocols.coco import STATISTICS
from detector.structures import Annotations, Detections


def pycocotools_statistics(truth: Path, rows: list[dict[str, object]]) -> list[float]:
    """COCO's code as its authors show it: from the original file and a list of results."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        run = COCOeval(coco, coco.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(number) for number in run.stats]


def noisy_results(dataset: Dataset, seed: int) -> dict[str, Detections]:
    """Shifted copies of the objects, some with the wrong class, and false alarms."""
    rng = np.random.default_rng(seed)
    results = {}
    for sample in dataset.samples:
        truth = sample.annotations
        copies = np.repeat(truth.boxes, 2, axis=0)
        sides = np.tile(copies[:, 2:] - copies[:, :2], 2)
        boxes = np.round(copies + rng.normal(0, 0.08, copies.shape) * sides, 2)
        false = np.round(rng.uniform(0, 200, (10, 2)), 2)
        false = np.concatenate([false, false + np.round(rng.uniform(5, 150, (10, 2)), 2)], 1)
        boxes = np.concatenate([boxes, false])
        labels = np.concatenate([np.repeat(truth.labels, 2), rng.integers(0, 80, 10)])
        wrong = rng.random(len(labels)) < 0.2
        labels = np.where(wrong, rng.integers(0, 80, len(labels)), labels)
        good = (boxes[:, 2:] - boxes[:, :2]).min(1) > 0.5
        scores = np.round(rng.random(len(labels)), 3)  # some are equal
        results[sample.image_id] = Detections(boxes[good], scores[good], labels[good])
    return results


@pytest.mark.parametrize("part", ["val2017", "train2017"])
def test_the_twelve_numbers_equal_pycocotools(shared_data: Path, part: str) -> None:
    truth = shared_data / "coco_tiny" / "annotations" / f"instances_{part}.json"
    dataset = read_coco(truth)
    results = noisy_results(dataset, seed=len(part))
    rows = [
        {
            "image_id": int(image),
            "category_id": dataset.category_ids[label],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": score,
        }
        for image, found in results.items()
        for box, score, label in zip(
            found.boxes.astype(float).tolist(),
            found.scores.astype(float).tolist(),
            found.labels.tolist(),
            strict=True,
        )
    ]
    expected = pycocotools_statistics(truth, rows)
    result = evaluate(dataset, results, "coco")
    ours = [result.extras[name] for name in STATISTICS]
    assert min(expected) > 0.02  # the case is not an empty one
    assert ours == pytest.approx(expected, abs=1e-12)
    assert result.mean_ap == ours[0]
    aps = [one.ap for one in result.per_class if not math.isnan(one.ap)]
    assert np.mean(aps) == pytest.approx(expected[0], abs=1e-12)


@pytest.mark.parametrize(("names", "ap"), [(("10", "9"), 1.0), (("10", "9a"), 0.5)])
def test_ties_go_by_the_images_numbers_where_all_have_one(
    names: tuple[str, str], ap: float
) -> None:
    """A right detection in the second image and a wrong one in the first, with equal scores."""
    dataset = dataset_of(Annotations.empty(), Annotations([[0, 0, 50, 50]], [0]))
    samples = tuple(
        replace(sample, image_id=name) for sample, name in zip(dataset.samples, names, strict=True)
    )
    found = {name: Detections([[0, 0, 50, 50]], [0.5], [0]) for name in names}
    result = evaluate(replace(dataset, samples=samples), found, "coco")
    assert result.mean_ap == pytest.approx(ap)


def test_crowds_are_ignored_and_so_are_difficult_objects() -> None:
    boxes = [[0, 0, 50, 50], [60, 0, 90, 30], [0, 60, 30, 90]]
    flags = {"crowd": [False, True, False], "difficult": [False, False, True]}
    dataset = dataset_of(Annotations(boxes, [0, 0, 0], **flags))
    found = Detections(boxes, [0.5, 0.9, 0.8], [0, 0, 0])
    result = evaluate(dataset, {"a": found}, "coco")
    assert result.mean_ap == pytest.approx(1.0)
    assert result.per_class[0].positives == 1


def test_sizes_go_by_the_outline_where_there_is_one() -> None:
    box = [[0.0, 0, 40, 40]]  # 1,600 pixels: medium; its outline of 900 is small
    found = {"a": Detections(box, [0.9], [0])}
    by_box = evaluate(dataset_of(Annotations(box, [0])), found, "coco")
    by_outline = evaluate(dataset_of(Annotations(box, [0], areas=[900.0])), found, "coco")
    assert by_box.extras["APm"] == pytest.approx(1.0)
    assert math.isnan(by_box.extras["APs"])
    assert by_outline.extras["APs"] == pytest.approx(1.0)
    assert math.isnan(by_outline.extras["APm"])


def test_overlaps_of_six_tenths_count_at_three_of_ten_thresholds() -> None:
    # IoU 0.62 passes .50, .55 and .60.
    dataset = dataset_of(Annotations([[0, 0, 100, 100]], [0]))
    result = evaluate(dataset, {"a": Detections([[0, 0, 100, 62]], [0.9], [0])}, "coco")
    assert result.mean_ap == pytest.approx(0.3)
    assert result.extras["AP50"] == pytest.approx(1.0)
    assert result.per_class[0].curve().tolist() == pytest.approx([1.0] * 101)


def test_the_curve_ends_where_recall_does() -> None:
    truth = Annotations([[0, 0, 50, 50], [50, 50, 99, 99]], [0, 0])
    found = Detections([[0, 0, 50, 50]], [0.9], [0])
    cat, dog = evaluate(dataset_of(truth), {"a": found}, "coco").per_class
    assert cat.best_recall == pytest.approx(0.5)
    assert cat.curve()[[0, 50, 51, 100]].tolist() == pytest.approx([1, 1, 0, 0])
    assert cat.scores[0] == pytest.approx(0.9)
    assert (cat.positives, cat.detections) == (2, 1)
    assert (math.isnan(dog.ap), dog.positives, dog.detections) == (True, 0, 0)


def test_a_silent_detector_scores_zero_and_nothing_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset = dataset_of(Annotations([[0, 0, 10, 10]], [0]))
    result = evaluate(dataset, {}, "coco")
    assert result.mean_ap == 0.0
    extras = json.loads(result.to_json())["extras"]
    assert extras["APl"] is None
    numbers = [
        "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
    ]  # fmt: skip
    assert list(extras) == [*numbers, "images", "images_with_detections"]
    assert capsys.readouterr() == ("", "")
