"""A fixed set of views of a data set, whose maps of a frozen trunk are cached (feature_cache.py).

A fully annotated image has `views_per_image`: the image, its mirror image (with
augment.flip=false the image again), then parts. View 0 is not distorted, as at inference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from detector.settings import Settings
from detector.structures import Array
from detector.training.engine.checkpoint import digest_of
from detector.training.multibox.view_batches import Views


class ViewBankSettings(Settings):
    """Number of views kept of each image."""

    views_per_image: int = Field(3, ge=1)
    partial_views: int = Field(1, ge=1)
    """Of images where only some classes are annotated."""


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
        samples = views.dataset.samples
        counts = np.array(
            [
                0 if not views.readable(i)
                else settings.views_per_image if sample.annotated is None
                else settings.partial_views
                for i, sample in enumerate(samples)
            ], np.int64,
        )  # fmt: skip
        image = np.repeat(np.arange(len(samples)), counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        return cls(views, counts, image, np.arange(len(image)) - first)

    def digest(self) -> str:
        """A hash of what decides the views: the images and the number of views of each."""
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
