"""The evaluation of detections, or of a detector, on annotated images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.datasets import VOC_CLASSES
from detector.datasets.dataset import Dataset
from detector.datasets.formats.recognise import read_dataset
from detector.errors import EvaluationError
from detector.evaluation.bootstrap import (
    ROUNDS,
    Comparison,
    compare_resampled,
    image_draws,
    interval_of_ap,
    resample,
)
from detector.evaluation.protocols.coco import evaluate_coco
from detector.evaluation.protocols.coco_engines import MAX_DETS, CocoEngine
from detector.evaluation.protocols.matching import match
from detector.evaluation.protocols.rules import (
    RULES,
    check_protocol,
    class_results,
    mean_over_classes,
)
from detector.evaluation.result import Evaluation, Protocol
from detector.progress.messages import pluralise
from detector.results.coco_json import as_saved
from detector.results.results import read_results
from detector.structures import Detections

if TYPE_CHECKING:
    from detector.detection.detector import Detector


def evaluate(
    data: Dataset | str | Path,
    detections: Mapping[str, Detections] | Detector | str | Path,
    protocol: Protocol = "voc12",
    coco_engine: CocoEngine = "pycocotools",
    max_dets: int = MAX_DETS,
    *,
    split: str | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Evaluation:
    """Judge detections against annotations by a published protocol.

    data         a data set, or where `read_dataset` finds it, with its `split`
    detections   by image id, saved (any layout), or a detector that is run on the images; a low
                 score_threshold such as the command's 0.01 gives its whole curve
    coco_engine  the program that computes COCO's numbers; both give the same
    max_dets     COCO: detections of a class that count in an image
    rounds       of the bootstrap over images, drawn with `seed`; 0 for no interval

    Raises EvaluationError where no object counts, or where detections are of other images or
    classes; SettingsError for an unknown protocol.
    """
    check_protocol(protocol)
    dataset = data if isinstance(data, Dataset) else read_dataset(data, split)
    check_objects(dataset)
    results = _results(dataset, detections)
    if protocol == "coco":
        return evaluate_coco(dataset, results, coco_engine, max_dets)
    judge, average = RULES[protocol]
    matching = match(dataset, results, judge)
    rows = class_results(matching, average)
    mean = mean_over_classes(rows)
    extras = {"images": len(dataset), "images_with_detections": len(results)}
    if rounds == 0:  # inner loops and ceilings need only the number
        return Evaluation(protocol, mean, rows, extras)
    aps, means = resample(matching, average, image_draws(len(dataset), seed, rounds))
    # A class whose few objects no round drew has an AP but no interval.
    rows = tuple(
        replace(row, interval=None if np.isnan(drawn).all() else interval_of_ap(row.ap, drawn))
        for row, drawn in zip(rows, aps.T, strict=True)
    )
    interval = interval_of_ap(mean, means)
    return Evaluation(protocol, mean, rows, extras, interval, rounds, seed)


def compare(
    dataset: Dataset,
    first: Mapping[str, Detections],
    second: Mapping[str, Detections],
    protocol: Protocol = "voc12",
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Comparison:
    """Compare two sets of results on the same resampled images."""
    check_protocol(protocol, RULES)  # COCO's protocol has no bootstrap
    judge, average = RULES[protocol]
    draws = image_draws(len(dataset), seed, rounds)
    sides = []
    for results in (first, second):
        matching = match(dataset, results, judge)
        mean = mean_over_classes(class_results(matching, average))
        sides.append((mean, resample(matching, average, draws)))
    return compare_resampled(*sides[0], *sides[1])


def check_objects(dataset: Dataset) -> None:
    """Raise EvaluationError, with the cure, where no object counts, so that there is no mAP."""
    if (why := dataset.why_nothing_counts()) is not None:
        raise EvaluationError(f"{dataset.name}: {why}; so there is no mAP")


def check_classes(classes: tuple[str, ...], dataset: Dataset) -> None:
    """Raise EvaluationError, with the option that cures it, for weights of other classes."""
    if classes == dataset.classes:
        return
    apart = sorted(set(classes) ^ set(dataset.classes))
    shown = ", ".join(apart[:3]) + (", ..." if len(apart) > 3 else "")
    cure = "no name is in both, so these weights cannot be judged on it"
    if set(classes) & set(dataset.classes):
        cure = "--classes weights judges under the list of the weights, by name"
    if classes == VOC_CLASSES:
        cure = "--classes voc judges under VOC's twenty, with COCO's names for them, too"
    raise EvaluationError(
        f"{dataset.name} has {pluralise(len(dataset.classes), 'class')}, the weights {len(classes)}"
        f" ({f'not in both: {shown}' if apart else 'in another order'}); {cure}"
    )


def _results(
    dataset: Dataset, detections: Mapping[str, Detections] | Detector | str | Path
) -> Mapping[str, Detections]:
    if isinstance(detections, Mapping):
        return detections
    if isinstance(detections, (str, Path)):
        return read_results(detections, dataset)
    check_classes(detections.classes, dataset)
    found = detections.detect_many(sample.path for sample in dataset.samples)
    ids = [sample.image_id for sample in dataset.samples]
    # As their file has them, in hundredths of a pixel: so the command gives the same numbers.
    return as_saved(dataset, dict(zip(ids, found, strict=True)))
