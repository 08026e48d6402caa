"""Held-out images, on which a training's temperatures and threshold are fitted at its end.

A network is more confident on its training images than on others, so a temperature and a threshold
fitted on them would be wrong for every other image.
"""

import hashlib
import math

import numpy as np

from detector.datasets import Dataset, Sample
from detector.structures import Array

# Fewer determine neither a temperature nor a threshold.
MIN_IMAGES, MIN_OBJECTS = 5, 10
# Least share of each class's objects that stays in the training.
TRAINING_SHARE = 0.8


def held_out(dataset: Dataset, share: float) -> Dataset | None:
    """Choose a share of the images by their ids alone, so that they stay the same whatever else
    changes. None if there are too few.

    Only images in which all classes are annotated can say what is background.
    """
    wanted = math.ceil(share * len(dataset))
    objects = sum((_objects(sample, dataset) for sample in dataset.samples), _no_objects(dataset))
    spare = np.floor((1 - TRAINING_SHARE) * objects + 1e-9)  # 1 - 0.8 is a little under 0.2
    chosen: list[str] = []
    for sample in sorted(dataset.samples, key=_hash):
        counts = _objects(sample, dataset)
        if len(chosen) < wanted and sample.background_of is None and (counts <= spare).all():
            chosen.append(sample.image_id)
            spare -= counts
    chosen_images = dataset.subset(chosen)
    count = int(
        sum(
            (_objects(sample, dataset) for sample in chosen_images.samples), _no_objects(dataset)
        ).sum()
    )
    return chosen_images if len(chosen_images) >= MIN_IMAGES and count >= MIN_OBJECTS else None


def _hash(sample: Sample) -> bytes:
    # By the id alone: neither the order nor the other images change an image's rank.
    return hashlib.sha256(sample.image_id.encode()).digest()


def _no_objects(dataset: Dataset) -> Array:
    return np.zeros(len(dataset.classes), np.int64)


def _objects(sample: Sample, dataset: Dataset) -> Array:
    """The number (K,) of counted objects of each class."""
    truth = sample.annotations
    return np.bincount(truth.labels[truth.real], minlength=len(dataset.classes))
