"""Temperature scaling: calibration of a network's softmax (Guo et al. 2017, section 4.2).

The temperature minimises the negative log likelihood of the classes of annotated regions. It is
fitted on regions, not detections: regions stay the same at every temperature, while suppression
would pass others at each, and their likelihoods could not be compared.

    -log p(class), where p = softmax(logits / T, background's less the prior's log-odds)

is convex in 1/T, so a search along one line finds the only minimum. The prior of sizes is part of
it, as it is of the detector's scores; it is not divided by T (aggregate.py).

Images that a network learnt from would flatter it, and images that judge it must not have tuned it:
a temperature is fitted on images that are neither.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from detector.datasets import Sample
from detector.detection.aggregate import MAX_TEMPERATURE, MIN_TEMPERATURE
from detector.errors import TrainingError
from detector.matching import match_to_objects
from detector.structures import Array

LEFT_OUT = -1


def region_labels(sample: Sample, boxes: Array, classes: int, min_iou: float = 0.5) -> Array:
    """The class (N,) of each region: that of the object with the largest overlap, if at IoU >=
    `min_iou`, else background (`classes`).

    LEFT_OUT are regions on difficult objects and crowds, and all regions of an image in which not
    all classes are annotated: its background is unknown.
    """
    if sample.background_of is not None:
        return np.full(len(boxes), LEFT_OUT)
    which, _ = match_to_objects(boxes, sample.annotations, min_iou)
    # BACKGROUND (-1) and IGNORE (-2) index the two entries at the end.
    return np.array([*sample.annotations.labels, LEFT_OUT, classes])[which]


def log_loss(
    logits: Array, labels: Array, temperature: float, log_odds: Array | None = None
) -> float:
    """Mean of -log p over N regions: logits (N, K+1), their true classes (N,), K is background.

    log_odds  (N,) of the prior of sizes, added to those of "an object"
    """
    values = np.asarray(logits, np.float64) / temperature
    if log_odds is not None:
        values[:, -1] -= log_odds  # less for background raises all objects alike
    values -= values.max(1, keepdims=True)  # exp cannot overflow
    of_class = values[np.arange(len(labels)), labels]
    return float((np.log(np.exp(values).sum(1)) - of_class).mean())


def fit_temperature(logits: Array, labels: Array, log_odds: Array | None = None) -> float:
    """The temperature with the least `log_loss`, to four digits. Raises TrainingError if the
    regions do not determine it.
    """
    objects = int((labels < logits.shape[1] - 1).sum())
    if not 0 < objects < len(labels):
        raise TrainingError(
            f"{objects} of {len(labels)} regions lie on objects; a temperature needs some that do"
            " and some that do not, so give more annotated images"
        )

    def loss_at(log_temperature: float) -> float:
        return log_loss(logits, labels, float(np.exp(log_temperature)), log_odds)

    low, high = np.log([MIN_TEMPERATURE, MAX_TEMPERATURE])
    minimum = minimize_scalar(
        loss_at, bounds=(low, high), method="bounded", options={"xatol": 1e-5}
    )
    if min(loss_at(low), loss_at(high)) <= minimum.fun:  # at an end, or level up to it
        raise TrainingError(
            f"no temperature between {MIN_TEMPERATURE:g} and {MAX_TEMPERATURE:g} is best for"
            f" these {len(labels)} regions; give more images, none that the network learnt from"
        )
    return float(f"{np.exp(minimum.x):.4g}")
