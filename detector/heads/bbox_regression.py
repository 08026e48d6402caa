"""Bounding-box regression: one ridge regression a class (Girshick et al. 2014, appendix C;
constants of rcnn_train_bbox_regressor.m).

It predicts deltas from a region's features: the shift of the centre in units of the region's sides,
and the logarithm of the ratio of the sides.
"""

import numpy as np
from pydantic import Field

from detector.settings import Settings
from detector.structures import Array

# Departs from the paper: a limit of the log ratio of sides, since an outlier would overflow
# (Detectron's value).
LARGEST_LOG = float(np.log(1000 / 16))


class RegressionSettings(Settings):
    """R-CNN's constants."""

    least_iou: float = Field(0.6, gt=0, lt=1)
    """A region is an example for its best object if their IoU is above this."""
    ridge: float = Field(1000.0, gt=0)
    target_norm: float = Field(20.0, gt=0)
    """Mean norm to which features are scaled, so that the ridge fits every network."""


def encode_deltas(boxes: Array, objects: Array) -> Array:
    """Deltas (N, 4), (dx, dy, log dw, log dh), from boxes (N, 4) to objects (N, 4)."""
    centre, sides = _centre_and_sides(boxes)
    goal, goal_sides = _centre_and_sides(objects)
    return np.concatenate([(goal - centre) / sides, np.log(goal_sides / sides)], 1)


def apply_deltas(boxes: Array, deltas: Array, size: tuple[int, int]) -> Array:
    """Apply deltas (N, K, 4) to boxes (N, 4) and clip to `size` (H, W): (N, K, 4) float32.

    A box with less than one pixel a side left inside the image stays as it was.
    """
    centre, sides = _centre_and_sides(boxes)
    deltas = np.asarray(deltas, np.float64)
    middle = centre[:, None] + deltas[..., :2] * sides[:, None]
    half = sides[:, None] * np.exp(np.clip(deltas[..., 2:], -LARGEST_LOG, LARGEST_LOG)) / 2
    limit = np.array([size[1], size[0]], np.float64)
    low, high = np.clip(middle - half, 0, limit), np.clip(middle + half, 0, limit)
    moved = np.concatenate([low, high], -1).astype(np.float32)
    lost = np.any(moved[..., 2:] - moved[..., :2] < 1, axis=-1, keepdims=True)
    return np.where(lost, np.asarray(boxes, np.float32)[:, None], moved)


def fit_regression(
    features: Array, wanted: Array, settings: RegressionSettings
) -> tuple[Array, Array]:
    """Fit weight (4, F) and bias (4,) to targets (N, 4) on scaled features (N, F).

    The targets are centred, the bias is a constant feature and regularised as the others are, the
    normal equations are solved by Cholesky.
    """
    from scipy.linalg import cho_factor, cho_solve

    # R-CNN also whitens the targets and undoes it in the weights: one ridge for all cancels that.
    mean = wanted.mean(0)
    design = np.concatenate([features.astype(np.float64), np.ones((len(features), 1))], 1)
    normal = design.T @ design + settings.ridge * np.eye(design.shape[1])
    solution = cho_solve(cho_factor(normal), design.T @ (wanted - mean))
    return solution[:-1].T, solution[-1] + mean


def _centre_and_sides(boxes: Array) -> tuple[Array, Array]:
    boxes = np.asarray(boxes, np.float64)
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
