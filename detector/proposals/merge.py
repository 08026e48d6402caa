"""The seam behind which every source of regions stands, and the joining of several.

A proposer is a function of the image alone: the same pixels give the same regions, whatever was
proposed before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detector import boxes as box_ops
from detector.errors import ProposalError
from detector.structures import Array, Proposals

Proposer = Callable[[Array], Proposals]
"""Image (H, W, 3) uint8 RGB -> Proposals, best first."""


FAR = 100.0
"""Sides of an image from it: what a proposer, rounding or padding puts there is nearer."""


def check_near(proposals: Proposals, label: str = "proposals") -> None:
    """ProposalError where a box reaches far beyond its image: it is no region of that."""
    boxes, side = proposals.boxes, max(proposals.size)
    far = (np.abs(boxes) > (FAR + 1) * side).any(1) if len(boxes) else np.zeros(0, bool)
    if far.any():
        row = int(far.argmax())
        raise ProposalError(
            f"{label}: box {row} is {boxes[row].tolist()}, far outside its image of (H, W)"
            f" {proposals.size}; boxes are (x1, y1, x2, y2) in pixels of the upright image"
        )


def whole_image(size: tuple[int, int]) -> Array:
    """(1, 4): the box that is always proposed, so that no image is without a region."""
    height, width = size
    return np.array([[0, 0, width, height]], np.float32)


def ranked(boxes: Array, size: tuple[int, int], max_boxes: int | None = None) -> Proposals:
    """Proposals from boxes in rank order: clipped, without repetitions, the whole image among them.

    The whole image comes first where the boxes do not hold it. Boxes that clipping leaves with less
    than one pixel a side are dropped.
    """
    boxes = box_ops.clip(np.asarray(boxes, np.float32).reshape(-1, 4), size)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)]
    image = whole_image(size)
    if not len(boxes) or not (np.round(boxes) == image).all(1).any():
        boxes = np.concatenate([image, boxes])
    boxes = boxes[box_ops.unique(boxes)]
    if max_boxes is not None and len(boxes) > max_boxes:
        kept = boxes[:max_boxes]
        if not (np.round(kept) == image).all(1).any():
            kept = np.concatenate([kept[:-1], image])
        boxes = kept
    return Proposals(boxes, size)


def with_scores(
    boxes: Array, scores: Array, size: tuple[int, int], max_boxes: int | None = None
) -> Proposals:
    """Proposals from (N, 4) boxes and scores (N,), best first; otherwise as `ranked`.

    The whole image comes last where the boxes do not hold it, with the least score (0 of none).
    """
    scores = np.asarray(scores, np.float32)
    boxes = box_ops.clip(np.asarray(boxes, np.float32).reshape(-1, 4), size)
    order = np.argsort(-scores, kind="stable")
    order = order[((boxes[order, 2:] - boxes[order, :2]) >= 1).all(1)]
    order = order[box_ops.unique(boxes[order])][:max_boxes]
    boxes, scores = boxes[order], scores[order]
    image = whole_image(size)
    if not (np.round(boxes) == image).all(1).any():
        room = len(boxes) if max_boxes is None else max_boxes - 1
        boxes, scores = np.concatenate([boxes[:room], image]), scores[:room]
        scores = np.append(scores, scores[-1] if len(scores) else np.float32(0))
    return Proposals(boxes, size, scores)


def union(*proposers: Proposer) -> Proposer:
    """Propose what any of them proposes: the ranks interleaved (first of each, second of each,
    ...).

    With interleaving, the first N of the union hold the best of every source, whatever N is; of
    boxes that agree after rounding the better ranked stays.
    """

    def propose(image: Array) -> Proposals:
        found = [propose_one(image) for propose_one in proposers]
        rank = np.concatenate([np.arange(len(one)) for one in found])
        boxes = np.concatenate([one.boxes for one in found])
        return ranked(boxes[np.argsort(rank, kind="stable")], found[0].size)

    return propose
