"""The verdict on a new class before it is used: AP on images left out in turn, and warnings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from detector import boxes as box_ops
from detector.datasets import Dataset
from detector.detection.detector import Detector
from detector.detection.suppression import suppress
from detector.evaluation.diagnosis.calibration_error import best_threshold
from detector.evaluation.evaluating import evaluate
from detector.evaluation.protocols.rules import match_voc
from detector.evaluation.result import Interval
from detector.heads.few_shot import FittedClass, moved_boxes
from detector.progress.messages import pluralise
from detector.structures import Array, Detections
from detector.training.heads.class_data import real_objects
from detector.training.heads.class_regions import DescribedRegions

MIN_SCORE = 0.01
# An object is reached by a proposal that overlaps it as VOC wants of a detection.
REACHED_IOU = 0.5
MIN_REACHED = 0.8
# Share of a class's objects that another class may take before a warning.
MAX_ALIKE = 0.3


@dataclass(frozen=True)
class ClassReport:
    """The verdict on a class after its fit.

    boxes, images      that it was fitted on, those of earlier fits included
    reached            share of the objects that a proposal overlaps by at least 0.5; NaN for none
    average_precision  at IoU 0.5, cross-validated on the images all of whose proposals were
                       classified, with its 95 % interval over images; None without such images
    threshold          the score with the best F1 there, or None
    warnings           sentences: where it will not work well, and the cure
    """

    name: str
    boxes: int
    images: int
    reached: float
    average_precision: Interval | None
    threshold: float | None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.name}: {pluralise(self.boxes, 'box')} in {pluralise(self.images, 'image')}"
        if self.average_precision is not None:
            ap = self.average_precision
            text += (
                f"; AP {100 * ap.estimate:.0f} ({100 * ap.low:.0f} to {100 * ap.high:.0f})"
                " on images left out in turn"
            )
        if self.threshold is not None:
            text += f"; best threshold {self.threshold:g}"
        return text


def report_on(
    images: Sequence[DescribedRegions], classes: Sequence[str], label: int,
    fitted: Sequence[FittedClass], detector: Detector, earlier: tuple[int, int] = (0, 0),
) -> ClassReport:  # fmt: skip
    """Cross-validate a class, and look for what speaks against it.

    fitted   of all classes of this fit
    earlier  boxes and images of earlier fits
    """
    having = [image for image in images if real_objects(image.plan.sample, label)]
    objects = sum(real_objects(image.plan.sample, label) for image in having)
    reached = _reached(having, label)
    estimate, threshold = _cross_validated(images, classes[label], label, fitted[label], detector)
    warnings = _look_alikes(having, classes, label, fitted, detector)
    if reached < MIN_REACHED:
        warnings.insert(
            0,
            f"proposals reach only {reached:.0%} of the objects of {classes[label]}: more of them"
            " (--set max_proposals=1000), or photographs taken from nearer, may help",
        )
    return ClassReport(
        classes[label], objects + earlier[0], len(having) + earlier[1], reached, estimate,
        threshold, tuple(warnings),
    )  # fmt: skip


def _reached(images: Sequence[DescribedRegions], label: int) -> float:
    covered = [np.zeros(0, bool)]
    for image in images:
        truth = image.plan.sample.annotations
        objects = truth.boxes[truth.real & (truth.labels == label)]
        overlap = box_ops.iou(objects, image.plan.proposals.boxes)
        covered.append(overlap.max(1, initial=0) >= REACHED_IOU)
    every = np.concatenate(covered)
    return float(every.mean()) if len(every) else math.nan


def _cross_validated(
    images: Sequence[DescribedRegions], name: str, label: int, fitted: FittedClass,
    detector: Detector,
) -> tuple[Interval | None, float | None]:  # fmt: skip
    """The AP of a class on whole images, each by a head that has not seen it, and a threshold."""
    settings = detector.settings.model_copy(update={"score_threshold": MIN_SCORE})
    results: dict[str, Detections] = {}
    samples = []
    for number, image in enumerate(images):
        head = fitted.folds[number % len(fitted.folds)]
        if image.plan.whole and head is not None and image.plan.sample.is_annotated(label):
            scores = head.scores(image.background)
            columns = np.concatenate([scores, 1 - scores], 1)
            proposals = image.plan.proposals
            moved = moved_boxes(head, proposals.boxes, image.background, proposals.size)
            found = suppress(moved, columns, settings)
            truth = image.plan.sample.annotations
            mine = truth[truth.labels == label]
            mine = replace(mine, labels=np.zeros_like(mine.labels))
            sample = replace(
                image.plan.sample, annotations=mine, annotated=None, size=image.plan.proposals.size
            )
            results[sample.image_id] = found
            samples.append(sample)
    dataset = Dataset("images left out", (name,), tuple(samples))
    if dataset.why_nothing_counts():
        return None, None
    (row,) = evaluate(dataset, results).per_class
    threshold, f1 = best_threshold(match_voc(dataset, results))
    # Rounded down: the detection with the best score itself still counts.
    return row.interval, math.floor(100 * threshold) / 100 if f1 else None


def _look_alikes(
    images: Sequence[DescribedRegions], classes: Sequence[str], label: int,
    fitted: Sequence[FittedClass], detector: Detector,
) -> list[str]:  # fmt: skip
    """Sentences about classes, new or the networks' own, that score higher on the objects."""
    if not images:
        return []
    mine, others = [np.zeros(0)], [np.zeros((0, len(classes)))]
    added = len(detector.ensemble.members[0].heads.added)
    known = detector.classes[: len(detector.classes) - added]  # the networks' own
    networks = [np.zeros((0, len(known)))]
    for number, image in enumerate(images):
        # The objects' own boxes as they are: not mirrored, not moved.
        plan = image.plan
        truth = plan.sample.annotations
        boxes = truth.boxes[truth.real & (truth.labels == label)]
        same = (box_ops.iou(plan.boxes, boxes) > 0.999).any(1)
        features = image.examples[same & ~plan.mirrored & (plan.labels == label)]
        heads = [one.folds[number % len(one.folds)] or one.head for one in fitted]
        scores = np.concatenate([head.scores(features) for head in heads], 1)
        mine.append(scores[:, label])
        scores[:, label] = 0
        others.append(scores)
        networks.append(_softmax(detector, features)[:, :-1])
    class_scores = np.concatenate(mine)
    sentences = []
    for names, columns in ((classes, others), (known, networks)):
        share = (np.concatenate(columns) > np.maximum(class_scores, 0.1)[:, None]).mean(0)
        for other in np.flatnonzero(share >= MAX_ALIKE).tolist():
            sentences.append(
                f"{share[other]:.0%} of the objects of {classes[label]} look more like"
                f" {names[other]}: expect both names on them; more boxes of each tell them apart"
            )
    return sentences


def _softmax(detector: Detector, features: Array) -> Array:
    layer = detector.ensemble.members[0].model.get_submodule("classifier")
    with torch.inference_mode():
        logits = layer.cpu()(torch.from_numpy(features)) / detector.temperatures[0]
        scores: Array = logits.softmax(-1).numpy()
    return scores
