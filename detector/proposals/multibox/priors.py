"""MultiBox's prior boxes, to which its predictions are residuals (arXiv 1312.2249, section 3).

Free priors are the centres of K clusters of annotated boxes, corners in fractions of the image.
Priors on grids (arXiv 1412.1441) are the same few shapes in every cell: 8 x 8, 6 x 6, 4 x 4, 3 x 3
and 2 x 2 cells of 11 shapes, and one prior for the whole image, 11 * 129 + 1 = 1,420.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from detector import boxes as box_ops
from detector.errors import SettingsError
from detector.structures import Array

GRIDS = (8, 6, 4, 3, 2)
# Priors of each cell.
SHAPES = 11
# Lower limit of the measured deviations; google/multibox uses it for all priors.
MIN_DEVIATION = 0.01


@dataclass(frozen=True, eq=False)
class Priors:
    """K prior boxes with the deviation of objects from them.

    boxes      (K, 4) float32 xyxy in [0, 1]
    deviation  (K, 4) float32, above 0: a prediction is boxes + deviation * location
    grids      cells along a side, finest first; empty for free priors
    """

    boxes: Array
    deviation: Array
    grids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("boxes", "deviation"):
            value = np.ascontiguousarray(getattr(self, name), np.float32)
            object.__setattr__(self, name, value)
            if value.shape != (len(self.boxes), 4) or not np.isfinite(value).all():
                raise SettingsError(f"priors: {name} of shape {value.shape} is not finite (K, 4)")
        if not (self.deviation > 0).all():
            raise SettingsError("priors: deviations must be above 0")
        if self.grids and len(self) != count_on_grids(self.grids):
            raise SettingsError(
                f"priors: grids {self.grids} have {count_on_grids(self.grids)} places,"
                f" not {len(self)}"
            )

    def __len__(self) -> int:
        return len(self.boxes)


def count_on_grids(grids: tuple[int, ...]) -> int:
    """Number of priors on these grids, including the one of the whole image."""
    return SHAPES * sum(side * side for side in grids) + 1


def _checked(boxes: Array) -> Array:
    """Check (N, 4) boxes in fractions of their images: at least one, all with an area.

    Raises SettingsError.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not len(boxes):
        raise SettingsError("priors: there are no boxes to learn them from")
    good = np.isfinite(boxes).all(1) & (boxes >= 0).all(1) & (boxes <= 1).all(1)
    good &= (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise SettingsError(
            f"priors: box {row} is {boxes[row].tolist()}; expected corners in [0, 1] with x2 > x1"
            " and y2 > y1"
        )
    return boxes


def free_priors(boxes: Array, count: int, *, seed: int = 0) -> Priors:
    """Fit `count` priors by k-means over the corners of (N, 4) boxes in fractions of their images.

    Raises SettingsError where there are fewer distinct boxes than priors.
    """
    boxes = _checked(boxes)
    centres = _centres(boxes, count, seed)
    return _with_deviation(centres, boxes, np.arange(count), ())


def grid_priors(boxes: Array, *, grids: tuple[int, ...] = GRIDS, seed: int = 0) -> Priors:
    """Fit priors on grids to (N, 4) boxes in fractions of their images.

    Shapes come from k-means over log width and log height, the smallest eleven on the finest grid.
    Each shape is centred in every cell and clipped to the image. Raises SettingsError.
    """
    boxes = _checked(boxes)
    # Logarithms, so that twice as large and half as large are equally far.
    sides = np.log(boxes[:, 2:] - boxes[:, :2])
    centres = _centres(sides, SHAPES * len(grids), seed)
    # Their sum is the log of the area.
    shapes = np.exp(centres[np.argsort(centres.sum(1), kind="stable")])
    by_grid, kinds = [], []
    for position, grid in enumerate(grids):
        of_grid = shapes[position * SHAPES : (position + 1) * SHAPES]
        middle = (np.arange(grid) + 0.5) / grid
        y, x = np.meshgrid(middle, middle, indexing="ij")
        centre = np.stack([x, y], -1)[:, :, None]  # rows, columns, 1, xy
        cells = np.concatenate([centre - of_grid / 2, centre + of_grid / 2], -1)
        by_grid.append(cells.reshape(-1, 4))
        kinds.append(position * SHAPES + np.tile(np.arange(SHAPES), grid * grid))
    whole = np.array([[0.0, 0.0, 1.0, 1.0]])
    priors = np.clip(np.concatenate([*by_grid, whole]), 0, 1)
    kind = np.concatenate([*kinds, [SHAPES * len(grids)]])
    return _with_deviation(priors, boxes, kind, grids)


def _centres(points: Array, count: int, seed: int) -> Array:
    from sklearn.cluster import KMeans

    distinct = len(np.unique(points, axis=0))
    if not 1 <= count <= distinct:
        raise SettingsError(
            f"priors: {count} clusters of {distinct} different boxes; ask for at most {distinct},"
            " or give more boxes"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        centres: Array = KMeans(count, n_init=1, random_state=seed).fit(points).cluster_centers_
    return centres


def _with_deviation(priors: Array, boxes: Array, kind: Array, grids: tuple[int, ...]) -> Priors:
    """Measure the deviations of each kind of prior: root mean square of box - prior over the boxes
    whose best prior (by IoU) is of that kind, shrunk towards that of all boxes.
    """
    # A thousand boxes at a time bound the table of IoUs.
    best = np.concatenate(
        [box_ops.iou(boxes[i : i + 1000], priors).argmax(1) for i in range(0, len(boxes), 1000)]
    )
    square = (boxes - priors[best]) ** 2
    total = np.zeros((int(kind.max()) + 1, 4))
    np.add.at(total, kind[best], square)
    count = np.bincount(kind[best], minlength=len(total))[:, None]
    prior_count = 10  # as many boxes of the common deviation steady the rare kinds
    mean = (total + prior_count * square.mean(0)) / (count + prior_count)
    return Priors(priors, np.maximum(np.sqrt(mean), MIN_DEVIATION)[kind], grids)
