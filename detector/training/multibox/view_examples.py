"""Batches for a box proposer: cached maps of fixed views, or crops of views drawn anew.

The order is a function of (seed, step): a permutation in each epoch (patch_batches.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.errors import ImageError
from detector.structures import Array
from detector.training.classifier.patch_batches import Stream
from detector.training.engine.feature_cache import FeatureCache
from detector.training.multibox.view_bank import FixedViews
from detector.training.multibox.view_batches import Views


class ViewBatch(NamedTuple):
    """One process's part of a batch of B views.

    inputs    (B, ...) crops, or maps of the trunk
    boxes     B times (M, 4) fractions of the view
    complete  (B,) bool: every object in view is annotated
    learnt    (B,) bool: False where the image could not be read
    replay    what repeats the batch, as JSON
    """

    inputs: Tensor
    boxes: list[Array]
    complete: Tensor
    learnt: Tensor
    replay: dict[str, object]


def positions_of(step: int, batch: int, rank: int, world_size: int) -> Array:
    """The positions in the stream that one process takes at a step."""
    return np.arange(step * batch, (step + 1) * batch)[rank::world_size]


@dataclass
class CachedExamples:
    """Batches of cached maps of a fixed set of views."""

    fixed: FixedViews
    maps: FeatureCache
    batch: int
    seed: int
    rank: int = 0
    world_size: int = 1
    stream: Stream = field(init=False)

    def __post_init__(self) -> None:
        self.stream = Stream(len(self.fixed), self.seed)

    def __call__(self, step: int) -> ViewBatch:
        rows = self.stream.images_at(positions_of(step, self.batch, self.rank, self.world_size))
        complete = [self.fixed.views.complete(int(self.fixed.image[row])) for row in rows]
        return ViewBatch(
            self.maps.read(rows), [self.fixed.boxes(row) for row in rows],
            torch.tensor(complete), torch.ones(len(rows), dtype=torch.bool),
            {"seed": self.seed, "views": rows.tolist()},
        )  # fmt: skip


@dataclass
class DrawnExamples:
    """Batches of crops of views that are drawn anew each epoch."""

    views: Views
    batch: int
    seed: int
    rank: int = 0
    world_size: int = 1
    stream: Stream = field(init=False)

    def __post_init__(self) -> None:
        self.stream = Stream(len(self.views.dataset), self.seed)

    def __call__(self, step: int) -> ViewBatch:
        positions = positions_of(step, self.batch, self.rank, self.world_size)
        images = self.stream.images_at(positions)
        samples = self.views.dataset.samples
        crops = torch.zeros(len(images), 3, self.views.size, self.views.size)
        boxes, learnt = [], torch.zeros(len(images), dtype=torch.bool)
        for row, (image, position) in enumerate(zip(images, positions, strict=True)):
            try:
                view = self.views.drawn(int(image), int(position))
                crops[row] = self.views.crop(int(image), int(position), view)
            except ImageError as error:
                self.views.broken[samples[image].path] = str(error)
                boxes.append(np.zeros((0, 4)))
                continue
            boxes.append(view.boxes)
            learnt[row] = True
        complete = torch.tensor([self.views.complete(int(image)) for image in images])
        replay: dict[str, object] = {
            "seed": self.seed,
            "positions": positions.tolist(),
            "files": [str(samples[image].path) for image in images],
        }
        return ViewBatch(crops, boxes, complete, learnt, replay)
