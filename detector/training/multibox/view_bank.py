"""A fixed set of views of a data set, and their maps of a frozen trunk (trunk_cache.py).

Of an image whose objects are all annotated there are `views_per_image`: the image, its mirror
image (with augment.flip=false: itself once more), then parts. View 0 is not distorted, for
inference sees images so.
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
    """How many views of each image are kept."""

    views_per_image: int = Field(3, ge=1)
    partial_views: int = Field(1, ge=1)
    """Of images where only some classes are annotated."""


@dataclass(frozen=True, eq=False)
class FixedViews:
    """N views, image by image.

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
        """A hash of what decides the views: images, how many of each, and its annotated boxes."""
        return digest_of([self.views.digest()], self.counts)

    def __len__(self) -> int:
        return len(self.image)

    def crops(self, image: int) -> Tensor:
        """(count, 3, S, S): all views of one image."""
        made = torch.zeros(int(self.counts[image]), 3, self.views.size, self.views.size)
        for number in range(len(made)):
            view = self.views.kept(image, number)
            made[number] = self.views.crop(image, number, view, distorted=number > 0)
        return made

    def boxes(self, place: int) -> Array:
        """(M, 4) the objects in one view."""
        return self.views.kept(int(self.image[place]), int(self.number[place])).boxes
