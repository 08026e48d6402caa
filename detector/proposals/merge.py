"""The type of every source of regions, and the union of several sources.

A proposer is a function of the image alone: the same pixels give the same regions, whatever it
proposed before.
"""

from collections.abc import Callable, Sequence

import numpy as np

from detector import boxes as box_ops
from detector.errors import ProposalError
from detector.structures import Array, Proposals

# Image (H, W, 3) uint8 RGB -> Proposals, best first.
Proposer = Callable[[Array], Proposals]


# Limit of the distance from the image, in image sides; rounding and padding stay far below.
FAR = 100.0


def check_near(proposals: Proposals, label: str = "proposals") -> None:
    """Raise ProposalError where a box lies so far outside its image that it is no region of it."""
    boxes, side = proposals.boxes, max(proposals.size)
    # + 1: the image's own far border is a side away from 0.
    far = (np.abs(boxes) > (FAR + 1) * side).any(1) if len(boxes) else np.zeros(0, bool)
    if far.any():
        row = int(far.argmax())
        raise ProposalError(
            f"{label}: box {row} is {boxes[row].tolist()}, far outside its image of (H, W)"
            f" {proposals.size}; boxes are (x1, y1, x2, y2) in pixels of the upright image"
        )


def whole_image(size: tuple[int, int]) -> Array:
    """The whole image as a box (1, 4); always proposed, so that every image has a region."""
    height, width = size
    return np.array([[0, 0, width, height]], np.float32)


def proposals_in_order(
    boxes: Array, size: tuple[int, int], max_boxes: int | None = None
) -> Proposals:
    """Proposals from boxes in rank order: clipped, without repetitions, with the whole image.

    The whole image comes first where the boxes do not contain it. Boxes narrower than one pixel
    after clipping are dropped.
    """
    boxes = box_ops.clip(np.asarray(boxes, np.float32).reshape(-1, 4), size)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)]
    image = whole_image(size)
    # Rounded, since boxes that were scaled back may miss the border by a fraction.
    if not len(boxes) or not (np.round(boxes) == image).all(1).any():
        boxes = np.concatenate([image, boxes])
    boxes = boxes[box_ops.unique(boxes)]
    if max_boxes is not None and len(boxes) > max_boxes:
        first = boxes[:max_boxes]
        if not (np.round(first) == image).all(1).any():
            first = np.concatenate([first[:-1], image])
        boxes = first
    return Proposals(boxes, size)


def proposals_by_score(
    boxes: Array, scores: Array, size: tuple[int, int], max_boxes: int | None = None
) -> Proposals:
    """Proposals from (N, 4) boxes and scores (N,), best first; otherwise as
    `proposals_in_order`.

    The whole image comes last where the boxes do not contain it, with the lowest score (or 0).
    """
    scores = np.asarray(scores, np.float32)
    boxes = box_ops.clip(np.asarray(boxes, np.float32).reshape(-1, 4), size)
    order = np.argsort(-scores, kind="stable")  # an unstable sort may differ between machines
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
    """Union of several proposers, with interleaved ranks (first of each, second of each, ...).

    So the first N of the union hold the best of every source, whatever N is; of boxes that are
    equal after rounding the better ranked stays.
    """

    def propose(image: Array) -> Proposals:
        return interleave([propose_one(image) for propose_one in proposers])

    return propose


def interleave(lists: Sequence[Proposals]) -> Proposals:
    """The proposals of one image from several lists: the first of each, the second of each, ..."""
    rank = np.concatenate([np.arange(len(proposals)) for proposals in lists])
    boxes = np.concatenate([proposals.boxes for proposals in lists])
    return proposals_in_order(boxes[np.argsort(rank, kind="stable")], lists[0].size)
