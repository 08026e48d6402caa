"""`SelectiveSearch`, the proposer: image in, proposals out."""

from typing import Any

import numpy as np

from detector.errors import ImageError, SettingsError
from detector.hardware import usable_cores
from detector.images.decoding import check_pixels
from detector.proposals.merge import proposals_by_score
from detector.proposals.selective_search import engine, learned_ranking, ranking
from detector.proposals.selective_search.engine import StrategyResult
from detector.proposals.selective_search.regions import Regions
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.workspace import BufferPool
from detector.settings import validate
from detector.structures import Array, Proposals

MAX_PIXELS = 64_000_000  # the decoder's own limit, for arrays that never passed it


class SelectiveSearch:
    """Uijlings et al., IJCV 2013: segment, merge the most similar neighbours, propose all boxes.

        search = SelectiveSearch(preset="fast", superpixel_scale=2.0, seed=0)
        proposals = search(image)      # image (H, W, 3) uint8 RGB

    The keywords are those of SelectiveSearchSettings. The result is a function of the image and the
    settings: the number of `threads` (None: as many as processors) changes only the time.
    """

    def __init__(self, *, threads: int | None = None, **settings: Any) -> None:
        self.settings = validate(SelectiveSearchSettings, settings, "selective search")
        self.threads = _threads(threads)
        self._pool = BufferPool()

    @property
    def derived_settings(self) -> dict[str, str]:
        """Inputs beside the settings that determine the order: weights of the learned ranking."""
        learned = self.settings.ranking == "learned"
        return {"learned_ranking": learned_ranking.fingerprint()} if learned else {}

    def __call__(self, image: Array) -> Proposals:
        return self.regions(image).proposals

    def regions(self, image: Array) -> Regions:
        """Propose, and return the superpixels and merge trees as well, for masks."""
        searched, size = self._search(image)
        return Regions.of(searched, self._rank(searched, size), size, image.shape[:2])

    def proposals_with_scores(self, image: Array) -> Proposals:
        """Propose with scores: the log-odds of the learned ranking, up to a constant, best first.

        At most `max_boxes`; near-duplicates keep the rank of their score.
        """
        boxes, table = self.box_features(image)
        scores = learned_ranking.shipped().scores(table)
        size = (image.shape[0], image.shape[1])
        return proposals_by_score(boxes, scores, size, self.settings.max_boxes)

    def box_features(self, image: Array) -> tuple[Array, Array]:
        """Distinct boxes (N, 4) in the image's pixels and their features (N, 15) for the learned
        ranking: all boxes, whatever `max_boxes` says.
        """
        searched, size = self._search(image)
        boxes = np.concatenate([result.hierarchy.boxes for result in searched])
        first, table = self._distinct(searched, boxes, size)
        factor = [image.shape[1] / size[1], image.shape[0] / size[0]] * 2
        return boxes[first] * factor, table

    def _search(self, image: Array) -> tuple[list[StrategyResult], tuple[int, int]]:
        """Run the strategies until there are `stop_at` boxes; return their results and the size
        (H, W) of the computation.
        """
        check_pixels(image)
        small = _shrink(image, self.settings.longest_side)
        size = (small.shape[0], small.shape[1])
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageError(
                f"selective search at {size[1]} x {size[0]} pixels: "
                f"at most {MAX_PIXELS:,} are searched; set longest_side"
            )
        searched: list[StrategyResult] = []
        for wave in engine.hierarchies(small, self.settings, self.threads, self._pool):
            searched += wave
            if self.settings.stop_at is not None:
                boxes = np.concatenate([strategy.hierarchy.boxes for strategy in searched])
                distinct = np.unique(boxes[self._within_limits(boxes, size)], axis=0)
                # Whole colour spaces only: the result must not depend on which thread was first.
                if len(distinct) >= self.settings.stop_at:
                    break
        return searched, size

    def _within_limits(self, boxes: Array, size: tuple[int, ...]) -> Array:
        """Indices of boxes that are neither too narrow nor too large, and of the whole image."""
        settings, (height, width) = self.settings, size
        sides = boxes[:, 2:] - boxes[:, :2]
        fits = (sides >= settings.min_box_side).all(1)
        fits &= sides.prod(1, dtype=np.int64) <= settings.max_area_fraction * height * width
        return np.flatnonzero(fits | (sides == [width, height]).all(1))

    def _distinct(
        self, searched: list[StrategyResult], boxes: Array, size: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """Indices (N,) of distinct boxes within the limits, and their features (N, 15)."""
        keep = self._within_limits(boxes, size)
        features = np.concatenate(
            [
                learned_ranking.region_features(result.hierarchy, result.strategy.terms, size)
                for result in searched
            ]
        )
        first, table = learned_ranking.merge_duplicates(boxes[keep], features[keep])
        return keep[first], table

    def _order(self, searched: list[StrategyResult], boxes: Array, size: tuple[int, ...]) -> Array:
        """Indices of the distinct boxes within the limits, best first."""
        if self.settings.ranking == "learned":
            first, table = self._distinct(searched, boxes, size)
            scores = learned_ranking.shipped().scores(table)
            return first[learned_ranking.order_by_score(boxes[first], scores)]
        keep = self._within_limits(boxes, size)
        seed, name = self.settings.seed, self.settings.ranking
        keys = np.concatenate(
            [
                ranking.sort_keys(str(result.strategy), result.hierarchy, seed, name)
                for result in searched
            ]
        )
        return keep[ranking.rank_distinct(boxes[keep], keys[keep])]

    def _rank(self, searched: list[StrategyResult], size: tuple[int, ...]) -> Array:
        """Rows (N, 2) of (strategy, region) for distinct boxes within the limits, best first."""
        boxes = np.concatenate([result.hierarchy.boxes for result in searched])
        order, most = self._order(searched, boxes, size), self.settings.max_boxes
        if most is not None and len(order) > most:
            whole = (boxes[order, 2:] - boxes[order, :2] == [size[1], size[0]]).all(1)
            # The whole image is always a proposal, so that every image has a region.
            order = (
                order[:most] if whole[:most].any() else np.append(order[: most - 1], order[whole])
            )
        counts = [len(result.hierarchy.boxes) for result in searched]
        strategies = np.repeat(np.arange(len(searched)), counts)
        regions = np.concatenate([np.arange(count) for count in counts])
        return np.stack([strategies, regions], 1)[order]


def _threads(count: int | None) -> int:
    if count is None:
        return usable_cores()
    if not isinstance(count, int) or count < 1:
        raise SettingsError(f"selective search: threads = {count}: a number, at least 1")
    return count


def _shrink(image: Array, longest_side: int | None) -> Array:
    height, width = image.shape[:2]
    if longest_side is None or max(height, width) <= longest_side:
        # Writeable too: numba compiles every kernel once more for read-only arrays.
        return np.require(image, requirements=["C", "W"])
    import cv2

    factor = longest_side / max(height, width)
    inner = max(1, round(width * factor)), max(1, round(height * factor))
    # INTER_AREA averages; other interpolations would alias into texture.
    return np.ascontiguousarray(
        cv2.resize(np.ascontiguousarray(image), inner, interpolation=cv2.INTER_AREA)
    )
