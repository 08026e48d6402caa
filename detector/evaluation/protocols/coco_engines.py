"""The programs that compute COCO's numbers: pycocotools, and a compiled one that gives the same.

Both take the truth and the detections in COCO's own layout and give their accumulated arrays.
"""

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

MAX_DETS = 100  # COCO's own limit

Content = dict[str, list[Any]]


@dataclass(frozen=True, eq=False)
class Accumulated:
    """The arrays of an engine; -1 stands for a number that does not exist.

    statistics  (12,) in the order of pycocotools; its AR100 is that of `max_dets`
    precision   (10, 101, K, 4, 3) IoU threshold, recall level, class, range of area, detections
    scores      the same shape: the score at which the recall is reached
    recalls     (101,) the recall levels
    """

    statistics: Array
    precision: Array
    scores: Array
    recalls: Array


def check_engine(name: str) -> CocoEngine:
    """The engine of that name, or a SettingsError with the names that would do."""
    for engine in ENGINES:
        if engine == name:
            return engine
    raise SettingsError(f"coco_engine {name!r} is not known; choose one of {', '.join(ENGINES)}")


def accumulate(
    truth: Content, found: Content, engine: CocoEngine = "pycocotools", max_dets: int = MAX_DETS
) -> Accumulated:
    """COCO's evaluation of `found` against `truth`; neither is kept.

    max_dets  detections of a class that count in an image, the best ones
    """
    run_engine = {"pycocotools": _pycocotools, "fast": _hotcoco}[check_engine(engine)]
    with contextlib.redirect_stdout(io.StringIO()):  # both print at every step
        run = run_engine(truth, found)
        # COCO's 1 and 10, unless the limit is lower.
        run.params.maxDets = [min(1, max_dets), min(10, max_dets), max_dets]
        run.evaluate()
        run.accumulate()
    return Accumulated(
        _statistics(np.asarray(run.eval["precision"]), np.asarray(run.eval["recall"])),
        np.asarray(run.eval["precision"]),
        np.asarray(run.eval["scores"]),
        np.asarray(run.params.recThrs, np.float64),
    )


# As pycocotools' summarize() makes the twelve numbers, which knows 100 detections only. Precision
# is (10, 101, K, 4, 3) and recall (10, K, 4, 3), -1 where a class has no object.
def _statistics(precision: Array, recall: Array) -> Array:
    def mean(values: Array) -> float:
        there = values[values > -1]
        return float(np.mean(there)) if there.size else -1.0

    # Of the ten thresholds, 0 is IoU 0.5 and 5 is 0.75.
    precisions = [precision[:, :, :, 0, 2], precision[[0], :, :, 0, 2], precision[[5], :, :, 0, 2]]
    precisions += [precision[:, :, :, size, 2] for size in (1, 2, 3)]
    recalls = [recall[:, :, 0, most] for most in (0, 1, 2)]
    recalls += [recall[:, :, size, 2] for size in (1, 2, 3)]
    return np.array([mean(one) for one in (*precisions, *recalls)])


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
    from pycocotools.cocoeval import COCOeval

    # pycocotools visits every image with every class and each of four ranges of area, whether or
    # not there is anything: 1.6 million visits for 5,000 images and 80 classes. Those that cannot
    # change a number are left out.
    class SkippingEvaluation(COCOeval):  # type: ignore[misc]  # which has no types
        def evaluate(self) -> None:
            self._prepare()
            areas: dict[tuple[int, int], list[float]] = {}
            for side in (self._gts, self._dts):
                for pair, rows in side.items():
                    areas.setdefault(pair, []).extend(row["area"] for row in rows)
            self.ious = {pair: self.computeIoU(*pair) for pair in areas}
            visited: dict[int, list[list[Any]]] = {
                category: [[] for _ in self.params.areaRng] for category in self.params.catIds
            }
            for image, category in sorted(areas):
                found = self._visits(image, category, areas[image, category])
                for row, one in zip(visited[category], found, strict=True):
                    row.append(one)
            self._lay_out([row for rows in visited.values() for row in rows])

        def _visits(self, image: int, category: int, areas: list[float]) -> list[Any]:
            # A visit depends on the range only by which areas lie within it, so that two ranges
            # with the same ones share a visit. Where there is none within, everything is ignored,
            # and an ignored detection adds a point to the curve at which neither precision nor
            # recall changes.
            known: dict[tuple[bool, ...], Any] = {}
            found = []
            for low, high in self.params.areaRng:
                # COCO's ranges share their edges: an area of 32 x 32 is small and medium.
                within = tuple(low <= area <= high for area in areas)
                if any(within) and within not in known:
                    known[within] = self.evaluateImg(
                        image, category, [low, high], self.params.maxDets[-1]
                    )
                found.append(known.get(within))
            return found

        def _lay_out(self, rows: list[list[Any]]) -> None:
            # accumulate() wants them equally long, one place for each image.
            longest = max(map(len, rows))
            self.evalImgs = [one for row in rows for one in row + [None] * (longest - len(row))]
            self.params.imgIds = list(range(longest))
            self._paramsEval = self.params  # those by which accumulate() reads evalImgs

    return SkippingEvaluation


def _hotcoco(truth: Content, found: Content) -> Any:
    try:
        from hotcoco import COCO, COCOeval
    except ImportError:
        raise SettingsError(
            "coco_engine=fast needs hotcoco, which is not installed: pip install hotcoco,"
            " or choose pycocotools"
        ) from None
    objects = COCO(truth)
    rows = [
        # The columns of pycocotools' arrays of results.
        (one["image_id"], *one["bbox"], one["score"], one["category_id"])
        for one in found["annotations"]
    ]
    detections = objects.load_res(np.array(rows, np.float64).reshape(-1, 7))
    return COCOeval(objects, detections, "bbox")
