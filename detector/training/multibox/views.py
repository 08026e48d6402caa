"""Views of images, the examples of a box proposer, and the objects in them.

A view is a part of an image, perhaps mirrored, stretched to the network's square; boxes are
fractions of the view's sides. Parts hold most of at least one object (Szegedy et al., arXiv
1412.1441, train on such crops; the coverage 0.7 and the limits of area and aspect are those of the
public trainer gvanhorn38/multibox).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import Field

from detector import boxes as box_ops
from detector.structures import Array
from detector.training.classifier.patches import PartSettings, draw_patch

_TRIES = 20


class ViewSettings(PartSettings):
    """Limits of the part of an image that a view shows."""

    whole_share: float = Field(0.5, ge=0, le=1)
    """So many of the views that are drawn show the whole image, as at inference."""
    min_area: float = Field(0.5, gt=0, le=1)
    min_aspect: float = Field(0.7, gt=0)
    max_aspect: float = Field(1.4, gt=0)
    min_object_covered: float = Field(0.7, ge=0, le=1)
    """A view shows at least so much of at least one object, where the image has any."""
    keep_covered: float = Field(0.5, gt=0, le=1)
    """An object of which less is in view does not count as one."""


class View(NamedTuple):
    """A part of an image.

    window  (4,) xyxy, fractions of the image
    mirror  whether left and right are exchanged
    boxes   (M, 4) xyxy of the objects in view, clipped to it, fractions of the mirrored view
    """

    window: Array
    mirror: bool
    boxes: Array


def whole_view(boxes: Array, mirror: bool = False) -> View:
    """The view of a whole image whose objects are (M, 4) fractions of it."""
    window = np.array([0.0, 0.0, 1.0, 1.0])
    return _make_view(window, mirror, boxes, 0.0)


def draw_view(
    boxes: Array,
    size: tuple[int, int],
    settings: ViewSettings,
    rng: np.random.Generator,
    flip: bool = True,
) -> View:
    """Draw a part of an image of `size` (H, W) whose objects are (M, 4) fractions of it.

    Falls back to the whole image where twenty tries cover no object enough. Without `flip` the
    parts are the same, but never mirrored.
    """
    height, width = size
    mirror = bool(rng.random() < 0.5) and flip
    for _ in range(_TRIES):
        patch = draw_patch(size, settings, rng)
        corners = [patch.x, patch.y, patch.x + patch.width, patch.y + patch.height]
        window = np.array(corners) / [width, height, width, height]
        covered = _covered(boxes, window)
        if not len(boxes) or covered.max() >= settings.min_object_covered:
            return _make_view(window, mirror, boxes, settings.keep_covered)
    return whole_view(boxes, mirror)


def _covered(boxes: Array, window: Array) -> Array:
    """The share (M,) of each box inside the window."""
    shared = box_ops.intersection(boxes, window[None])[:, 0] if len(boxes) else np.zeros(0)
    return shared / box_ops.area(boxes) if len(boxes) else shared


def _make_view(window: Array, mirror: bool, boxes: Array, keep_covered: float) -> View:
    visible = np.asarray(boxes, np.float64).reshape(-1, 4)
    visible = visible[_covered(visible, window) >= keep_covered]
    corner, sides = window[[0, 1, 0, 1]], (window[2:] - window[:2])[[0, 1, 0, 1]]
    visible = np.clip((visible - corner) / sides, 0, 1)
    if mirror:
        visible = np.stack([1 - visible[:, 2], visible[:, 1], 1 - visible[:, 0], visible[:, 3]], 1)
    return View(window, mirror, visible)
