"""COCO's protocol by its own code, pycocotools: ten thresholds, three sizes, twelve numbers.

Here is what goes in and comes out; the programs that compute are in coco_engines.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from detector.datasets.dataset import Dataset, Sample
from detector.errors import EvaluationError
from detector.evaluation.protocols.coco_engines import (
    MAX_DETS,
    Accumulated,
    CocoEngine,
    Content,
    accumulate,
)
from detector.evaluation.protocols.matching import check_results, judgeable
from detector.evaluation.result import ClassResult, Evaluation
from detector.structures import Array, Detections

# The twelve numbers in the order in which pycocotools prints them.
STATISTICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
# Positions in pycocotools' axes: all areas, the most detections, IoU 0.5.
_ALL_AREAS, _MAX_DETECTIONS, _IOU_50 = 0, 2, 0


def evaluate_coco(
    dataset: Dataset,
    results: Mapping[str, Detections],
    engine: CocoEngine = "pycocotools",
    max_dets: int = MAX_DETS,
) -> Evaluation:
    """The twelve numbers, and AP per class; curves are those at IoU 0.5.

    max_dets  detections of a class that count in an image; with another than COCO's, AR100 is
              named by it, and the numbers are not those of COCO's tables
    VOC's difficult objects count as COCO's crowds do: what is found there is neither right nor
    wrong. A statistic without any object (no small ones, say) is NaN, where pycocotools says -1.
    """
    check_results(dataset, results)
    truth, found = _truth(dataset), _found(dataset, results)
    real = [one for one in truth["annotations"] if not one["iscrowd"]]
    positives, detections = (
        np.bincount([row["category_id"] - 1 for row in rows], minlength=len(dataset.classes))
        for rows in (real, found["annotations"])
    )
    run = accumulate(truth, found, engine, max_dets)
    numbers = [float(number) if number > -1 else float("nan") for number in run.statistics]
    if np.isnan(numbers[0]):
        raise EvaluationError("no class has an object to be found, so there is no mAP")
    names = (f"AR{max_dets}" if name == f"AR{MAX_DETS}" else name for name in STATISTICS)
    extras = dict(zip(names, numbers, strict=True))
    extras |= {"images": len(dataset), "images_with_detections": len(results)}
    if beyond := images_beyond(dataset, results, max_dets):
        extras["images_beyond_max_dets"] = beyond
    rows = tuple(
        _class_result(name, label, int(positives[label]), int(detections[label]), run)
        for label, name in enumerate(dataset.classes)
    )
    return Evaluation("coco", numbers[0], rows, extras)


def images_beyond(dataset: Dataset, results: Mapping[str, Detections], max_dets: int) -> int:
    """The number of images with more objects or detections of a class than `max_dets`."""
    none = Detections.empty()
    return sum(
        any(
            np.bincount(labels).max(initial=0) > max_dets
            for labels in (sample.annotations.labels, results.get(sample.image_id, none).labels)
        )
        for sample in dataset.samples
    )


def _truth(dataset: Dataset) -> Content:
    # Ids count from 1 everywhere, since pycocotools takes 0 for no match.
    objects: list[dict[str, Any]] = []
    for image, sample in enumerate(_in_coco_order(dataset), start=1):
        truth = sample.annotations
        columns = (truth.xywh, truth.labels, truth.areas, ~truth.real)
        objects += [
            {**_row(image, box, label, size), "iscrowd": int(ignored)}
            for box, label, size, ignored in _rows(*columns)
            if sample.is_annotated(label)
        ]
    return _in_layout(dataset, objects)


def _found(dataset: Dataset, results: Mapping[str, Detections]) -> Content:
    objects: list[dict[str, Any]] = []
    for image, sample in enumerate(_in_coco_order(dataset), start=1):
        found = judgeable(sample, results.get(sample.image_id))
        columns = (found.xywh, found.labels, found.xywh[:, 2] * found.xywh[:, 3], found.scores)
        objects += [
            {**_row(image, box, label, size), "score": score}
            for box, label, size, score in _rows(*columns)
        ]
    return _in_layout(dataset, objects)


def _rows(*columns: Array) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.tolist() for column in columns), strict=True)


def _row(image: int, box: list[float], label: int, size: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": label + 1, "bbox": box, "area": size}


def _in_coco_order(dataset: Dataset) -> list[Sample]:
    # pycocotools breaks ties between images by increasing id; only numbers have such an order.
    samples = list(dataset.samples)
    if all(sample.image_id.isdecimal() for sample in samples):
        samples.sort(key=lambda sample: int(sample.image_id))
    return samples


def _in_layout(dataset: Dataset, objects: list[dict[str, Any]]) -> Content:
    for identifier, one in enumerate(objects, start=1):
        one["id"] = identifier
    return {
        "images": [{"id": image} for image in range(1, len(dataset) + 1)],
        "categories": [
            {"id": label, "name": name} for label, name in enumerate(dataset.classes, start=1)
        ],
        "annotations": objects,
    }


def _class_result(
    name: str, label: int, positives: int, detections: int, run: Accumulated
) -> ClassResult:
    # AP is over the ten thresholds, the curve that at IoU 0.5 on COCO's 101 recall levels.
    precision = run.precision[:, :, label, _ALL_AREAS, _MAX_DETECTIONS]  # (10, 101)
    there = precision > -1
    # Beyond the last recall that was reached, pycocotools has a precision of 0.
    reached: Array = there[_IOU_50] & (precision[_IOU_50] > 0)
    return ClassResult(
        name=name,
        ap=float(precision[there].mean()) if there.any() else float("nan"),
        positives=positives,
        detections=detections,
        recall=run.recalls[reached],
        precision=precision[_IOU_50][reached],
        scores=run.scores[_IOU_50, reached, label, _ALL_AREAS, _MAX_DETECTIONS],
    )
