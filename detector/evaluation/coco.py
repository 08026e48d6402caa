"""COCO's protocol by its own code, pycocotools: ten thresholds, three sizes, twelve numbers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.boxes import area, coco_from_xyxy
from detector.datasets.dataset import Dataset, Sample
from detector.errors import EvaluationError
from detector.evaluation.matching import check_results, ignorable
from detector.evaluation.result import ClassResult, Evaluation
from detector.structures import Array, Detections

# The twelve numbers in the order in which pycocotools prints them.
STATISTICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
_ALL_AREAS, _MAX_DETECTIONS, _IOU_50 = 0, 2, 0


def evaluate_coco(dataset: Dataset, results: Mapping[str, Detections]) -> Evaluation:
    """The twelve numbers, and AP per class; curves are those at IoU 0.5.

    VOC's difficult objects count as COCO's crowds do: what is found there is neither right nor
    wrong. A statistic without any object (no small ones, say) is NaN, where pycocotools says -1.
    """
    check_results(dataset, results)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints at every step
        run = _run(_truth(dataset), _found(dataset, results))
    numbers = [float(number) if number > -1 else float("nan") for number in run.stats]
    if np.isnan(numbers[0]):
        raise EvaluationError("no class has an object to be found, so there is no mAP")
    extras = dict(zip(STATISTICS, numbers, strict=True))
    extras |= {"images": len(dataset), "images_with_detections": len(results)}
    rows = tuple(
        _class_result(dataset, results, label, run) for label in range(len(dataset.classes))
    )
    return Evaluation("coco", numbers[0], rows, extras)


def _run(truth: dict[str, list[Any]], found: dict[str, list[Any]]) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    sides = []
    for content in (truth, found):
        side = COCO()
        side.dataset = content
        side.createIndex()
        sides.append(side)
    run = COCOeval(*sides, iouType="bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run


def _truth(dataset: Dataset) -> dict[str, list[Any]]:
    """The data set in COCO's layout; ids count from 1, since pycocotools takes 0 for no match."""
    objects: list[dict[str, Any]] = []
    for image, sample in enumerate(_in_coco_order(dataset), start=1):
        truth = sample.annotations
        rows = zip(
            coco_from_xyxy(truth.boxes).tolist(),
            truth.labels.tolist(),
            truth.areas.tolist(),
            ignorable(truth).tolist(),
            strict=True,
        )
        objects += [
            {
                "image_id": image,
                "category_id": label + 1,
                "bbox": box,
                "area": size,
                "iscrowd": int(c),
            }
            for box, label, size, c in rows
            if sample.is_annotated(label)
        ]
    return _in_layout(dataset, objects)


def _found(dataset: Dataset, results: Mapping[str, Detections]) -> dict[str, list[Any]]:
    objects: list[dict[str, Any]] = []
    for image, sample in enumerate(_in_coco_order(dataset), start=1):
        found = _judgeable(sample, results.get(sample.image_id))
        rows = zip(
            coco_from_xyxy(found.boxes).tolist(),
            found.labels.tolist(),
            area(found.boxes).tolist(),
            found.scores.tolist(),
            strict=True,
        )
        objects += [
            {"image_id": image, "category_id": label + 1, "bbox": box, "area": size, "score": score}
            for box, label, size, score in rows
        ]
    return _in_layout(dataset, objects)


def _in_coco_order(dataset: Dataset) -> list[Sample]:
    """By increasing id where all are numbers: pycocotools breaks ties between images that way."""
    samples = list(dataset.samples)
    if all(sample.image_id.isdecimal() for sample in samples):
        samples.sort(key=lambda sample: int(sample.image_id))
    return samples


def _judgeable(sample: Sample, found: Detections | None) -> Detections:
    """The detections of classes that are annotated in this image; the others prove nothing."""
    if found is None:
        return Detections.empty()
    if sample.annotated is None:
        return found
    return found[np.isin(found.labels, sorted(sample.annotated))]


def _in_layout(dataset: Dataset, objects: list[dict[str, Any]]) -> dict[str, list[Any]]:
    for identifier, one in enumerate(objects, start=1):
        one["id"] = identifier
    return {
        "images": [{"id": image} for image in range(1, len(dataset) + 1)],
        "categories": [{"id": label + 1} for label in range(len(dataset.classes))],
        "annotations": objects,
    }


def _class_result(
    dataset: Dataset, results: Mapping[str, Detections], label: int, run: Any
) -> ClassResult:
    """AP over the ten thresholds, and the curve at IoU 0.5 on COCO's 101 recall levels."""
    precision = run.eval["precision"][:, :, label, _ALL_AREAS, _MAX_DETECTIONS]  # (10, 101)
    there = precision > -1
    truth = [sample.annotations for sample in dataset.samples if sample.is_annotated(label)]
    positives = sum(int(((one.labels == label) & ~ignorable(one)).sum()) for one in truth)
    found = [_judgeable(sample, results.get(sample.image_id)).labels for sample in dataset.samples]
    reached: Array = there[_IOU_50] & (precision[_IOU_50] > 0)
    return ClassResult(
        name=dataset.classes[label],
        ap=float(precision[there].mean()) if there.any() else float("nan"),
        positives=positives,
        detections=sum(int((labels == label).sum()) for labels in found),
        recall=run.params.recThrs[reached],
        precision=precision[_IOU_50][reached],
        scores=run.eval["scores"][_IOU_50, reached, label, _ALL_AREAS, _MAX_DETECTIONS],
    )
