"""Images that a training does not learn from: what becomes of scores is fitted on them at its end.

A network is surer of images that it learnt from than of others, so a temperature and a threshold
that were fitted on those would be wrong for every other image.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from detector.datasets import Dataset, Sample
from detector.structures import Array

LEAST_IMAGES, LEAST_OBJECTS = 5, 10
"""Fewer tell neither a temperature nor a threshold."""
KEPT = 0.8
"""Of the objects of each class, at least so many stay to be learnt from."""


def held_out(dataset: Dataset, share: float) -> Dataset | None:
    """A share of the images, chosen by their names alone: whatever else changes, they stay the
    same ones. None where there are too few.

    Only images in which all classes are annotated can say what is background.
    """
    wanted = math.ceil(share * len(dataset))
    objects = sum((_objects(one, dataset) for one in dataset.samples), _none(dataset))
    spare = np.floor((1 - KEPT) * objects + 1e-9)
    chosen: list[str] = []
    for sample in sorted(dataset.samples, key=_lot):
        own = _objects(sample, dataset)
        if len(chosen) < wanted and sample.background_of is None and (own <= spare).all():
            chosen.append(sample.image_id)
            spare -= own
    found = dataset.subset(chosen)
    count = int(sum((_objects(one, dataset) for one in found.samples), _none(dataset)).sum())
    return found if len(found) >= LEAST_IMAGES and count >= LEAST_OBJECTS else None


def _lot(sample: Sample) -> bytes:
    return hashlib.sha256(sample.image_id.encode()).digest()


def _none(dataset: Dataset) -> Array:
    return np.zeros(len(dataset.classes), np.int64)


def _objects(sample: Sample, dataset: Dataset) -> Array:
    """(K,) that count, of each class."""
    truth = sample.annotations
    return np.bincount(truth.labels[truth.real], minlength=len(dataset.classes))
