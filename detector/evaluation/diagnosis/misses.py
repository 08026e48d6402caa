"""Reasons of misses: the stage, from region to detection, at which each missed object was lost.

    below threshold  found, but with too low a score
    not proposed     no region has an IoU of 0.5 with it
    suppressed       a region on it had the right class and score; suppression, voting or a
                     neighbour's claim took it
    badly localised  its class was detected, with an IoU of 0.1 to 0.5
    misclassified    the regions on it were taken for another class, or for background
    unseen           nothing was detected on it; only region scores could say more

The first that holds, in this order, is the reason.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.boxes import iou
from detector.datasets.dataset import Dataset
from detector.evaluation.diagnosis.errors import BACKGROUND_IOU, FOREGROUND_IOU
from detector.evaluation.protocols.matching import Matching
from detector.structures import Annotations, Array, Proposals

REASONS = (
    "below threshold", "not proposed", "suppressed", "badly localised", "misclassified", "unseen",
)  # fmt: skip
BELOW, NOT_PROPOSED, SUPPRESSED, BADLY_LOCALISED, MISCLASSIFIED, UNSEEN = range(len(REASONS))
NOT_MISSED = -1

# Image id -> the proposals of the image and their class scores (N, K+1).
Regions = Mapping[str, tuple[Proposals, Array]]


class RegionEvidence(NamedTuple):
    """The scores of an image's regions on its G objects.

    overlap   (G,) the largest IoU of a region
    score     (G,) the best score for the object's class, of the regions with IoU of 0.5 or more
    says_own  (G,) bool: True if the region with that score has no better class
    """

    overlap: Array
    score: Array
    says_own: Array


def region_evidence(truth: Annotations, proposals: Proposals, scores: Array) -> RegionEvidence:
    """The evidence of N regions with scores (N, K+1)."""
    # Three numbers an object, kept for all images while the regions' scores pass by.
    count = len(truth)
    if len(proposals) == 0 or count == 0:
        return RegionEvidence(np.zeros(count), np.zeros(count), np.zeros(count, bool))
    overlaps = iou(proposals.boxes, truth.boxes)  # (N, G)
    own = np.where(overlaps >= FOREGROUND_IOU, scores[:, truth.labels], -1.0)  # below all scores
    best = own.argmax(0)
    says_own = scores[best].argmax(1) == truth.labels
    return RegionEvidence(overlaps.max(0), np.maximum(own.max(0), 0.0), says_own)


def evidence_of(dataset: Dataset, regions: Regions) -> dict[str, RegionEvidence]:
    """The evidence of every image that has regions."""
    return {
        sample.image_id: region_evidence(sample.annotations, *regions[sample.image_id])
        for sample in dataset.samples
        if sample.image_id in regions
    }


def reasons_of(
    dataset: Dataset,
    matching: Matching,
    threshold: float,
    evidence: Mapping[str, RegionEvidence] | None = None,
) -> Array:
    """The reason of every miss: (G,) index into REASONS of each counted object that no detection of
    at least `threshold` found, NOT_MISSED for the others. Images without evidence are judged by
    their detections alone.
    """
    objects = matching.objects
    missed = objects.counted & ~matching.found_at(threshold)
    known = _concatenate(dataset, evidence or {})
    seen = ~np.isnan(known.overlap)
    covered, touched, mistaken = _detected(matching, threshold)
    # The first that holds: a region on the object that had its class and score was suppressed,
    # whatever was detected nearby.
    conditions = [
        ~missed,
        matching.finder >= 0,
        seen & (known.overlap < FOREGROUND_IOU),
        covered | (seen & (known.score >= threshold)),
        touched,
        seen & known.says_own,  # a region names its class, with too low a score
        seen | mistaken,
    ]
    answers = [NOT_MISSED, BELOW, NOT_PROPOSED, SUPPRESSED, BADLY_LOCALISED, BELOW, MISCLASSIFIED]
    return np.select(conditions, answers, UNSEEN)


def _detected(matching: Matching, threshold: float) -> tuple[Array, Array, Array]:
    """For each object (G,) bool, by detections of at least `threshold`: its class was detected on
    it; its class was detected nearby; another class was detected on it.
    """
    count = len(matching.objects.labels)
    covered, touched, mistaken = (np.zeros(count, bool) for _ in range(3))
    strong = np.flatnonzero(matching.scores >= threshold)
    strong = strong[np.argsort(matching.images[strong], kind="stable")]
    images, starts = np.unique(matching.images[strong], return_index=True)
    ends = np.append(starts[1:], len(strong))
    for image, start, end in zip(images, starts, ends[: len(images)], strict=True):
        rows = strong[start:end]
        # Objects are ascending by image.
        here = slice(*np.searchsorted(matching.objects.images, [image, image + 1]))
        overlaps = iou(matching.boxes[rows], matching.objects.boxes[here])
        same = matching.labels[rows, None] == matching.objects.labels[None, here]
        covered[here] = (same & (overlaps >= FOREGROUND_IOU)).any(0)
        touched[here] = (same & (overlaps >= BACKGROUND_IOU)).any(0)
        mistaken[here] = (~same & (overlaps >= FOREGROUND_IOU)).any(0)
    return covered, touched, mistaken


def _concatenate(dataset: Dataset, evidence: Mapping[str, RegionEvidence]) -> RegionEvidence:
    """The evidence for all objects in the order of the matching; overlap is NaN without any."""
    parts = []
    for sample in dataset.samples:
        labels = sample.annotations.labels
        count = len(labels)
        nothing = RegionEvidence(np.full(count, np.nan), np.zeros(count), np.zeros(count, bool))
        # The matching has no objects of other classes.
        annotated = np.array([sample.is_annotated(int(label)) for label in labels], bool)
        of_image = evidence.get(sample.image_id, nothing)
        parts.append(RegionEvidence(*(column[annotated] for column in of_image)))
    return RegionEvidence(*map(np.concatenate, zip(*parts, strict=True)))
