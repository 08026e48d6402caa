"""A limit of boxes a class for training (R-CNN on ILSVRC: 1,000 of train, section 4.3).

The paper does not say which boxes; here they are drawn at random, by a seed.
"""

from dataclasses import replace

import numpy as np

from detector.datasets.dataset import Dataset, Dropped
from detector.errors import SettingsError
from detector.structures import Array

RULE = "over-the-cap"


def cap_boxes(dataset: Dataset, most: int, seed: int = 0) -> Dataset:
    """Keep at most `most` objects of each class as positives.

    The others are ignored as VOC's difficult objects are: regions on them are neither positives nor
    background. An image for positives only is left out if none remain. Both are recorded in
    `dropped`.
    """
    if most < 1:
        raise SettingsError(f"cap_per_class is {most}; expected at least 1")
    labels = np.concatenate([s.annotations.labels for s in dataset.samples])
    counted = ~np.concatenate(
        [s.annotations.difficult | s.annotations.crowd for s in dataset.samples]
    )
    # Difficult objects and crowds are ignored anyway, and take no place below the cap.
    chosen = _chosen(np.where(counted, labels, -1), len(dataset.classes), most, seed)
    ends = np.cumsum([len(sample.annotations) for sample in dataset.samples])
    samples, dropped = [], []
    for sample, keep in zip(dataset.samples, np.split(chosen, ends[:-1]), strict=True):
        truth = sample.annotations
        over = ~keep & ~(truth.difficult | truth.crowd)
        dropped += [
            Dropped(sample.path.name, f"object {i + 1}", RULE, f"more than {most} of its class")
            for i in np.flatnonzero(over)
        ]
        if keep.any() or not sample.positives_only:
            aside = replace(truth, difficult=truth.difficult | over)
            samples.append(replace(sample, annotations=aside))
    return replace(
        dataset, samples=tuple(samples), dropped=(*dataset.dropped, *dropped)
    ).not_empty()


def _chosen(labels: Array, classes: int, most: int, seed: int) -> Array:
    """Random mask (G,) of at most `most` objects of each label; a label of -1 is never chosen."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in range(classes):
        mine = np.flatnonzero(labels == label)
        chosen[mine if len(mine) <= most else rng.choice(mine, most, replace=False)] = True
    return chosen
