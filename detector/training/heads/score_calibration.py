"""Network outputs for the regions of annotated images, and the calibration of their scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from detector.datasets import Dataset, Sample
from detector.detection.aggregate import RegionOutputs, softmax_of
from detector.detection.detector import Detector
from detector.errors import DatasetError, ImageError
from detector.evaluation.diagnosis.calibration_error import calibration, calibration_of
from detector.evaluation.protocols.rules import match_voc
from detector.evaluation.scoring.regions import forward_dataset, proposing_with
from detector.evaluation.scoring.store import RegionStore
from detector.progress.messages import say_error
from detector.proposals.cache.stored import ProposalStore
from detector.structures import Array, Detections
from detector.training.heads.temperature import LEFT_OUT, region_labels


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """The readable images; their regions' outputs are read from the store."""

    dataset: Dataset
    detector: Detector
    store: RegionStore

    def __iter__(self) -> Iterator[tuple[Sample, RegionOutputs]]:
        for sample, found in forward_dataset(self.detector, self.dataset, self.store):
            if isinstance(found, ImageError):  # it was readable a moment ago
                raise found
            yield sample, found


def score_images(
    dataset: Dataset, detector: Detector, store: RegionStore, proposals: ProposalStore, quiet: bool
) -> ScoredImages:
    """Run the networks on regions that the store does not hold; unreadable images are reported on
    stderr.
    """
    proposing = proposing_with(detector, proposals)
    scored = forward_dataset(detector, dataset, store, proposing, label="regions", quiet=quiet)
    readable = []
    for sample, found in scored:
        if isinstance(found, ImageError):
            say_error(found)
        else:
            readable.append(sample.image_id)
    if not readable:
        raise DatasetError(f"{dataset.name}: none of its images can be read")
    return ScoredImages(dataset.subset(readable), detector, store)


class KnownRegions(NamedTuple):
    """The N regions whose class the annotations determine.

    logits    (N, K+1) of each member
    labels    (N,); K is background
    log_odds  (N,) of the prior of sizes, or None
    """

    logits: list[Array]
    labels: Array
    log_odds: Array | None


def known_regions(images: ScoredImages, min_iou: float) -> KnownRegions:
    """The known regions of all images."""
    prior = images.detector.prior
    logits: list[list[Array]] = [[] for _ in images.detector.ensemble.members]
    labels, log_odds = [np.zeros(0, np.int64)], [np.zeros(0)]
    for sample, found in images:
        boxes, classes = found.proposals.boxes, found.outputs[0].logits.shape[1] - 1
        region_classes = region_labels(sample, boxes, classes, min_iou)
        known = region_classes != LEFT_OUT
        labels.append(region_classes[known])
        for parts, output in zip(logits, found.outputs, strict=True):
            parts.append(output.logits.numpy()[known])
        if prior is not None:
            log_odds.append(prior(boxes[known], found.proposals.size))
    return KnownRegions(
        [np.concatenate(parts) for parts in logits],
        np.concatenate(labels),
        None if prior is None else np.concatenate(log_odds),
    )


class Calibrated(NamedTuple):
    """Calibration of the scores: mean -log p of the regions' true classes, and the expected
    calibration errors (ten bins) of the regions' best classes and of the detections.
    """

    region_loss: float
    region_error: float
    detection_error: float


def measure_calibration(
    images: ScoredImages, known: KnownRegions, temperatures: Sequence[float]
) -> Calibrated:
    """The calibration at these temperatures; for the regions, of the networks' softmax."""
    logits = [torch.from_numpy(member) for member in known.logits]
    scores = softmax_of(logits, temperatures, known.log_odds).numpy()
    true_scores = scores[np.arange(len(scores)), known.labels].astype(np.float64)
    loss = -np.log(np.maximum(true_scores, 1e-30)).mean()  # a softmax may round to 0
    right = scores.argmax(1) == known.labels
    at_these = replace(images.detector, temperatures=tuple(temperatures))
    images = replace(images, detector=at_these)
    return Calibrated(
        float(loss), calibration(scores.max(1), right).error, _detection_error(images)
    )


def detections_of(images: ScoredImages) -> dict[str, Detections]:
    """Detections by image id, without those of classes added by heads."""
    detector, results = images.detector, {}
    for sample, found in images:
        detections = detector.detections(found)
        # Added classes come after the network's own, which the data set has.
        results[sample.image_id] = detections[detections.labels < len(images.dataset.classes)]
    return results


def _detection_error(images: ScoredImages) -> float:
    return calibration_of(match_voc(images.dataset, detections_of(images))).error
