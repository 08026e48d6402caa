"""Coverage of objects by proposals: hand-made cases, a plain twin, and COCO's own recall."""

import json
from pathlib import Path

import numpy as np
import pytest

from detector.datasets import Dataset, Sample
from detector.errors import EvaluationError
from detector.evaluation.coverage import best_overlaps, coverage, mean_summary
from detector.structures import Annotations, Proposals

SIZE = (100, 100)


def dataset(*objects: Annotations, classes: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    samples = [
        Sample(str(i), Path(f"{i}.jpg"), SIZE, annotations) for i, annotations in enumerate(objects)
    ]
    return Dataset("toy", classes, tuple(samples))


def ranked(*boxes: list[int]) -> Proposals:
    return Proposals(np.array(boxes).reshape(-1, 4), SIZE)


ONE_CAT = Annotations([[0, 0, 10, 10]], [0])


@pytest.mark.parametrize(
    ("box", "overlap"),
    [
        ([0, 0, 10, 10], 1.0),
        ([0, 0, 10, 5], 0.5),
        ([0, 0, 10, 20], 0.5),
        ([5, 0, 15, 10], 1 / 3),
        ([10, 0, 20, 10], 0.0),
    ],
)
def test_best_overlap_of_one_box_is_its_iou(box, overlap):
    found = best_overlaps(np.array([box]), np.array([[0, 0, 10, 10]]), [1])
    assert found.tolist() == [[pytest.approx(overlap)]]


def test_a_later_box_counts_only_within_a_budget_that_reaches_it():
    found = ranked([0, 0, 10, 5], [50, 50, 60, 60], [0, 0, 10, 8], [0, 0, 10, 10])
    measured = coverage(dataset(ONE_CAT), {"0": found}, [1, 2, 3, None])
    assert measured.overlaps.tolist() == [[0.5, 0.5, 0.8, 1.0]]
    assert measured.taken.tolist() == [1, 2, 3, 4]
    assert measured.recall(0.5).tolist() == [1, 1, 1, 1]
    assert measured.recall(0.7).tolist() == [0, 0, 1, 1]
    assert measured.average_recall().tolist() == pytest.approx([0, 0, 0.6, 1])


def test_mabo_is_a_mean_over_classes_and_not_over_objects():
    objects = Annotations([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 0, 1])
    found = ranked([0, 0, 10, 10], [20, 0, 30, 5], [40, 0, 50, 2])
    measured = coverage(dataset(objects), {"0": found}, [None])
    assert measured.abo().tolist() == [[pytest.approx(0.75)], [pytest.approx(0.2)]]
    assert measured.mabo().tolist() == [pytest.approx(0.475)]  # over objects: 1.7 / 3
    assert measured.recall().tolist() == [pytest.approx(2 / 3)]


def test_a_class_without_objects_is_left_out_of_the_mean():
    measured = coverage(dataset(ONE_CAT), {"0": ranked([0, 0, 10, 8])}, [None])
    assert measured.mabo().tolist() == [pytest.approx(0.8)]
    assert np.isnan(measured.abo()[1]).all()
    assert list(measured.summary()["abo"]) == ["cat"]


def test_difficult_objects_and_crowds_are_not_counted():
    objects = Annotations(
        [[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 90, 90]],
        [0, 0, 1],
        difficult=[False, True, False],
        crowd=[False, False, True],
    )
    measured = coverage(dataset(objects), {"0": ranked([0, 0, 10, 10])}, [None])
    assert len(measured.labels) == 1
    assert measured.recall().tolist() == [1.0]


def test_an_image_without_proposals_or_without_objects_is_no_obstacle():
    data = dataset(ONE_CAT, Annotations.empty())
    measured = coverage(data, {"0": ranked(), "1": ranked([0, 0, 5, 5])}, [10, None])
    assert measured.overlaps.tolist() == [[0.0, 0.0]]
    assert measured.taken.tolist() == [0.5, 0.5]


def test_budgets_are_sorted_and_all_comes_last():
    measured = coverage(dataset(ONE_CAT), {"0": ranked([0, 0, 10, 8])}, [None, 5, 1, 5])
    assert measured.budgets == (1, 5, None)
    usual = coverage(dataset(ONE_CAT), {"0": ranked([0, 0, 10, 8])})
    assert usual.budgets == (50, 100, 200, 500, 1000, 2000, None)


@pytest.mark.parametrize("budgets", [[], [0], [-3, None]])
def test_budgets_that_are_no_numbers_of_boxes_are_refused(budgets):
    with pytest.raises(EvaluationError, match="at least 1"):
        coverage(dataset(ONE_CAT), {"0": ranked([0, 0, 10, 8])}, budgets)


def test_missing_proposals_say_how_to_make_them():
    with pytest.raises(EvaluationError, match=r"inception-rcnn propose run"):
        coverage(dataset(ONE_CAT), {})


def test_proposals_of_another_image_size_are_refused():
    with pytest.raises(EvaluationError, match=r"\(100, 100\)"):
        coverage(dataset(ONE_CAT), {"0": Proposals([[0, 0, 5, 5]], (50, 100))})


def test_a_data_set_without_objects_is_refused():
    with pytest.raises(EvaluationError, match="none of its images has an object"):
        coverage(dataset(Annotations.empty()), {"0": ranked([0, 0, 5, 5])})


def test_the_summary_is_json():
    measured = coverage(dataset(ONE_CAT), {"0": ranked([0, 0, 10, 8])}, [1, None])
    whole = json.loads(json.dumps(measured.summary(), allow_nan=False))
    for least in (0.5, 0.7):
        assert whole[f"recall_{least}"] == measured.recall(least).tolist()
    assert whole["recall_0.5"] == [1.0, 1.0]
    assert whole["objects"] == 1


def plain_best_overlap(boxes: np.ndarray, wanted: np.ndarray, budget: int) -> float:
    """The plain twin: one box at a time."""
    best = 0.0
    for x1, y1, x2, y2 in boxes[:budget].tolist():
        wide = min(x2, wanted[2]) - max(x1, wanted[0])
        high = min(y2, wanted[3]) - max(y1, wanted[1])
        if wide > 0 and high > 0:
            shared = wide * high
            both = (x2 - x1) * (y2 - y1) + (wanted[2] - wanted[0]) * (wanted[3] - wanted[1])
            best = max(best, shared / (both - shared))
    return best


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.integers(0, 70, (count, 2))
    return np.hstack([corner, corner + rng.integers(1, 30, (count, 2))]).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_the_vectorised_overlaps_agree_with_the_plain_ones(seed):
    rng = np.random.default_rng(seed)
    boxes, objects = random_boxes(rng, 60), random_boxes(rng, 7)
    found = best_overlaps(boxes, objects, [1, 10, 60, 100])
    for row, wanted in zip(found, objects, strict=True):
        expected = [plain_best_overlap(boxes, wanted, budget) for budget in (1, 10, 60, 100)]
        assert row.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_average_recall_is_the_integral_of_recall(seed):
    rng = np.random.default_rng(seed)
    objects = Annotations(random_boxes(rng, 20), rng.integers(0, 2, 20))
    measured = coverage(dataset(objects), {"0": Proposals(random_boxes(rng, 400), SIZE)}, [None])
    thresholds = (np.arange(20000) + 0.5) / 40000 + 0.5
    integral = np.mean([measured.recall(t)[0] for t in thresholds])
    assert measured.average_recall()[0] == pytest.approx(integral, abs=1e-3)


def test_recall_agrees_with_cocos_own_evaluation():
    """The outside authority. COCO's matching is one to one, so objects lie apart here."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(7)
    grid = np.stack(np.meshgrid([0, 50], [0, 50]), axis=-1).reshape(-1, 2)
    truth, found = [], []
    for _ in range(6):
        corner = grid + rng.integers(0, 5, grid.shape)
        truth.append(Annotations(np.hstack([corner, corner + 30]), np.zeros(4)))
        moved = np.repeat(corner, 8, axis=0) + rng.integers(-3, 9, (32, 2))
        boxes = np.hstack([moved, moved + rng.integers(20, 40, (32, 2))]).clip(0, 99)
        found.append(Proposals(boxes[rng.permutation(32)], SIZE))
    measured = coverage(dataset(*truth), {str(i): one for i, one in enumerate(found)}, [1, 10, 100])

    annotations = [
        {"image_id": i, "category_id": 1, "bbox": [*b[:2], *(b[2:] - b[:2])], "iscrowd": 0,
         "area": float(np.prod(b[2:] - b[:2]))}
        for i, one in enumerate(truth) for b in one.boxes.astype(float)
    ]  # fmt: skip
    judge = COCO()
    judge.dataset = {
        "images": [{"id": i} for i in range(6)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{**one, "id": n} for n, one in enumerate(annotations, start=1)],
    }
    judge.createIndex()
    results = [
        {"image_id": i, "category_id": 1, "bbox": [*b[:2], *(b[2:] - b[:2])], "score": 1 - n / 100}
        for i, one in enumerate(found)
        for n, b in enumerate(one.boxes.astype(float))
    ]
    evaluation = COCOeval(judge, judge.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    for threshold, position in ((0.5, 0), (0.7, 4)):
        theirs = evaluation.eval["recall"][position, 0, 0, :]
        assert measured.recall(threshold).tolist() == pytest.approx(theirs.tolist())


def test_seeds_are_averaged_with_their_deviation():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 5]]
    runs = [
        coverage(dataset(ONE_CAT), {"0": ranked(*order)}, [1]) for order in (boxes, boxes[::-1])
    ]
    whole = mean_summary(runs)
    assert whole["mabo"] == [0.75]
    assert whole["mabo_deviation"] == [0.25]
    assert whole["abo"] == {"cat": [0.75]}
