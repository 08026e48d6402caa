"""Fit the heads of all classes of a network from a stream of images with features.

Memory holds the objects, the hard negatives and the regions near objects, never all regions.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from detector.errors import TrainingError
from detector.heads.bbox_regression import RegressionSettings, fit_regression
from detector.heads.linear import BoxRegression, LinearScores
from detector.heads.platt_scaling import fit_logistic
from detector.heads.region_features import DescribedImage
from detector.heads.svm import HardNegativeMining, SvmSettings
from detector.structures import Annotations, Array

# A function that starts another pass over all images; its argument names the pass for progress.
Images = Callable[[str], Iterable[DescribedImage]]

# Fewest regions near its objects for which a class gets a regression.
MIN_TO_MOVE = 10


def mean_norm(images: Iterable[DescribedImage]) -> float:
    """Mean norm of the features of all regions, by which they are scaled to R-CNN's 20."""
    total, count = 0.0, 0
    for image in images:
        total += float(np.linalg.norm(image.features, axis=1).sum())
        count += len(image.features)
    return total / max(count, 1)


def fit_svms(
    images: Images, classes: Sequence[str], norm: float, settings: SvmSettings
) -> LinearScores:
    """Fit one SVM a class with hard negative mining, and the logistic curves of its scores.

    norm  mean norm of the features

    Raises TrainingError for a class without objects or without negatives.
    """
    scale = settings.target_norm / norm
    positives: list[list[Array]] = [[] for _ in classes]
    for image in images("objects"):
        for label, of_class in enumerate(positives):
            of_class.append(image.positives(label) * scale)
    _need_every_class([sum(map(len, of_class)) for of_class in positives], classes)
    mining = [HardNegativeMining(np.concatenate(of_class), settings) for of_class in positives]
    for _ in range(settings.passes):
        for image in images("hard negatives"):
            for label, miner in enumerate(mining):
                miner.partial_fit(image.negatives(label, settings.negative_iou) * scale)
    without = [c for c, miner in zip(classes, mining, strict=True) if not len(miner.negatives)]
    if without:
        raise TrainingError(f"no background for {', '.join(without[:4])}; give more images")
    fitted = [miner.fit() for miner in mining]
    # With the scale inside, a head takes features as the network gives them.
    weight = (np.stack([row for row, _ in fitted]) * scale).astype(np.float32)
    bias = np.array([value for _, value in fitted], np.float32)
    slope, offset = _curves(images("scores"), weight, bias, settings)
    return LinearScores(weight, bias, slope, offset)


def need_every_class(truths: Iterable[Annotations], classes: Sequence[str]) -> None:
    """Raise TrainingError where a class has no objects.

    Checked on the annotations, before the features of all regions are computed.
    """
    counts = np.zeros(len(classes), int)
    for truth in truths:
        counts += np.bincount(truth.labels[truth.real], minlength=len(classes))
    _need_every_class(counts.tolist(), classes)


def _need_every_class(counts: Sequence[int], classes: Sequence[str]) -> None:
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        raise TrainingError(
            f"no objects of {', '.join(missing[:4])} ({len(missing)} of {len(classes)} classes);"
            " SVMs need some of every class, so give more images, or leave SVMs out"
            " (--set svm=false; of a training heads.svm)"
        )


def _curves(
    images: Iterable[DescribedImage], weight: Array, bias: Array, settings: SvmSettings
) -> tuple[Array, Array]:
    """Fit slopes (K,) and offsets (K,) to the margins of proposals that have IoU >= 0.5 with an
    object, or below 0.3 with all.
    """
    margins: list[list[Array]] = [[] for _ in bias]
    truth: list[list[Array]] = [[] for _ in bias]
    for image in images:
        # Proposals only, as a detector meets them; the first rows are annotated boxes.
        proposed = np.arange(len(image.boxes)) >= len(image.objects)
        margin = image.features @ weight.T + bias
        for label in range(len(bias)):
            positive = image.is_object(label, 0.5)
            known = proposed & (positive | image.is_background(label, settings.negative_iou))
            margins[label].append(margin[known, label])
            truth[label].append(positive[known])
    curves = [
        fit_logistic(np.concatenate(values), np.concatenate(labels))
        for values, labels in zip(margins, truth, strict=True)
    ]
    slope, offset = np.array(curves, np.float32).T
    return slope, offset


def fit_regressions(
    images: Images, classes: Sequence[str], norm: float, settings: RegressionSettings
) -> BoxRegression:
    """Fit one box regression a class; a class with too few regions near its objects gets zeros.

    norm  mean norm of the features
    """
    scale = settings.target_norm / norm
    features: list[list[Array]] = [[] for _ in classes]
    wanted: list[list[Array]] = [[] for _ in classes]
    width = 0
    for image in images("regions near objects"):
        width = image.features.shape[1]
        rows, labels, goals = image.to_move(settings.least_iou)
        for label in np.unique(labels):
            features[label].append(image.features[rows[labels == label]] * scale)
            wanted[label].append(goals[labels == label])
    weight = np.zeros((len(classes), 4, width), np.float32)
    bias = np.zeros((len(classes), 4), np.float32)
    enough = [
        label for label, of_class in enumerate(wanted) if sum(map(len, of_class)) >= MIN_TO_MOVE
    ]
    if not enough:
        raise TrainingError(
            f"no class has {MIN_TO_MOVE} proposals with IoU > {settings.least_iou} to an object;"
            " box regression needs more images, or is left out (--set regression=false; of a"
            " training heads.regression)"
        )
    for label in enough:
        of_class = np.concatenate(features[label])
        row, constant = fit_regression(of_class, np.concatenate(wanted[label]), settings)
        weight[label], bias[label] = row * scale, constant
    return BoxRegression(weight.reshape(-1, width), bias.reshape(-1))
