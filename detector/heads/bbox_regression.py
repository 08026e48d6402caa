"""Moving a region onto its object: one ridge regression a class (Girshick et al. 2014, appendix C;
numbers of rcnn_train_bbox_regressor.m).

From a region's features it predicts the shift of the centre in units of the region's sides and the
logarithm of the change of the sides.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from detector.settings import Settings
from detector.structures import Array

LARGEST_LOG = float(np.log(1000 / 16))
"""Departs from the paper: a side changes at most so much, or a wild prediction would overflow."""


class RegressionSettings(Settings):
    """R-CNN's numbers."""

    least_iou: float = Field(0.6, gt=0, lt=1)
    """A region learns from its best object if they overlap by more than this."""
    ridge: float = Field(1000.0, gt=0)
    target_norm: float = Field(20.0, gt=0)
    """Mean norm of the features, by which the ridge is measured."""


def encode_deltas(boxes: Array, objects: Array) -> Array:
    """(N, 4) of (dx, dy, log dw, log dh) that move boxes (N, 4) onto objects (N, 4)."""
    centre, sides = _centre_and_sides(boxes)
    goal, goal_sides = _centre_and_sides(objects)
    return np.concatenate([(goal - centre) / sides, np.log(goal_sides / sides)], 1)


def apply_deltas(boxes: Array, deltas: Array, size: tuple[int, int]) -> Array:
    """Boxes (N, 4) moved by (N, K, 4), cut to an image of `size` (H, W): (N, K, 4) float32.

    A box that would leave the image, or keep less than one pixel of it, stays where it was.
    """
    centre, sides = _centre_and_sides(boxes)
    deltas = np.asarray(deltas, np.float64)
    middle = centre[:, None] + deltas[..., :2] * sides[:, None]
    half = sides[:, None] * np.exp(np.clip(deltas[..., 2:], -LARGEST_LOG, LARGEST_LOG)) / 2
    limit = np.array([size[1], size[0]], np.float64)
    low, high = np.clip(middle - half, 0, limit), np.clip(middle + half, 0, limit)
    found = np.concatenate([low, high], -1).astype(np.float32)
    lost = np.any(found[..., 2:] - found[..., :2] < 1, axis=-1, keepdims=True)
    return np.where(lost, np.asarray(boxes, np.float32)[:, None], found)


def fit_regression(
    features: Array, wanted: Array, settings: RegressionSettings
) -> tuple[Array, Array]:
    """Weight (4, F) and bias (4,) that predict targets (N, 4) from scaled features (N, F).

    The targets are centred, the bias is one more feature and under the ridge as the others are, the
    normal equations are solved by Cholesky. R-CNN whitens the targets besides and takes that back
    from the weights: with one ridge for all four it cancels out.
    """
    from scipy.linalg import cho_factor, cho_solve

    mean = wanted.mean(0)
    design = np.concatenate([features.astype(np.float64), np.ones((len(features), 1))], 1)
    normal = design.T @ design + settings.ridge * np.eye(design.shape[1])
    found = cho_solve(cho_factor(normal), design.T @ (wanted - mean))
    return found[:-1].T, found[-1] + mean


def _centre_and_sides(boxes: Array) -> tuple[Array, Array]:
    boxes = np.asarray(boxes, np.float64)
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
