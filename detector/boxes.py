"""Boxes are float xyxy pixels, x2 and y2 exclusive; every other convention is converted here, at
the edge.

Arrays are (N, 4) unless said otherwise; nothing is modified in place.
"""

from __future__ import annotations

import numpy as np

from detector.structures import Array


def area(boxes: Array) -> Array:
    """(N,) areas in pixels squared; float64, so that sums of many are exact enough."""
    boxes = np.asarray(boxes, np.float64)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def iou(one: Array, other: Array) -> Array:
    """Intersection over union (the Jaccard index) of (N, 4) and (M, 4) boxes: (N, M) float64."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    shared = intersection(one, other)
    union = area(one)[:, None] + area(other)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def iou_xywh(one: Array, other: Array) -> Array:
    """IoU of boxes given as x, y, width, height: (N, M) float64, in the steps of pycocotools.

    By corners alone the sides come back with an error of rounding, and an IoU of exactly a half
    becomes less.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum((one[:, :2] + one[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    sides = np.clip(high - low, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    union = (one[:, 2] * one[:, 3])[:, None] + (other[:, 2] * other[:, 3])[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def intersection(one: Array, other: Array) -> Array:
    """Shared area of (N, 4) and (M, 4) boxes: (N, M) float64."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    return sides[..., 0] * sides[..., 1]


def clip(boxes: Array, size: tuple[int, int]) -> Array:
    """Boxes cut to an image of `size` (H, W). A box wholly outside comes back with no area."""
    height, width = size
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(np.asarray(boxes, np.float32), 0, limit)


def unique(boxes: Array) -> Array:
    """Indices of the first of each set of boxes that agree after rounding to a pixel, in the given
    order.
    """
    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    rounded = np.round(np.asarray(boxes, np.float64)).astype(np.int64)
    _, first = np.unique(rounded, axis=0, return_index=True)
    return np.sort(first)


def nms(boxes: Array, scores: Array, threshold: float) -> Array:
    """Greedy non-maximum suppression: indices kept, best first.

    A box goes if its IoU with a better kept one is *above* `threshold`; equal scores keep their
    given order, so the result never depends on the sort's implementation.
    """
    boxes = np.asarray(boxes, np.float64)
    areas = area(boxes)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        order = order[shared <= threshold * (areas[best] + areas[order] - shared)]
    return np.array(kept, np.int64)


def vote(kept: Array, boxes: Array, scores: Array, threshold: float) -> Array:
    """Each kept box (M, 4) becomes the mean of the boxes (N, 4) around it, weighted by scores (N,).

    Around it are those with an IoU of at least `threshold` (Gidaris and Komodakis, ICCV 2015,
    section 4.2: 0.5). Returns (M, 4) float64; a kept box without any score around it stays.
    """
    weight = (iou(kept, boxes) >= threshold) * np.asarray(scores, np.float64)[None]
    total = weight.sum(1, keepdims=True)
    voted = weight @ np.asarray(boxes, np.float64)
    return np.divide(voted, total, out=np.array(kept, np.float64), where=total > 0)


def flip_horizontally(boxes: Array, width: int) -> Array:
    """The boxes of the mirrored image."""
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).T
    return np.stack([width - x2, y1, width - x1, y2], axis=1).astype(np.float32)


# --- edges: one pair of functions a convention
# -----------------------------------------------------------------------


def xyxy_from_voc(boxes: Array) -> Array:
    """PASCAL VOC writes (xmin, ymin, xmax, ymax), 1-based and inclusive."""
    return np.asarray(boxes, np.float64) - np.array([1, 1, 0, 0])


def voc_from_xyxy(boxes: Array) -> Array:
    return np.asarray(boxes, np.float64) + np.array([1, 1, 0, 0])


def xyxy_from_ilsvrc(boxes: Array) -> Array:
    """ILSVRC writes (xmin, ymin, xmax, ymax), 0-based and inclusive: its devkit adds a pixel to
    every width, and its public readers subtract nothing.
    """
    return np.asarray(boxes, np.float64) + np.array([0, 0, 1, 1])


def ilsvrc_from_xyxy(boxes: Array) -> Array:
    return np.asarray(boxes, np.float64) - np.array([0, 0, 1, 1])


def xyxy_from_coco(boxes: Array) -> Array:
    """COCO writes (x, y, width, height), 0-based, continuous."""
    boxes = np.asarray(boxes, np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def coco_from_xyxy(boxes: Array) -> Array:
    boxes = np.asarray(boxes, np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xyxy_from_yolo(boxes: Array, size: tuple[int, int]) -> Array:
    """YOLO writes centre x, centre y, width, height as fractions of the image of `size` (H, W)."""
    height, width = size
    boxes = np.asarray(boxes, np.float64) * [width, height, width, height]
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def yolo_from_xyxy(boxes: Array, size: tuple[int, int]) -> Array:
    height, width = size
    boxes = np.asarray(boxes, np.float64)
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([centre, sides], axis=1) / [width, height, width, height]


def xyxy_from_matlab(boxes: Array) -> Array:
    """The selective-search and R-CNN `.mat` files write (ymin, xmin, ymax, xmax), 1-based and
    inclusive.
    """
    return xyxy_from_voc(np.asarray(boxes, np.float64)[:, [1, 0, 3, 2]])


def matlab_from_xyxy(boxes: Array) -> Array:
    return voc_from_xyxy(boxes)[:, [1, 0, 3, 2]]


def reachable(sides: Array, sizes: Array, least: float, longest: float | None) -> Array:
    """(N,) bool: whether any proposal can overlap an object by half, if none but that of the whole
    image has a side under `least` after the image is shrunk to `longest`.

    sides  (N, 2) width and height of the objects;  sizes  (N, 2) (H, W) of their images
    """
    shrunk = np.minimum(1, (longest or np.inf) / sizes.max(1))[:, None]
    objects, images = sides * shrunk, sizes[:, ::-1] * shrunk
    area = objects.prod(1)
    best = np.where(
        (images >= least).all(1), area / np.maximum(objects, least).prod(1), area / images.prod(1)
    )
    return np.asarray(np.maximum(best, area / images.prod(1)) >= 0.5)
