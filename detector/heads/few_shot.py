"""One class more, from a few boxes: a head beside the softmax, one against the rest.

The network stays as it is, so the other classes' scores do too. What is learnt from is chosen
image by image (boxes first, pixels later), in two rounds: objects with a first helping of
background, then further background of which only the hard part counts.

Departs from the paper: with so few objects, R-CNN's "ground truth only" is too little. Positives
are also mirrored and shifted objects and the proposals that fit an object well.
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
    """How a class is learnt from a few boxes."""

    crops: int = Field(3000, ge=100)
    """At most about so many regions go through the network: 90 seconds on two laptop cores."""
    positive_iou: float = Field(0.7, gt=0.5, lt=1)
    """Shifted boxes and proposals that overlap an object by at least this are positives."""
    shifted: int = Field(4, ge=0)
    """Shifted boxes of each object."""
    proposals: int = Field(4, ge=0)
    """Proposals of each object."""
    first_share: float = Field(0.4, gt=0, lt=1)
    """Of the background: what the first fit sees; the rest is searched for hard negatives."""
    near_iou: float = Field(0.1, gt=0, lt=0.3)
    """Half of the background overlaps an object by at least this: its parts, its surroundings."""
    folds: int = Field(3, ge=2)
    """Scores are calibrated on images that the fit has not seen, a third at a time."""
    svm: SvmSettings = SvmSettings()


@dataclass(frozen=True, eq=False)
class Examples:
    """Regions of one image to learn from.

    boxes     (N, 4), and
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
    """Each object of the class, its mirror image, shifted ones, and proposals (N, 4) that fit it.

    `truth` has the objects of the class alone; `difficult` ones and crowds are passed over.
    """
    found = [np.zeros((0, 4))]
    mirrored = [np.zeros(0, bool)]
    for box in truth.boxes[truth.real]:
        fitting = proposals[box_ops.iou(proposals, box[None])[:, 0] >= settings.positive_iou]
        fitting = fitting[rng.permutation(len(fitting))[: settings.proposals]]
        around = np.concatenate([shifted(box, size, settings, rng), fitting])
        found += [np.stack([box, box]), around]
        mirrored += [np.array([False, True]), rng.random(len(around)) < 0.5]
    return Examples(np.concatenate(found), np.concatenate(mirrored))


def shifted(
    box: Array, size: tuple[int, int], settings: OneClassSettings, rng: np.random.Generator
) -> Array:
    """(n, 4): `box` (4,) with each edge moved by up to a sixth of its side, at IoU >= positive_iou,
    inside an image of `size` (H, W).
    """
    sides = np.tile(box[2:] - box[:2], 2)
    tried = box + rng.uniform(-1 / 6, 1 / 6, (10 * settings.shifted, 4)) * sides
    tried = box_ops.clip(tried, size)
    fits = box_ops.iou(tried, np.asarray(box)[None])[:, 0] >= settings.positive_iou
    return tried[fits][: settings.shifted]


def background_order(
    truth: Annotations, proposals: Array, settings: OneClassSettings, rng: np.random.Generator
) -> Array:
    """Rows of proposals (N, 4) that are background, in the order in which to use them: by turns one
    near an object and one far from all, each kind shuffled.
    """
    which, best = match_to_objects(proposals, truth, settings.svm.negative_iou)
    near, far = (
        rng.permutation(np.flatnonzero(chosen & (which == BACKGROUND)))
        for chosen in (best >= settings.near_iou, best < settings.near_iou)
    )
    turn = np.concatenate([2 * np.arange(len(near)), 2 * np.arange(len(far)) + 1])
    return np.concatenate([near, far])[np.argsort(turn, kind="stable")]


@dataclass(frozen=True, eq=False)
class Described:
    """Regions as features (N, F), with the number (N,) of the image of each."""

    features: Array
    image: Array

    @staticmethod
    def stacked(parts: Sequence[Array]) -> Described:
        """Of images 0, 1, ..., the features (n, F) of each."""
        counts = [len(part) for part in parts]
        return Described(np.concatenate(parts), np.repeat(np.arange(len(parts)), counts))

    def of(self, rows: Array) -> Described:
        return Described(self.features[rows], self.image[rows])


def fit_one_class(
    positives: Described, first: Described, second: Described, settings: OneClassSettings
) -> LinearScores:
    """The head: fitted on all, its scores calibrated on images that were left out by turns.

    first, second  the background of the two rounds

    TrainingError where there is none, or where it or the objects are in too few images.
    """
    if not len(first.image):
        raise TrainingError(
            "no proposal is background: there is nothing to tell the class from; give photographs"
            " without it (--background)"
        )
    every = np.concatenate([positives.features, first.features, second.features])
    scale = settings.svm.target_norm / float(np.linalg.norm(every, axis=1).mean())
    parts = [Described(one.features * scale, one.image) for one in (positives, first, second)]
    margins, truth = [np.zeros(0)], [np.zeros(0, bool)]
    for fold in range(settings.folds):
        seen = [part.of(part.image % settings.folds != fold) for part in parts]
        left_out = [part.of(part.image % settings.folds == fold) for part in parts]
        if not (len(seen[0].image) and len(seen[1].image)):
            continue
        weight, bias = _mined(seen, settings.svm)
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
    weight, bias = _mined(parts, settings.svm)
    row = (weight * scale).astype(np.float32)[None]
    values = (np.array([one], np.float32) for one in (bias, slope, offset))
    return LinearScores(row, *values)


def _mined(parts: Sequence[Described], settings: SvmSettings) -> tuple[Array, float]:
    positives, first, second = parts
    mining = HardNegativeMining(positives.features, settings)
    mining.partial_fit(first.features)
    mining.partial_fit(second.features)
    return mining.fit()
