"""A new class from a few boxes: a one-against-rest SVM beside the softmax.

The network stays as it is, and so do the scores of its own classes. Examples are chosen image by
image (boxes first, crops later) in two rounds: objects with a first part of the background, then
the rest of the background, of which only hard negatives count.

Departs from the paper: with so few objects, R-CNN's "ground truth only" is too little. Positives
are also mirrored and shifted objects, and proposals that fit an object well.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import Field

from detector import boxes as box_ops
from detector.errors import TrainingError
from detector.heads.bbox_regression import (
    RegressionSettings,
    apply_deltas,
    encode_deltas,
    fit_regression,
)
from detector.heads.class_examples import ClassExamples
from detector.heads.linear import ClassHead
from detector.heads.platt_scaling import fit_logistic
from detector.heads.svm import HardNegativeMining, SvmSettings
from detector.matching import BACKGROUND, match_to_objects
from detector.settings import Settings
from detector.structures import Annotations, Array

MIN_BOXES = 5


class OneClassSettings(Settings):
    """Settings for the examples and the fit of a new class."""

    crops: int = Field(4000, ge=100)
    """Approximate limit of regions to classify."""
    whole_share: float = Field(0.5, gt=0, lt=1)
    """Share of the background in images all of whose proposals are classified, as a detector
    classifies them: only on these can detections be judged.
    """
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
    ridge: float = Field(100.0, gt=0)
    """Ridge of the box regression. R-CNN's 1000 is for hundreds of objects a class."""
    svm: SvmSettings = SvmSettings()


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples from one image.

    boxes     (N, 4) xyxy
    mirrored  (N,) bool: crops to be flipped
    deltas    (N, 4) to their objects, of a flipped crop to the flipped object
    """

    boxes: Array
    mirrored: Array
    deltas: Array


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
    objects = [np.zeros((0, 4))]
    for box in truth.boxes[truth.real]:
        fitting = proposals[box_ops.iou(proposals, box[None])[:, 0] >= settings.positive_iou]
        fitting = fitting[rng.permutation(len(fitting))[: settings.proposals]]
        around = np.concatenate([shifted_boxes(box, size, settings, rng), fitting])
        boxes += [np.stack([box, box]), around]
        mirrored += [np.array([False, True]), rng.random(len(around)) < 0.5]
        objects.append(np.repeat(box[None], 2 + len(around), 0))
    every, flipped = np.concatenate(boxes), np.concatenate(mirrored)
    deltas = encode_deltas(every, np.concatenate(objects))
    deltas[flipped, 0] *= -1
    return Examples(every, flipped, deltas)


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
class FittedClass:
    """A class's head, and what it was fitted on.

    folds     heads for a cross-validation: `folds[i % len(folds)]` has not seen image i; None where
              the other images have too little for a fit
    examples  those that determine the fit: objects, and background near the margin or beyond it
    """

    head: ClassHead
    folds: tuple[ClassHead | None, ...]
    examples: ClassExamples


def fit_one_class(examples: ClassExamples, settings: OneClassSettings) -> FittedClass:
    """Fit a head on all examples, with scores calibrated by cross-validation over images.

    Raises TrainingError where there is no background, or where it or the objects are in too few
    images.
    """
    if not len(examples.first):
        raise TrainingError(
            "no proposal is background: there is nothing to tell the class from; give photographs"
            " without it (--background)"
        )
    every = np.concatenate([part.features for part in examples.parts])
    scale = settings.svm.target_norm / float(np.linalg.norm(every, axis=1).mean())
    scaled = examples.scaled(scale)
    fits: list[Fit | None] = []
    margins, truth = [np.zeros(0)], [np.zeros(0, bool)]
    for fold in range(settings.folds):
        # By images: regions of one image are too alike for a test of the fit.
        training, left_out = scaled.fold(fold, settings.folds)
        if not (len(training.positives) and len(training.first)):
            fits.append(None)
            continue
        fit = _fit(training, settings)
        fits.append(fit)
        for part in left_out.parts:
            margins.append(part.features @ fit.weight + fit.bias)
            truth.append(np.full(len(part), part is left_out.positives))
    is_object = np.concatenate(truth)
    if not 0 < is_object.sum() < len(is_object):
        raise TrainingError(
            "the objects or the background are in too few images: scores are calibrated on images"
            " that the fit has not seen, so give more"
        )
    curve = fit_logistic(np.concatenate(margins), is_object)
    fit = _fit(scaled, settings)
    background = scaled.first.joined(scaled.second)
    near = background.features @ fit.weight + fit.bias >= settings.svm.evict_margin
    hard = examples.first.joined(examples.second).rows(near)
    none = hard.rows(np.zeros(0, np.int64))
    return FittedClass(
        _head(fit, scale, curve),
        tuple(one and _head(one, scale, curve) for one in fits),
        ClassExamples(examples.deltas, examples.positives, hard, none),
    )


def moved_boxes(head: ClassHead, boxes: Array, features: Array, size: tuple[int, int]) -> Array:
    """The regions (N, 4) of an image of `size` (H, W) as the class moves them: (N, 1, 4)."""
    return apply_deltas(boxes, (features @ head.box_weight.T + head.box_bias)[:, None], size)


class Fit(NamedTuple):
    """A margin (F,) and its bias, and a box regression (4, F) and its bias, on scaled features."""

    weight: Array
    bias: float
    box_weight: Array
    box_bias: Array


def _fit(examples: ClassExamples, settings: OneClassSettings) -> Fit:
    mining = HardNegativeMining(examples.positives.features, settings.svm)
    mining.partial_fit(examples.first.features)
    mining.partial_fit(examples.second.features)
    regression = RegressionSettings(ridge=settings.ridge)
    moves = fit_regression(examples.positives.features, examples.deltas, regression)
    return Fit(*mining.fit(), *moves)


def _head(fit: Fit, scale: float, curve: tuple[float, float]) -> ClassHead:
    row = (fit.weight * scale).astype(np.float32)[None]  # a head takes unscaled features
    bias, slope, offset = (np.array([value], np.float32) for value in (fit.bias, *curve))
    box_weight = (fit.box_weight * scale).astype(np.float32)
    return ClassHead(row, bias, slope, offset, box_weight, fit.box_bias.astype(np.float32))
