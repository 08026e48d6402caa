"""Batches of views for a box proposer: crops drawn anew, or cached maps of a fixed set.

A fully annotated image has `views_per_image` in the fixed set: the image, its mirror image (with
augment.flip=false the image again), then parts. View 0 is not distorted, as at inference. Their
maps of a frozen trunk are cached (feature_cache.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from detector.errors import ImageError
from detector.settings import Settings
from detector.structures import Array
from detector.training.classifier.patch_batches import Stream
from detector.training.engine.checkpoint import digest_of
from detector.training.engine.feature_cache import FeatureCache
from detector.training.multibox.views import Views


class ViewBankSettings(Settings):
    """Number of views kept of each image."""

    views_per_image: int = Field(3, ge=1)
    partial_views: int = Field(1, ge=1)
    """Views of images where only some classes are annotated."""


class ViewBatch(NamedTuple):
    """One process's part of a batch of B views.

    inputs    (B, ...) crops, or maps of the trunk
    boxes     B times (M, 4) fractions of the view
    complete  (B,) bool: every object in view is annotated
    learnt    (B,) bool: False where the image could not be read
    replay    the data that repeat the batch, as JSON
    """

    inputs: Tensor
    boxes: list[Array]
    complete: Tensor
    learnt: Tensor
    replay: dict[str, object]


@dataclass(frozen=True, eq=False)
class FixedViews:
    """N views in the order of their images.

    counts   (images,) views of each image; 0 where it cannot be read
    image    (N,) which image
    number   (N,) which of its views
    """

    views: Views
    counts: Array
    image: Array
    number: Array

    @classmethod
    def of(cls, views: Views, settings: ViewBankSettings) -> FixedViews:
        wanted = np.array([settings.partial_views, settings.views_per_image])
        images = range(len(views.dataset))
        counts = np.array([wanted[int(views.complete(i))] * views.readable(i) for i in images], int)
        image = np.repeat(np.arange(len(counts)), counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        return cls(views, counts, image, np.arange(len(image)) - first)

    def digest(self) -> str:
        """A hash of all that decides the views: the images and the number of views of each."""
        return digest_of([self.views.digest()], self.counts)

    def __len__(self) -> int:
        return len(self.image)

    def crops(self, image: int) -> Tensor:
        """All views of one image, (count, 3, S, S)."""
        crops = torch.zeros(int(self.counts[image]), 3, self.views.size, self.views.size)
        for number in range(len(crops)):
            view = self.views.kept(image, number)
            crops[number] = self.views.crop(image, number, view, distorted=number > 0)
        return crops

    def boxes(self, index: int) -> Array:
        """The objects (M, 4) in one view."""
        return self.views.kept(int(self.image[index]), int(self.number[index])).boxes


@dataclass
class CachedExamples:
    """Batches of cached maps of a fixed set of views."""

    fixed: FixedViews
    maps: FeatureCache
    stream: Stream

    def __call__(self, step: int) -> ViewBatch:
        rows = self.stream.at(self.stream.positions(step))
        complete = [self.fixed.views.complete(int(self.fixed.image[row])) for row in rows]
        # All are learnt from: an image that could not be read has no views here.
        return ViewBatch(
            self.maps.read(rows), [self.fixed.boxes(row) for row in rows],
            torch.tensor(complete), torch.ones(len(rows), dtype=torch.bool),
            {"seed": self.stream.seed, "views": rows.tolist()},
        )  # fmt: skip


@dataclass
class DrawnExamples:
    """Batches of crops of views that are drawn anew each epoch."""

    views: Views
    stream: Stream

    def __call__(self, step: int) -> ViewBatch:
        views, positions = self.views, self.stream.positions(step)
        images = self.stream.at(positions)
        crops = torch.zeros(len(images), 3, views.size, views.size)
        boxes, learnt = [np.zeros((0, 4))] * len(images), np.zeros(len(images), bool)
        paths = [views.dataset.samples[image].path for image in images]
        for row, (image, position) in enumerate(zip(images, positions, strict=True)):
            try:
                view = views.drawn(int(image), int(position))
                crops[row] = views.crop(int(image), int(position), view)
            except ImageError as error:
                views.broken[paths[row]] = str(error)
                continue
            boxes[row], learnt[row] = view.boxes, True
        complete = torch.tensor([views.complete(int(image)) for image in images])
        replay: dict[str, object] = {
            "seed": self.stream.seed,
            "positions": positions.tolist(),
            "files": [str(path) for path in paths],
        }
        return ViewBatch(crops, boxes, complete, torch.from_numpy(learnt), replay)
