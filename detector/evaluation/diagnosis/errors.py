"""Errors by kind, and the mAP that mending each kind would add.

TIDE (Bolya et al., ECCV 2020, arXiv 2008.08115): foreground from IoU 0.5, background up to 0.1.

    classification  on an object of another class
    localisation    on an object of its class, but only with IoU 0.1 to 0.5
    both            on an object of another class, with IoU 0.1 to 0.5
    duplicate       on an object of its class that a better detection found already
    background      on nothing
    missed          an object that no detection found, nor would if its class or box were mended

Departs from the paper: which detections are right is VOC's rule, not COCO's, and AP is the exact
area under the envelope, so that the gains are in points of the mAP that voc12 reports.
"""

from typing import NamedTuple

import numpy as np

from detector.evaluation.protocols.matching import RIGHT, WRONG, Matching
from detector.evaluation.protocols.rules import mean_ap
from detector.structures import Array

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
NO_ERROR = -1


class ErrorGain(NamedTuple):
    """One kind of error: its number, and the mAP that mending all of it would add."""

    kind: str
    number: int
    gain: float


def kinds_of(matching: Matching) -> Array:
    """The kind of every wrong detection, (D,) index into KINDS; NO_ERROR for the others."""
    own, other = matching.own_iou, matching.other_iou
    # The first that applies counts, in this order (docs/diagnosis.md).
    kinds = np.select(
        [
            (own >= BACKGROUND_IOU) & (own < FOREGROUND_IOU),
            other >= FOREGROUND_IOU,
            own >= FOREGROUND_IOU,
            np.maximum(own, other) <= BACKGROUND_IOU,
        ],
        [LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND],
        BOTH,
    )
    return np.where(matching.verdicts == WRONG, kinds, NO_ERROR)


def error_gains(matching: Matching) -> tuple[ErrorGain, ...]:
    """The gain of each kind in the order of KINDS, then of all false alarms and all misses."""
    kinds = kinds_of(matching)
    targets, claims = _claims(matching, kinds)
    mendable = np.zeros(len(kinds), bool)
    mendable[claims] = True
    nothing = np.zeros(len(kinds), bool)

    def map_with(kept: Array, mended: Array = nothing, objects: Array | None = None) -> float:
        labels = matching.labels.copy()
        # A mended class counts for the class that it has in truth.
        labels[mended] = matching.objects.labels[targets[mended]]
        kept = kept & matching.judged
        right = (matching.verdicts == RIGHT) | mended
        return mean_ap(labels[kept], right[kept], matching.positives(objects))

    base = map_with(~nothing)
    rows = []
    for kind in range(MISSED):
        wrong = kinds == kind
        mended = mendable & wrong
        gain = map_with(~wrong | mended, mended) - base
        rows.append(ErrorGain(KINDS[kind], int(wrong.sum()), gain))
    unfound = matching.objects.counted & (matching.finder < 0)
    missed = unfound.copy()
    missed[targets[claims]] = False  # mending a detection would find it
    wrong = kinds != NO_ERROR
    for name, number, value in (
        (KINDS[MISSED], missed.sum(), map_with(~nothing, objects=~missed)),
        ("all false alarms", wrong.sum(), map_with(~wrong)),
        ("all missed objects", unfound.sum(), map_with(~nothing, objects=~unfound)),
    ):
        rows.append(ErrorGain(name, int(number), value - base))
    return tuple(rows)


def _claims(matching: Matching, kinds: Array) -> tuple[Array, Array]:
    """The object (D,) that each detection would find if it were mended, -1 for none, and the rows
    of the best such detection of each object.
    """
    targets = np.select(
        [kinds == LOCALISATION, kinds == CLASSIFICATION], [matching.own, matching.other], -1
    )
    rows = np.flatnonzero(targets >= 0)
    rows = rows[matching.finder[targets[rows]] < 0]
    # TIDE mends one detection an object, the first as rows are best first, and removes the others.
    _, first = np.unique(targets[rows], return_index=True)
    return targets, rows[first]
