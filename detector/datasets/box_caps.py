"""At most so many boxes of each class to train on (R-CNN on ILSVRC: 1,000 of train, section 4.3).

Which ones R-CNN took is not described; here they are drawn at random, by a seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detector.datasets.dataset import Dataset, Dropped
from detector.errors import SettingsError
from detector.structures import Array

RULE = "over-the-cap"


def cap_boxes(dataset: Dataset, most: int, seed: int = 0) -> Dataset:
    """The same set with at most `most` objects of each class to learn from.

    The others are set aside as VOC's difficult objects are: what overlaps them is neither an object
    nor background. An image that could give positives only, and has none left, is left out. Both
    are written down in `dropped`.
    """
    if most < 1:
        raise SettingsError(f"cap_per_class is {most}; expected at least 1")
    labels = np.concatenate([s.annotations.labels for s in dataset.samples])
    counted = ~np.concatenate(
        [s.annotations.difficult | s.annotations.crowd for s in dataset.samples]
    )
    chosen = _chosen(np.where(counted, labels, -1), len(dataset.classes), most, seed)
    ends = np.cumsum([len(sample.annotations) for sample in dataset.samples])
    samples, dropped = [], []
    for sample, kept in zip(dataset.samples, np.split(chosen, ends[:-1]), strict=True):
        truth = sample.annotations
        over = ~kept & ~(truth.difficult | truth.crowd)
        dropped += [
            Dropped(sample.path.name, f"object {i + 1}", RULE, f"more than {most} of its class")
            for i in np.flatnonzero(over)
        ]
        if kept.any() or not sample.positives_only:
            aside = replace(truth, difficult=truth.difficult | over)
            samples.append(replace(sample, annotations=aside))
    return replace(
        dataset, samples=tuple(samples), dropped=(*dataset.dropped, *dropped)
    ).not_empty()


def _chosen(labels: Array, classes: int, most: int, seed: int) -> Array:
    """(G,) bool: at most `most` objects of each label; a label of -1 is never chosen."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in range(classes):
        mine = np.flatnonzero(labels == label)
        chosen[mine if len(mine) <= most else rng.choice(mine, most, replace=False)] = True
    return chosen
