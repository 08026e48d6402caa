"""Coverage of objects by proposals, as a function of the number of proposals.

The measures of Uijlings et al. (IJCV 2013, section 5.1) and Hosang et al. (PAMI 2016, section 4):

    best overlap     of an object: the largest IoU that any of the first N proposals has with it
    ABO, MABO        the average best overlap of a class's objects; its mean over the classes
    recall at t      the share of all objects whose best overlap is at least t
    average recall   recall averaged over all t from 0.5 to 1

Objects marked difficult, and crowds, are not counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.boxes import iou
from detector.datasets.dataset import Dataset, Sample
from detector.errors import EvaluationError
from detector.structures import Array, Proposals

BUDGETS = (50, 100, 200, 500, 1000, 2000)
STATISTICS = ("recall_0.5", "recall_0.7", "average_recall", "mabo")


@dataclass(frozen=True, eq=False)
class Coverage:
    """Best overlaps of G objects within each of B budgets; statistics are (B,) unless said.

    classes   K names
    budgets   B numbers of boxes, increasing; None, at the end, stands for all
    overlaps  (G, B) best IoU
    labels    (G,) class of each object
    taken     (B,) mean number of boxes per image within the budget
    """

    classes: tuple[str, ...]
    budgets: tuple[int | None, ...]
    overlaps: Array
    labels: Array
    taken: Array

    def recall(self, threshold: float = 0.5) -> Array:
        """The share of objects with an overlap of at least `threshold`."""
        return np.asarray((self.overlaps >= threshold).mean(axis=0))

    def average_recall(self) -> Array:
        """Recall averaged over thresholds from 0.5 to 1."""
        # In closed form, the mean of 2 max(0, IoU - 0.5).
        return np.asarray((2 * np.clip(self.overlaps - 0.5, 0, None)).mean(axis=0))

    def abo(self) -> Array:
        """Average best overlap by class, (K, B); NaN for classes without objects."""
        total = np.zeros((len(self.classes), len(self.budgets)))
        np.add.at(total, self.labels, self.overlaps)
        count = np.bincount(self.labels, minlength=len(self.classes))[:, None]
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

    def mabo(self) -> Array:
        """Mean average best overlap over the classes that have objects."""
        return np.asarray(np.nanmean(self.abo(), axis=0))

    def summary(self) -> dict[str, Any]:
        """All statistics as plain numbers, for JSON."""
        values = (self.recall(0.5), self.recall(0.7), self.average_recall(), self.mabo())
        abo = zip(self.classes, self.abo(), strict=True)
        return {
            "budgets": list(self.budgets),
            "objects": len(self.labels),
            "boxes_per_image": self.taken.tolist(),
            **{name: one.tolist() for name, one in zip(STATISTICS, values, strict=True)},
            # JSON has no NaN.
            "abo": {name: row.tolist() for name, row in abo if np.isfinite(row).all()},
        }


def coverage(
    dataset: Dataset,
    proposals: Mapping[str, Proposals],
    budgets: Sequence[int | None] = (*BUDGETS, None),
) -> Coverage:
    """Measure proposals, by image id, on the objects of a data set. Raises EvaluationError where no
    object counts.
    """
    chosen = _checked(budgets)
    overlaps, labels, taken = [], [], np.zeros(len(chosen))
    for sample in dataset.samples:
        ranked = _proposals_of(sample, proposals, dataset.name)
        counted = sample.annotations.real
        overlaps.append(best_overlaps(ranked.boxes, sample.annotations.boxes[counted], chosen))
        labels.append(sample.annotations.labels[counted])
        taken += [len(ranked) if budget is None else min(budget, len(ranked)) for budget in chosen]
    if not sum(map(len, labels)):
        raise EvaluationError(f"{dataset.name}: {dataset.why_nothing_counts()}")
    return Coverage(
        dataset.classes,
        chosen,
        np.concatenate(overlaps),
        np.concatenate(labels),
        taken / len(dataset),
    )


def mean_summary(coverages: Sequence[Coverage]) -> dict[str, Any]:
    """The mean summary over rankings of the same boxes (seeds), with standard deviations."""
    summaries = [coverage.summary() for coverage in coverages]
    whole = dict(summaries[0])
    for name in STATISTICS:
        values = np.array([summary[name] for summary in summaries])
        whole[name] = values.mean(axis=0).tolist()
        whole[f"{name}_deviation"] = values.std(axis=0).tolist()
    whole["abo"] = {
        name: np.mean([summary["abo"][name] for summary in summaries], axis=0).tolist()
        for name in whole["abo"]
    }
    return whole


def best_overlaps(boxes: Array, objects: Array, budgets: Sequence[int | None]) -> Array:
    """The largest IoU of each object within the first boxes (N, 4) of each budget, (G, B)."""
    overlaps = np.zeros((len(boxes) + 1, len(objects)))  # row 0: no proposal at all
    overlaps[1:] = iou(boxes, objects)
    best = np.maximum.accumulate(overlaps, axis=0)  # row n: among the first n boxes
    last = len(boxes)
    return best[[last if budget is None else min(budget, last) for budget in budgets]].T


def _checked(budgets: Sequence[int | None]) -> tuple[int | None, ...]:
    numbers = [budget for budget in budgets if budget is not None]
    if not budgets or any(number < 1 for number in numbers):
        raise EvaluationError(f"budgets {list(budgets)}: expected numbers of boxes, at least 1")
    return (*sorted(set(numbers)), *([None] if None in budgets else []))


def _proposals_of(sample: Sample, proposals: Mapping[str, Proposals], name: str) -> Proposals:
    found = proposals.get(sample.image_id)
    if found is None:
        raise EvaluationError(
            f"{name}: no proposals for {sample.image_id}; make them with inception-rcnn propose run"
        )
    if sample.size is not None and found.size != sample.size:
        raise EvaluationError(
            f"{name}: {sample.image_id} is {sample.size} (H, W), its proposals are for {found.size}"
        )
    return found
