"""Recall and AP by size and shape of the objects.

Sizes in pixels are COCO's (32 x 32, 96 x 96); relative ones are shares of the image; shapes are
width over height.
"""

from typing import NamedTuple

import numpy as np

from detector.boxes import area
from detector.evaluation.protocols.matching import RIGHT, WRONG, Matching
from detector.evaluation.protocols.rules import mean_ap
from detector.structures import Array

EDGES: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "size": (("small", "medium", "large"), (32.0**2, 96.0**2)),
    "share": (
        ("up to 1 %", "1 to 5 %", "5 to 25 %", "over 25 %"), (0.01, 0.05, 0.25),
    ),
    "shape": (
        ("below 1/2", "1/2 to 4/5", "4/5 to 5/4", "5/4 to 2", "2 and more"), (0.5, 0.8, 1.25, 2.0),
    ),
}  # fmt: skip
_MIN_SIDE = 1e-6  # a detection without area has a shape, too


class Slice(NamedTuple):
    """Objects of one size or shape.

    recall     the share found with any score;  recall_at  with at least the operating threshold
    mean_ap    objects outside the slice, and false alarms whose box is outside it, do not count
               (COCO's way); NaN without objects
    """

    by: str
    name: str
    objects: int
    recall: float
    recall_at: float
    mean_ap: float


def slices_of(matching: Matching, threshold: float) -> tuple[Slice, ...]:
    """All slices in order; shares of the image only if all image sizes are known."""
    objects = matching.objects
    found_area = area(matching.boxes)
    measures = {
        "size": (objects.areas, found_area),
        "share": (
            area(objects.boxes) / matching.image_areas[objects.images],
            found_area / matching.image_areas[matching.images],
        ),
        "shape": (_shape(objects.boxes), _shape(matching.boxes)),
    }
    rows: list[Slice] = []
    for by, (names, edges) in EDGES.items():
        of_objects, of_found = measures[by]
        if np.isnan(of_objects).any() or np.isnan(of_found).any():
            continue
        # A size on an edge is in the larger slice.
        mine, theirs = (np.searchsorted(edges, one, side="right") for one in (of_objects, of_found))
        rows += [
            _slice(matching, threshold, by, name, mine == place, theirs == place)
            for place, name in enumerate(names)
        ]
    return tuple(rows)


def _slice(
    matching: Matching, threshold: float, by: str, name: str, mine: Array, theirs: Array
) -> Slice:
    """`mine` (G,) and `theirs` (D,) say which objects and which detections are in the slice."""
    objects = matching.objects
    counted = objects.counted & mine
    found, found_at = matching.finder >= 0, matching.found_at(threshold)
    on_mine = np.zeros(len(matching.own), bool)
    right = matching.verdicts == RIGHT
    on_mine[right] = mine[matching.own[right]]
    judged = on_mine | ((matching.verdicts == WRONG) & theirs)
    count = int(counted.sum())
    return Slice(
        by,
        name,
        count,
        float(found[counted].mean()) if count else float("nan"),
        float(found_at[counted].mean()) if count else float("nan"),
        mean_ap(matching.labels[judged], right[judged], matching.positives(mine)),
    )


def _shape(boxes: Array) -> Array:
    boxes = np.asarray(boxes, np.float64)
    width, height = np.maximum(boxes[:, 2:] - boxes[:, :2], _MIN_SIDE).T
    return np.asarray(width / height)
