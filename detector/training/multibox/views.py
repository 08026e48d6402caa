"""What a box proposer learns from: views of whole images, and the objects in them.

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
    """Which part of an image a view shows."""

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
    """All of an image whose objects are (M, 4) fractions of it."""
    window = np.array([0.0, 0.0, 1.0, 1.0])
    return _seen(window, mirror, boxes, 0.0)


def draw_view(
    boxes: Array,
    size: tuple[int, int],
    settings: ViewSettings,
    rng: np.random.Generator,
    flip: bool = True,
) -> View:
    """A part of an image of `size` (H, W) whose objects are (M, 4) fractions of it.

    Where twenty tries cover no object enough, it is the whole image. Without `flip` it is the same
    part, never mirrored.
    """
    height, width = size
    mirror = bool(rng.random() < 0.5) and flip
    for _ in range(_TRIES):
        patch = draw_patch(size, settings, rng)
        corners = [patch.x, patch.y, patch.x + patch.width, patch.y + patch.height]
        window = np.array(corners) / [width, height, width, height]
        covered = _covered(boxes, window)
        if not len(boxes) or covered.max() >= settings.min_object_covered:
            return _seen(window, mirror, boxes, settings.keep_covered)
    return whole_view(boxes, mirror)


def _covered(boxes: Array, window: Array) -> Array:
    """(M,) the share of each box inside the window."""
    shared = box_ops.intersection(boxes, window[None])[:, 0] if len(boxes) else np.zeros(0)
    return shared / box_ops.area(boxes) if len(boxes) else shared


def _seen(window: Array, mirror: bool, boxes: Array, keep_covered: float) -> View:
    kept = np.asarray(boxes, np.float64).reshape(-1, 4)
    kept = kept[_covered(kept, window) >= keep_covered]
    corner, sides = window[[0, 1, 0, 1]], (window[2:] - window[:2])[[0, 1, 0, 1]]
    kept = np.clip((kept - corner) / sides, 0, 1)
    if mirror:
        kept = np.stack([1 - kept[:, 2], kept[:, 1], 1 - kept[:, 0], kept[:, 3]], 1)
    return View(window, mirror, kept)
