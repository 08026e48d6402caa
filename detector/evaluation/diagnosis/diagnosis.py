"""The diagnosis of a mAP: errors by kind, misses by reason, slices, confusions, calibration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError
from detector.evaluation.diagnosis.calibration_error import (
    Calibration,
    best_threshold,
    calibration_of,
)
from detector.evaluation.diagnosis.confusion import confusion_of
from detector.evaluation.diagnosis.errors import NO_ERROR, ErrorGain, error_gains, kinds_of
from detector.evaluation.diagnosis.misses import REASONS, RegionEvidence, reasons_of
from detector.evaluation.diagnosis.oracles import oracles_of
from detector.evaluation.diagnosis.slices import Slice, slices_of
from detector.evaluation.protocols.matching import Matching
from detector.evaluation.protocols.rules import match_voc
from detector.evaluation.result import without_nan
from detector.structures import Array, Detections


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The complete diagnosis of a set of detections.

    threshold   least score of detections in misses, confusions and slices
    best_f1     the best F1 over all thresholds, reached at `best_threshold`
    gains       errors by TIDE's kinds, each with the mAP that mending it would add
    reasons     (G,) index into REASONS for each object of the matching, -1 where it was found
    with_regions  True if the reasons are based on the scores of regions
    oracles     mAP with one perfect stage
    confusion   (K+1, K+1) truth against detected, background last
    """

    matching: Matching
    threshold: float
    best_threshold: float
    best_f1: float
    gains: tuple[ErrorGain, ...]
    reasons: Array
    with_regions: bool
    oracles: Mapping[str, float]
    slices: tuple[Slice, ...]
    confusion: Array
    calibration: Calibration

    def misses(self) -> dict[str, int]:
        """The number of missed objects by reason."""
        return {name: int((self.reasons == index).sum()) for index, name in enumerate(REASONS)}

    def to_json(self, about: Mapping[str, Any] | None = None) -> str:
        """The diagnosis as JSON without the table of detections, and what else `about` says; NaN
        becomes null.
        """
        content: dict[str, Any] = {
            "threshold": self.threshold,
            "best_threshold": self.best_threshold,
            "best_f1": self.best_f1,
            "errors": [gain._asdict() for gain in self.gains],
            "misses": self.misses(),
            "misses_with_regions": self.with_regions,
            "oracles": dict(self.oracles),
            "slices": [part._asdict() for part in self.slices],
            "classes": list(self.matching.classes),
            "confusion": self.confusion.tolist(),
            "calibration": {
                name: value if isinstance(value, float) else value.tolist()
                for name, value in self.calibration._asdict().items()
            },
            **(about or {}),
        }
        return json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n"


def diagnose(
    dataset: Dataset,
    results: Mapping[str, Detections],
    threshold: float | None = None,
    evidence: Mapping[str, RegionEvidence] | None = None,
) -> Diagnosis:
    """Diagnose `results` (image id -> detections) by VOC's rule at IoU 0.5.

    threshold  the operating point; None: the one with the best F1
    evidence   the scores of regions on the objects (misses.evidence_of); without it the
               reasons of misses come from the detections alone

    Raises EvaluationError where no object is to be found.
    """
    if (why := dataset.why_nothing_counts()) is not None:
        raise EvaluationError(f"{dataset.name}: {why}; there is nothing to diagnose")
    matching = match_voc(dataset, results)
    if not matching.objects.counted.any():
        raise EvaluationError(
            f"{dataset.name}: no object to be found; there is nothing to diagnose"
        )
    best, f1 = best_threshold(matching)
    threshold = best if threshold is None else threshold
    reasons = reasons_of(dataset, matching, threshold, evidence)
    return Diagnosis(
        matching=matching,
        threshold=threshold,
        best_threshold=best,
        best_f1=f1,
        gains=error_gains(matching),
        reasons=reasons,
        with_regions=bool(evidence),
        oracles=oracles_of(dataset, results, matching, reasons),
        slices=slices_of(matching, threshold),
        confusion=confusion_of(matching, threshold),
        calibration=calibration_of(matching),
    )


def worst_images(diagnosis: Diagnosis, count: int) -> list[tuple[int, int, int]]:
    """The images with most errors at the threshold, worst first: (index, missed objects, false
    alarms); images without errors are omitted.
    """
    matching = diagnosis.matching
    # An image after the last object may have false alarms.
    images = 1 + max(int(one.max(initial=-1)) for one in (matching.images, matching.objects.images))
    wrong = (kinds_of(matching) != NO_ERROR) & (matching.scores >= diagnosis.threshold)
    alarms = np.bincount(matching.images[wrong], minlength=images)
    missed = np.bincount(matching.objects.images[diagnosis.reasons >= 0], minlength=images)
    order = np.argsort(-(alarms + missed), kind="stable")[:count]  # ties as in the set
    return [(int(i), int(missed[i]), int(alarms[i])) for i in order if alarms[i] + missed[i]]
