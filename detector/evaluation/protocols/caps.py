"""The cap on the detections of a class that are judged (R-CNN on ILSVRC, imdb_eval_ilsvrc13.m).

After suppression the 30,000 best of each class over all images stay, which drops what could only
lengthen the tail of the curve. The official protocol has no such limit.
"""

from collections.abc import Mapping

import numpy as np

from detector.errors import SettingsError
from detector.structures import Array, Detections


def cap_per_class(results: Mapping[str, Detections], most: int) -> dict[str, Detections]:
    """The `most` best detections of each class over all images, and those that tie with the last.

    Images keep their order, and the detections of an image theirs.
    """
    if most < 1:
        raise SettingsError(f"the most of a class is {most}; expected at least 1")
    if not results:
        return {}
    scores = np.concatenate([found.scores for found in results.values()])
    labels = np.concatenate([found.labels for found in results.values()])
    lowest = _min_scores(scores, labels, most)
    return {image: found[found.scores >= lowest[found.labels]] for image, found in results.items()}


def _min_scores(scores: Array, labels: Array, most: int) -> Array:
    """(K,) the score of each class's detection of rank `most`; -inf where there are no more."""
    classes = int(labels.max(initial=-1)) + 1
    lowest = np.full(classes, -np.inf)
    for label in range(classes):
        mine = scores[labels == label]
        if len(mine) > most:
            # A partition finds the score of that rank without sorting all.
            lowest[label] = np.partition(mine, len(mine) - most)[len(mine) - most]
    return lowest
