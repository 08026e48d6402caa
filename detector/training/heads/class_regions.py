"""The regions of a few images that new classes are learnt from, with their features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector import boxes as box_ops
from detector.datasets import Sample
from detector.detection.detector import Detector
from detector.heads.class_examples import ClassExamples, Described
from detector.heads.few_shot import OneClassSettings, background_order, choose_positives
from detector.images.decoding import read_image
from detector.structures import Array, Proposals
from detector.training.heads.class_data import gives_background
from detector.training.heads.data_features import describe_regions

# Least part of the background of one image.
MIN_SHARE = 20


@dataclass(frozen=True, eq=False)
class RegionPlan:
    """The regions of one image that are to be described.

    boxes, mirrored, labels  (E, 4), (E,) bool, (E,): examples of the classes
    deltas                   (E, 4) to their objects
    chosen                   (C,) rows of the image's proposals
    whole                    all proposals are chosen
    """

    sample: Sample
    proposals: Proposals
    boxes: Array
    mirrored: Array
    labels: Array
    deltas: Array
    chosen: Array
    whole: bool

    def __len__(self) -> int:
        return len(self.boxes) + len(self.chosen)


@dataclass(frozen=True, eq=False)
class DescribedRegions:
    """The features (E, F) of an image's examples and (C, F) of its chosen proposals."""

    plan: RegionPlan
    examples: Array
    background: Array


def plan_regions(
    samples: Sequence[tuple[Sample, Proposals]], classes: int, settings: OneClassSettings,
    rng: np.random.Generator,
) -> list[RegionPlan]:  # fmt: skip
    """Choose regions, about `settings.crops` in all, after the examples shared by the images.

    Every proposal of some images, evenly spaced, is chosen, since detections can only be judged
    where all are known.
    """
    parts = [_examples(sample, found, classes, settings, rng) for sample, found in samples]
    left = settings.crops - sum(len(boxes) for boxes, *_ in parts)
    counts = [len(found) for _, found in samples]
    whole = np.full(len(samples), left >= sum(counts))
    if not whole.all():
        each = max(1, round(float(np.mean(counts))))
        number = min(len(samples), max(2, int(settings.whole_share * left) // each))
        whole[np.arange(number) * len(samples) // number] = True
        left -= sum(np.array(counts)[whole])
    share = max(MIN_SHARE, left // max(int((~whole).sum()), 1))
    plans = []
    for (sample, found), part, every in zip(samples, parts, whole.tolist(), strict=True):
        chosen = np.arange(len(found))
        if not every:
            order = background_order(sample.annotations, found.boxes, settings, rng)
            chosen = np.sort(order[: share if _proves_something(sample, classes) else 0])
        plans.append(RegionPlan(sample, found, *part, chosen, every))
    return plans


def describe(detector: Detector, plan: RegionPlan) -> DescribedRegions:
    """Run the first network on the regions of one image."""
    boxes = np.concatenate([plan.boxes, plan.proposals.boxes[plan.chosen]])
    mirrored = np.concatenate([plan.mirrored, np.zeros(len(plan.chosen), bool)])
    features = describe_regions(detector, read_image(plan.sample.path), boxes, mirrored)[0]
    return DescribedRegions(plan, *np.split(features, [len(plan.boxes)]))


def examples_of_class(
    images: Sequence[DescribedRegions], label: int, settings: OneClassSettings,
    rng: np.random.Generator,
) -> ClassExamples:  # fmt: skip
    """The examples of one class; the objects of others are background."""
    parts: tuple[list[Array], ...] = ([], [], [])
    deltas = []
    for image in images:
        plan, truth = image.plan, image.plan.sample.annotations
        mine = truth[truth.labels == label]
        order = np.zeros(0, np.int64)
        others = image.examples[:0]
        if gives_background(plan.sample, label):
            order = background_order(mine, plan.proposals.boxes[plan.chosen], settings, rng)
            # An example of another class, unless it lies on an object of this one.
            apart = (plan.labels != label) & ~plan.mirrored
            if len(mine):
                overlap = box_ops.iou(plan.boxes, mine.boxes).max(1)
                apart &= overlap < settings.svm.negative_iou
            others = image.examples[apart]
        early = round(len(order) * settings.first_share)
        features = image.background[order]
        parts[0].append(image.examples[plan.labels == label])
        parts[1].append(np.concatenate([others, features[:early]]))
        parts[2].append(features[early:])
        deltas.append(plan.deltas[plan.labels == label])
    return ClassExamples(np.concatenate(deltas), *map(Described.stacked, parts))


def _examples(
    sample: Sample, found: Proposals, classes: int, settings: OneClassSettings,
    rng: np.random.Generator,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    truth = sample.annotations
    chosen = [
        choose_positives(truth[truth.labels == label], found.boxes, found.size, settings, rng)
        for label in range(classes)
    ]
    return (
        np.concatenate([one.boxes for one in chosen]),
        np.concatenate([one.mirrored for one in chosen]),
        np.repeat(np.arange(classes), [len(one.boxes) for one in chosen]),
        np.concatenate([one.deltas for one in chosen]),
    )


def _proves_something(sample: Sample, classes: int) -> bool:
    return any(gives_background(sample, label) for label in range(classes))
