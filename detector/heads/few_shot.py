"""A new class from a few boxes: a one-against-rest SVM beside the softmax.

The network stays as it is, and so do the scores of its own classes. Examples are chosen image by
image (boxes first, crops later) in two rounds: objects with a first part of the background, then
the rest of the background, of which only hard negatives count.

Departs from the paper: with so few objects, R-CNN's "ground truth only" is too little. Positives
are also mirrored and shifted objects, and proposals that fit an object well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from detector import boxes as box_ops
from detector.errors import TrainingError
from detector.heads.calibration import fit_logistic
from detector.heads.linear import LinearScores
from detector.heads.svm import HardNegativeMining, SvmSettings
from detector.matching import BACKGROUND, match_to_objects
from detector.settings import Settings
from detector.structures import Annotations, Array

LEAST_BOXES = 5


class OneClassSettings(Settings):
    """Settings for the examples and the fit of a new class."""

    crops: int = Field(3000, ge=100)
    """Approximate limit of regions to classify: 3,000 take 90 seconds on two laptop cores."""
    positive_iou: float = Field(0.7, gt=0.5, lt=1)
    """Shifted boxes and proposals that overlap an object by at least this are positives."""
    shifted: int = Field(4, ge=0)
    """Number of shifted boxes for each object."""
    proposals: int = Field(4, ge=0)
    """Number of proposals for each object."""
    first_share: float = Field(0.4, gt=0, lt=1)
    """Share of the background in the first fit; the rest is mined for hard negatives."""
    near_iou: float = Field(0.1, gt=0, lt=0.3)
    """Half of the background has at least this IoU with an object: its parts and surroundings."""
    folds: int = Field(3, ge=2)
    """Folds over images for the calibration of scores, each on images outside its fit."""
    svm: SvmSettings = SvmSettings()


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples from one image.

    boxes     (N, 4) xyxy
    mirrored  (N,) bool: crops to be flipped
    """

    boxes: Array
    mirrored: Array


def choose_positives(
    truth: Annotations,
    proposals: Array,
    size: tuple[int, int],
    settings: OneClassSettings,
    rng: np.random.Generator,
) -> Examples:
    """Choose positives: objects, their mirror images, shifted boxes, and proposals (N, 4) that fit.

    `truth` has the objects of this class only; `difficult` ones and crowds are skipped.
    """
    boxes = [np.zeros((0, 4))]
    mirrored = [np.zeros(0, bool)]
    for box in truth.boxes[truth.real]:
        fitting = proposals[box_ops.iou(proposals, box[None])[:, 0] >= settings.positive_iou]
        fitting = fitting[rng.permutation(len(fitting))[: settings.proposals]]
        around = np.concatenate([shifted_boxes(box, size, settings, rng), fitting])
        boxes += [np.stack([box, box]), around]
        mirrored += [np.array([False, True]), rng.random(len(around)) < 0.5]
    return Examples(np.concatenate(boxes), np.concatenate(mirrored))


def shifted_boxes(
    box: Array, size: tuple[int, int], settings: OneClassSettings, rng: np.random.Generator
) -> Array:
    """Copies (n, 4) of `box` (4,) with each edge moved by up to a sixth of its side, at IoU >=
    positive_iou, inside an image of `size` (H, W).
    """
    sides = np.tile(box[2:] - box[:2], 2)
    # More than are wanted: some overlap too little once all four edges have moved.
    tried = box + rng.uniform(-1 / 6, 1 / 6, (10 * settings.shifted, 4)) * sides
    tried = box_ops.clip(tried, size)
    fits = box_ops.iou(tried, np.asarray(box)[None])[:, 0] >= settings.positive_iou
    return tried[fits][: settings.shifted]


def background_order(
    truth: Annotations, proposals: Array, settings: OneClassSettings, rng: np.random.Generator
) -> Array:
    """Indices of background among proposals (N, 4), in order of use: one near an object and one far
    from all in turn, both shuffled.
    """
    which, best = match_to_objects(proposals, truth, settings.svm.negative_iou)
    near, far = (
        rng.permutation(np.flatnonzero(chosen & (which == BACKGROUND)))
        for chosen in (best >= settings.near_iou, best < settings.near_iou)
    )
    # Even turns are near, odd ones far; where one kind ends, the rest of the other follows.
    turn = np.concatenate([2 * np.arange(len(near)), 2 * np.arange(len(far)) + 1])
    return np.concatenate([near, far])[np.argsort(turn, kind="stable")]


@dataclass(frozen=True, eq=False)
class Described:
    """Features (N, F) of regions, with the image number (N,) of each."""

    features: Array
    image: Array

    @staticmethod
    def stacked(parts: Sequence[Array]) -> Described:
        """Stack the features (n, F) of images 0, 1, ..."""
        counts = [len(part) for part in parts]
        return Described(np.concatenate(parts), np.repeat(np.arange(len(parts)), counts))

    def of(self, rows: Array) -> Described:
        return Described(self.features[rows], self.image[rows])


def fit_one_class(
    positives: Described, first: Described, second: Described, settings: OneClassSettings
) -> LinearScores:
    """Fit a head on all examples, with scores calibrated by cross-validation over images.

    first, second  background of the two rounds

    Raises TrainingError where there is none, or where it or the objects are in too few images.
    """
    if not len(first.image):
        raise TrainingError(
            "no proposal is background: there is nothing to tell the class from; give photographs"
            " without it (--background)"
        )
    every = np.concatenate([positives.features, first.features, second.features])
    scale = settings.svm.target_norm / float(np.linalg.norm(every, axis=1).mean())
    parts = [Described(value.features * scale, value.image) for value in (positives, first, second)]
    margins, truth = [np.zeros(0)], [np.zeros(0, bool)]
    for fold in range(settings.folds):
        # By images: regions of one image are too alike for a test of the fit.
        training = [part.of(part.image % settings.folds != fold) for part in parts]
        left_out = [part.of(part.image % settings.folds == fold) for part in parts]
        if not (len(training[0].image) and len(training[1].image)):
            continue
        weight, bias = _fit_with_mining(training, settings.svm)
        for part in left_out:
            margins.append(part.features @ weight + bias)
            truth.append(np.full(len(part.image), part is left_out[0]))
    is_object = np.concatenate(truth)
    if not 0 < is_object.sum() < len(is_object):
        raise TrainingError(
            "the objects or the background are in too few images: scores are calibrated on images"
            " that the fit has not seen, so give more"
        )
    slope, offset = fit_logistic(np.concatenate(margins), is_object)
    weight, bias = _fit_with_mining(parts, settings.svm)
    row = (weight * scale).astype(np.float32)[None]  # a head takes unscaled features
    values = (np.array([value], np.float32) for value in (bias, slope, offset))
    return LinearScores(row, *values)


def _fit_with_mining(parts: Sequence[Described], settings: SvmSettings) -> tuple[Array, float]:
    positives, first, second = parts
    mining = HardNegativeMining(positives.features, settings)
    mining.partial_fit(first.features)
    mining.partial_fit(second.features)
    return mining.fit()
