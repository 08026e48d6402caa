"""A second opinion on the boxes of another detector: each is classified as a region, and both
scores are fused.

A detector that sees the whole image finds things and mistakes them; a classifier that sees one crop
tells things apart and finds nothing (Cheng et al. 2018, "Revisiting RCNN", arXiv 1803.06799, which
multiplies the two).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from detector.boxes import clip
from detector.datasets import COCO_TO_VOC
from detector.detection.aggregate import RegionScores
from detector.detection.detector import Detector
from detector.detection.settings import REGION_WEIGHT
from detector.errors import DetectorError
from detector.images.inputs import ImageLike, to_pixels
from detector.structures import Array, Detections, Proposals


@dataclass(frozen=True, eq=False)
class FusedDetections(Detections):
    """Another detector's boxes; `scores` are the fused ones.

    score_detector  (N,) float32 of the detector that found them
    score_region    (N,) float32 of the region classifier; NaN of a class that it does not know
    """

    score_detector: Array = field(default_factory=lambda: np.zeros(0))
    score_region: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("score_detector", "score_region"):
            self._freeze(name, np.float32)

    def to_coco(
        self,
        image_id: int | str,
        file_name: str | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of COCO's results layout with both scores in each; null stands for none."""
        ranked = self[np.argsort(-self.scores.astype(np.float64), kind="stable")]
        rows = super(FusedDetections, ranked).to_coco(image_id, file_name, category_ids)
        for name in ("score_detector", "score_region"):
            for row, score in zip(rows, getattr(ranked, name).tolist(), strict=True):
                row[name] = None if score != score else round(score, 6)
        return rows


class SecondOpinion:
    """Classifies another detector's boxes and fuses the scores.

    detector  its settings' score_threshold is that of the fused scores; where it moves its regions,
              it moves these boxes, too. Nothing is suppressed: the other detector has done so
    classes   names of the other detector's classes; COCO's names for VOC's classes are known, too
    weight    of our score p of a box whose own score is s: the fused one is p^weight s^(1-weight)
    """

    def __init__(
        self, detector: Detector, classes: Sequence[str], weight: float = REGION_WEIGHT
    ) -> None:
        limits = {"max_proposals": None, "tile": None}
        settings = detector.settings.model_copy(update=limits)
        self.detector = replace(detector, settings=settings, budget=None)
        self.classes, self.weight = tuple(classes), weight
        known = {name: column for column, name in enumerate(detector.classes)}
        self.columns = np.array(
            [known.get(name, known.get(COCO_TO_VOC.get(name, ""), -1)) for name in self.classes],
            np.int64,
        )
        if len(self.columns) and (self.columns < 0).all():
            raise DetectorError(
                f"none of the classes of these boxes ({_some(self.classes)}) is one of the"
                f" weights' ({_some(detector.classes)}); take --weights of the same names"
            )

    @property
    def unknown(self) -> list[str]:
        """Names of the classes whose own scores stay, since the detector does not know them."""
        return [name for name, column in zip(self.classes, self.columns, strict=True) if column < 0]

    def outside(self, detections: Detections, size: tuple[int, int]) -> int:
        """The number of boxes without area in an image of `size` (H, W)."""
        return int((_distinct(detections, size)[1] < 0).sum())

    def regions(self, detections: Detections, size: tuple[int, int]) -> Proposals:
        """The distinct boxes of an image of `size` (H, W), clipped to it: what is to be scored."""
        return Proposals(_distinct(detections, size)[0], size)

    def fuse(self, scored: RegionScores, detections: Detections) -> FusedDetections:
        """Both scores of each box, best fused ones first; those below the threshold are left out,
        and boxes without area in the image.

        scored  of `regions` of the same boxes
        """
        regions, rows = _distinct(detections, scored.proposals.size)
        if not np.array_equal(regions, scored.proposals.boxes):
            raise DetectorError(
                "the scores belong to other boxes: one picture is there twice, with boxes of its"
                " own each; leave one out"
            )
        columns = self.columns[detections.labels]
        known = (rows >= 0) & (columns >= 0)
        region, boxes = (
            np.full(len(detections), np.nan),
            clip(detections.boxes, scored.proposals.size),
        )
        region[known] = scored.scores[rows[known], columns[known]]
        if scored.boxes.ndim == 3:  # each class has its own
            boxes[known] = scored.boxes[rows[known], columns[known]]
        fused = fuse_scores(detections.scores, region, self.weight)
        chosen = (rows >= 0) & (fused >= self.detector.settings.score_threshold)
        ranked = np.argsort(-fused, kind="stable")
        ranked = ranked[chosen[ranked]]
        return FusedDetections(
            boxes[ranked], fused[ranked], detections.labels[ranked], classes=self.classes,
            score_detector=detections.scores[ranked], score_region=region[ranked],
        )  # fmt: skip

    def __call__(self, image: ImageLike, detections: Detections) -> FusedDetections:
        pixels = to_pixels(image)
        regions = self.regions(detections, (pixels.shape[0], pixels.shape[1]))
        return self.fuse(self.detector.predict(pixels, regions), detections)


def fuse_scores(detector: Array, region: Array, weight: float) -> Array:
    """The weighted geometric mean (N,) float64 of two scores; where `region` is NaN, `detector`."""
    # A weighted sum of log-odds does as well on `val`, a sum of the scores worse.
    first, second = np.asarray(detector, np.float64), np.asarray(region, np.float64)
    return np.where(np.isnan(second), first, first ** (1 - weight) * second**weight)


def check_foreign(label: str, results: Mapping[str, Detections]) -> None:
    """Raise DetectorError for scores that are no probabilities and boxes that are no pixels."""
    if not any(map(len, results.values())):
        raise DetectorError(f"{label}: holds no detections, so that there is nothing to judge")
    scores = np.concatenate([detections.scores for detections in results.values()])
    if scores.min() < 0 or scores.max() > 1:
        raise DetectorError(
            f"{label}: scores from {scores.min():.4g} to {scores.max():.4g}; they are fused with"
            " probabilities, so that they must be from 0 to 1"
        )
    if max(float(detections.boxes.max(initial=0)) for detections in results.values()) <= 1:
        raise DetectorError(
            f"{label}: no box reaches beyond 1; they seem to be shares of the image, and COCO's"
            " bbox is x, y, width, height in pixels"
        )


def _distinct(detections: Detections, size: tuple[int, int]) -> tuple[Array, Array]:
    """The distinct clipped boxes (U, 4), and the row of each detection's among them (N,); -1 where
    nothing of it is in the image.
    """
    boxes = clip(detections.boxes, size)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    distinct, inverse = np.unique(boxes[inside], axis=0, return_inverse=True)
    rows = np.full(len(detections), -1, np.int64)
    rows[inside] = inverse.reshape(-1)
    return distinct, rows


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
