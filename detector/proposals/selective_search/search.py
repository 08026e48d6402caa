"""The front door: image in, proposals out."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.errors import ImageError, SettingsError
from detector.hardware import usable_cores
from detector.images.decoding import check_pixels
from detector.proposals.merge import with_scores
from detector.proposals.selective_search import engine, learned_ranking, ranking
from detector.proposals.selective_search.engine import Found
from detector.proposals.selective_search.regions import Regions
from detector.proposals.selective_search.settings import SelectiveSearchSettings, validated
from detector.proposals.selective_search.workspace import BufferPool
from detector.structures import Array, Proposals

MAX_PIXELS = 64_000_000


class SelectiveSearch:
    """Uijlings et al., IJCV 2013: segment, group the most alike neighbours, propose all boxes met.

        search = SelectiveSearch(preset="fast", superpixel_scale=2.0, seed=0)
        proposals = search(image)      # image (H, W, 3) uint8 RGB

    The keywords are those of SelectiveSearchSettings. The result is a function of the image and the
    settings: the number of `threads` (None: as many as processors) changes only the time.
    """

    def __init__(self, *, threads: int | None = None, **settings: Any) -> None:
        self.settings = validated(settings)
        self.threads = _threads(threads)
        self._shelf = BufferPool()

    @classmethod
    def of(cls, settings: SelectiveSearchSettings, threads: int | None = None) -> SelectiveSearch:
        """From settings that were made elsewhere."""
        return cls(threads=threads, **settings.model_dump(exclude_unset=True))

    @property
    def beside_settings(self) -> dict[str, str | int]:
        """What decides the boxes and their order beside the settings: the weights of the learned
        ranking, and how an early stop counts. Caches of before either was known are those of the
        first weights, and of searches that do not stop early.
        """
        found: dict[str, str | int] = {}
        if self.settings.ranking == "learned":
            found |= learned_ranking.other_weights()
        if self.settings.stop_at is not None:
            found["stops"] = 2
        return found

    def __call__(self, image: Array) -> Proposals:
        return self.regions(image).proposals

    def regions(self, image: Array) -> Regions:
        """The proposals together with the superpixels and merge trees that they come from, for
        masks.
        """
        found, size = self._searched(image)
        return Regions.of(found, self._ranked(found, size), size, image.shape[:2])

    def scored(self, image: Array) -> Proposals:
        """The boxes (the best `max_boxes` of them) with the learned ranking's log-odds of being an
        object (up to a constant) as their scores, best first, near-duplicates in their places.
        """
        boxes, table = self.described(image)
        scores = learned_ranking.shipped().scores(table)
        size = (image.shape[0], image.shape[1])
        return with_scores(boxes, scores, size, self.settings.max_boxes)

    def described(self, image: Array) -> tuple[Array, Array]:
        """Distinct boxes (N, 4) in the image's pixels, and the numbers (N, 15) by which the learned
        ranking judges them: all of them, for `max_boxes` takes the best of an order.
        """
        found, size = self._searched(image)
        boxes = np.concatenate([one.hierarchy.boxes for one in found])
        kept = self._within_limits(boxes, size)
        first, table = learned_ranking.distinct(boxes[kept], self._numbers(found, size)[kept])
        factor = [image.shape[1] / size[1], image.shape[0] / size[0]] * 2
        return boxes[kept][first] * factor, table

    def _searched(self, image: Array) -> tuple[list[Found], tuple[int, int]]:
        """What each strategy finds, until there are `stop_at` boxes, and the size (H, W) at which
        it was searched.
        """
        check_pixels(image)
        small = _shrunk(image, self.settings.longest_side)
        size = (small.shape[0], small.shape[1])
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageError(
                f"selective search at {size[1]} x {size[0]} pixels: "
                f"at most {MAX_PIXELS:,} are searched; set longest_side"
            )
        found: list[Found] = []
        for wave in engine.hierarchies(small, self.settings, self.threads, self._shelf):
            found += wave
            if self.settings.stop_at is not None:
                boxes = np.concatenate([one.hierarchy.boxes for one in found])
                distinct = np.unique(boxes[self._within_limits(boxes, size)], axis=0)
                if len(distinct) >= self.settings.stop_at:
                    break
        return found, size

    def _within_limits(self, boxes: Array, size: tuple[int, ...]) -> Array:
        """Places of the boxes that are neither too narrow nor too large, and of the whole image."""
        settings, (height, width) = self.settings, size
        sides = boxes[:, 2:] - boxes[:, :2]
        fits = (sides >= settings.min_box_side).all(1)
        fits &= sides.prod(1, dtype=np.int64) <= settings.max_area_fraction * height * width
        return np.flatnonzero(fits | (sides == [width, height]).all(1))

    def _numbers(self, found: list[Found], size: tuple[int, ...]) -> Array:
        return np.concatenate(
            [learned_ranking.numbers(one.hierarchy, one.strategy.terms, size) for one in found]
        )

    def _ranked(self, found: list[Found], size: tuple[int, ...]) -> Array:
        """(N, 2) rows (strategy, region) of distinct boxes that pass the limits, best first."""
        settings, (height, width) = self.settings, size
        boxes = np.concatenate([one.hierarchy.boxes for one in found])
        counts = [len(one.hierarchy.boxes) for one in found]
        rows = np.stack(
            [
                np.repeat(np.arange(len(found)), counts),
                np.concatenate([np.arange(n) for n in counts]),
            ],
            1,
        )
        whole = (boxes[:, 2:] - boxes[:, :2] == [width, height]).all(1)
        kept = self._within_limits(boxes, size)
        order = kept[self._order(found, boxes, kept, size)]
        if settings.max_boxes is not None and len(order) > settings.max_boxes:
            first = order[: settings.max_boxes]
            if not whole[first].any():  # the whole image is always a proposal
                first = np.append(first[:-1], order[whole[order]])
            order = first
        return rows[order]

    def _order(self, found: list[Found], boxes: Array, kept: Array, size: tuple[int, ...]) -> Array:
        """Places in `kept` of the distinct boxes among those regions, best first."""
        if self.settings.ranking == "learned":
            numbers = self._numbers(found, size)
            first, table = learned_ranking.distinct(boxes[kept], numbers[kept])
            scores = learned_ranking.shipped().scores(table)
            return first[learned_ranking.ordered(boxes[kept][first], scores)]
        seed, name = self.settings.seed, self.settings.ranking
        keys = np.concatenate(
            [ranking.positions(str(one.strategy), one.hierarchy, seed, name) for one in found]
        )
        return ranking.merged(boxes[kept], keys[kept])


def _threads(count: int | None) -> int:
    if count is None:
        return usable_cores()
    if not isinstance(count, int) or count < 1:
        raise SettingsError(f"selective search: threads = {count}: a number, at least 1")
    return count


def _shrunk(image: Array, longest_side: int | None) -> Array:
    """The image, area-averaged to `longest_side` if it is larger; contiguous."""
    height, width = image.shape[:2]
    if longest_side is None or max(height, width) <= longest_side:
        # writeable too: for a read-only type of array every kernel would be compiled once more
        return np.require(image, requirements=["C", "W"])
    import cv2

    factor = longest_side / max(height, width)
    inner = max(1, round(width * factor)), max(1, round(height * factor))
    return np.ascontiguousarray(
        cv2.resize(np.ascontiguousarray(image), inner, interpolation=cv2.INTER_AREA)
    )
