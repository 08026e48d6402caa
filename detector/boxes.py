"""Box geometry and conversions between conventions.

Boxes are float xyxy pixels, x2 and y2 exclusive; readers and writers convert every other convention
with the functions at the end. Arrays are (N, 4) unless noted; nothing is modified in place.
"""

import numpy as np

from detector.structures import Array


def area(boxes: Array) -> Array:
    """Areas (N,) in square pixels; float64, so that sums of many are exact enough."""
    boxes = np.asarray(boxes, np.float64)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def iou(boxes: Array, other: Array) -> Array:
    """Intersection over union (the Jaccard index) of (N, 4) and (M, 4) boxes: (N, M) float64."""
    boxes, other = np.asarray(boxes, np.float64), np.asarray(other, np.float64)
    shared = intersection(boxes, other)
    union = area(boxes)[:, None] + area(other)[None, :] - shared
    # Boxes clipped to nothing have no area, and two of them a union of 0.
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def iou_xywh(boxes: Array, other: Array) -> Array:
    """IoU of boxes given as x, y, width, height: (N, M) float64, in the steps of pycocotools.

    Computed from corners, the sides have rounding errors, and an IoU of exactly a half becomes
    less.
    """
    boxes, other = np.asarray(boxes, np.float64), np.asarray(other, np.float64)
    low = np.maximum(boxes[:, None, :2], other[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    sides = np.clip(high - low, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    union = (boxes[:, 2] * boxes[:, 3])[:, None] + (other[:, 2] * other[:, 3])[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def intersection(boxes: Array, other: Array) -> Array:
    """Shared area of (N, 4) and (M, 4) boxes: (N, M) float64."""
    boxes, other = np.asarray(boxes, np.float64), np.asarray(other, np.float64)
    low = np.maximum(boxes[:, None, :2], other[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], other[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    return sides[..., 0] * sides[..., 1]


def clip(boxes: Array, size: tuple[int, int]) -> Array:
    """Clip boxes to an image of `size` (H, W). A box wholly outside gets an area of 0."""
    height, width = size
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(np.asarray(boxes, np.float32), 0, limit)


def unique(boxes: Array) -> Array:
    """Indices of the first of each set of boxes that are equal after rounding to a pixel."""
    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    rounded = np.round(np.asarray(boxes, np.float64)).astype(np.int64)
    _, first = np.unique(rounded, axis=0, return_index=True)
    return np.sort(first)  # np.unique sorts by coordinates; the order of the boxes is their rank


def nms(boxes: Array, scores: Array, threshold: float) -> Array:
    """Greedy non-maximum suppression: indices of the boxes that stay, best first.

    A box is suppressed if its IoU with a better one that stays is *above* `threshold`; ties keep
    their order, so the result never depends on the sort's implementation.
    """
    boxes = np.asarray(boxes, np.float64)
    areas = area(boxes)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    keep = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(best)
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        order = order[shared <= threshold * (areas[best] + areas[order] - shared)]
    return np.array(keep, np.int64)


def vote(centres: Array, boxes: Array, scores: Array, threshold: float) -> Array:
    """Box voting: replace each of `centres` (M, 4) by the mean of boxes (N, 4), weighted by scores.

    The mean is over boxes with an IoU of at least `threshold` (Gidaris and Komodakis, ICCV 2015,
    section 4.2: 0.5). Returns (M, 4) float64; without any positive score, a box stays.
    """
    weight = (iou(centres, boxes) >= threshold) * np.asarray(scores, np.float64)[None]
    total = weight.sum(1, keepdims=True)
    voted = weight @ np.asarray(boxes, np.float64)
    return np.divide(voted, total, out=np.array(centres, np.float64), where=total > 0)


def flip_horizontally(boxes: Array, width: int) -> Array:
    """Mirror boxes in an image of this width."""
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).T
    return np.stack([width - x2, y1, width - x1, y2], axis=1).astype(np.float32)


# The edges: functions for each convention that files are read or written in.


def xyxy_from_voc(boxes: Array) -> Array:
    """Convert from PASCAL VOC: (xmin, ymin, xmax, ymax), 1-based and inclusive."""
    return np.asarray(np.asarray(boxes, np.float64) - np.array([1, 1, 0, 0]))


def voc_from_xyxy(boxes: Array) -> Array:
    return np.asarray(np.asarray(boxes, np.float64) + np.array([1, 1, 0, 0]))


def xyxy_from_ilsvrc(boxes: Array) -> Array:
    """Convert from ILSVRC: (xmin, ymin, xmax, ymax), 0-based and inclusive.

    Its devkit adds a pixel to every width, and its public readers subtract nothing.
    """
    return np.asarray(np.asarray(boxes, np.float64) + np.array([0, 0, 1, 1]))


def ilsvrc_from_xyxy(boxes: Array) -> Array:
    return np.asarray(np.asarray(boxes, np.float64) - np.array([0, 0, 1, 1]))


def xyxy_from_coco(boxes: Array) -> Array:
    """Convert from COCO: (x, y, width, height), 0-based, continuous."""
    boxes = np.asarray(boxes, np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def coco_from_xyxy(boxes: Array) -> Array:
    boxes = np.asarray(boxes, np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xyxy_from_yolo(boxes: Array, size: tuple[int, int]) -> Array:
    """Convert from YOLO: centre x, centre y, width, height as fractions of `size` (H, W)."""
    height, width = size
    boxes = np.asarray(boxes, np.float64) * [width, height, width, height]
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def reachable(sides: Array, sizes: Array, least: float, longest: float | None) -> Array:
    """Mask (N,) of objects that some proposal can overlap with an IoU of a half.

    Proposals, except the whole image, have no side under `least` after the image is shrunk to
    `longest`.

    sides  (N, 2) width and height of the objects;  sizes  (N, 2) (H, W) of their images
    """
    # The whole image is always a proposal, however small it is.
    shrunk = np.minimum(1, (longest or np.inf) / sizes.max(1))[:, None]
    objects, images = sides * shrunk, sizes[:, ::-1] * shrunk
    area = objects.prod(1)
    best = np.where(
        (images >= least).all(1), area / np.maximum(objects, least).prod(1), area / images.prod(1)
    )
    return np.asarray(np.maximum(best, area / images.prod(1)) >= 0.5)
