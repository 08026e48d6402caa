"""The programs that compute COCO's numbers: pycocotools, and a compiled one that gives the same.

Both take the truth and the detections in COCO's own layout and give their accumulated arrays.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from detector.errors import SettingsError
from detector.structures import Array

CocoEngine = Literal["pycocotools", "fast"]
ENGINES: tuple[CocoEngine, ...] = get_args(CocoEngine)

Content = dict[str, list[Any]]


@dataclass(frozen=True, eq=False)
class Accumulated:
    """What every engine gives; -1 stands for a number that does not exist.

    statistics  (12,) in the order of pycocotools
    precision   (10, 101, K, 4, 3) IoU threshold, recall level, class, range of area, detections
    scores      the same shape: the score at which the recall is reached
    recalls     (101,) the recall levels
    """

    statistics: Array
    precision: Array
    scores: Array
    recalls: Array


def accumulate(truth: Content, found: Content, engine: CocoEngine = "pycocotools") -> Accumulated:
    """COCO's evaluation of `found` against `truth`; neither is kept."""
    if engine not in ENGINES:
        raise SettingsError(
            f"--coco-engine {engine!r} is not known; choose one of {', '.join(ENGINES)}"
        )
    run_engine = {"pycocotools": _pycocotools, "fast": _hotcoco}[engine]
    with contextlib.redirect_stdout(io.StringIO()):  # both print at every step
        run = run_engine(truth, found)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return Accumulated(
        np.asarray(run.stats, np.float64),
        np.asarray(run.eval["precision"]),
        np.asarray(run.eval["scores"]),
        np.asarray(run.params.recThrs, np.float64),
    )


def _pycocotools(truth: Content, found: Content) -> Any:
    from pycocotools.coco import COCO

    sides = []
    for content in (truth, found):
        side = COCO()
        side.dataset = content
        side.createIndex()
        sides.append(side)
    return _skipping_evaluation()(*sides, iouType="bbox")


def _skipping_evaluation() -> Callable[..., Any]:
    """pycocotools' evaluation without the visits that cannot change a number.

    It visits every image with every class and each of four ranges of area, whether or not there is
    anything: 1.6 million visits for 5,000 images and 80 classes. Where neither an object nor a
    detection has an area within the range, all of them are ignored, and an ignored detection adds
    a point to the curve at which neither precision nor recall changes.
    """
    from pycocotools.cocoeval import COCOeval

    class SkippingEvaluation(COCOeval):
        def evaluate(self) -> None:
            self._prepare()
            areas: dict[tuple[int, int], list[float]] = {}
            for side in (self._gts, self._dts):
                for pair, rows in side.items():
                    areas.setdefault(pair, []).extend(row["area"] for row in rows)
            images: dict[int, list[int]] = {category: [] for category in self.params.catIds}
            for image, category in sorted(areas):
                images[category].append(image)
            self.ious = {pair: self.computeIoU(*pair) for pair in areas}
            visited = [
                [
                    self.evaluateImg(image, category, bounds, self.params.maxDets[-1])
                    for image in images[category]
                    if any(bounds[0] <= area <= bounds[1] for area in areas[image, category])
                ]
                for category in self.params.catIds
                for bounds in self.params.areaRng
            ]
            # Accumulation wants equally long rows, and asks of an image no more than its place.
            longest = max(map(len, visited))
            self.evalImgs = [one for row in visited for one in _padded(row, longest)]
            self.params.imgIds = list(range(longest))
            self._paramsEval = self.params

    return SkippingEvaluation


def _padded(row: list[Any], length: int) -> list[Any]:
    return row + [None] * (length - len(row))


def _hotcoco(truth: Content, found: Content) -> Any:
    try:
        from hotcoco import COCO, COCOeval
    except ImportError:
        raise SettingsError(
            "--coco-engine fast needs hotcoco, which is not installed: pip install "
            "'inception-rcnn[fast-coco]', or choose pycocotools"
        ) from None
    objects = COCO(truth)
    rows = [
        (one["image_id"], *one["bbox"], one["score"], one["category_id"])
        for one in found["annotations"]
    ]
    detections = objects.load_res(np.array(rows, np.float64).reshape(-1, 7))
    return COCOeval(objects, detections, "bbox")
