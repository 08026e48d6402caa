"""Batches of training patches: the order of the images, and their distorted pixels.

The images come in a new order each epoch, one epoch after the other without a gap, so that each is
seen once an epoch whatever the batch. Everything about the k-th of this stream is a function of
(seed, k): not of the batch, the number of processes, or of what happened before.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.datasets.labelled.images import LabelledImages
from detector.errors import ImageError, TrainingError
from detector.images.decoding import decode
from detector.structures import FILL_MEAN, Array
from detector.training.augment import AugmentSettings, distort
from detector.training.classifier.patches import PatchSettings, draw_patch, resize_patch

# The label of an image that cannot be read: it adds nothing to the loss.
UNREADABLE = -1


@dataclass
class Stream:
    """The endless sequence of example numbers 0..count-1, shuffled anew each epoch, in batches.

    batch  examples a step over all processes, of which this one takes every `world_size`-th
    """

    count: int
    seed: int
    batch: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        self._orders: dict[int, Array] = {}
        self._lock = threading.Lock()

    def positions(self, step: int) -> Array:
        """Positions in the stream that this process takes at a step."""
        return np.arange(step * self.batch, (step + 1) * self.batch)[self.rank :: self.world_size]

    def at(self, positions: Array) -> Array:
        """Example numbers at `positions` (N,) of the stream."""
        return np.array([self._at(int(k)) for k in positions], np.int64)

    def whole(self) -> Stream:
        """The same stream, not shared among processes."""
        return replace(self, rank=0, world_size=1)

    def _at(self, position: int) -> int:
        epoch, index = divmod(position, self.count)
        with self._lock:  # of several threads at work on batches
            if epoch not in self._orders:
                # The 0 keeps orders apart from patches, whose seeds end in 1.
                rng = np.random.default_rng([self.seed, epoch, 0])
                # Neighbouring epochs stay: threads ahead of the training are in the next one.
                near = {e: order for e, order in self._orders.items() if abs(e - epoch) == 1}
                self._orders = {**near, epoch: rng.permutation(self.count)}
            return int(self._orders[epoch][index])


class PatchBatch(NamedTuple):
    """One process's part of a batch.

    positions  (N,) in the stream: with the seed, all that is needed to make the batch again
    images     (N,) numbers of the images
    crops      (N, 3, S, S) float32, centred
    labels     (N,) int64, UNREADABLE where the image could not be read
    """

    positions: Array
    images: Array
    crops: Tensor
    labels: Tensor


@dataclass
class PatchBatches:
    """The batch of each step; `broken` collects the files that could not be read, and why."""

    images: LabelledImages
    size: int
    patches: PatchSettings
    augment: AugmentSettings
    stream: Stream
    broken: dict[str, str] = field(default_factory=dict)

    def __call__(self, step: int) -> PatchBatch:
        positions = self.stream.positions(step)
        images = self.stream.at(positions)
        crops = torch.zeros(len(images), 3, self.size, self.size)
        labels = self.images.labels[images].copy()
        for row, (image, position) in enumerate(zip(images, positions, strict=True)):
            file = self.images.files[image]
            try:
                crops[row] = self._patch(file, int(position))
            except ImageError as error:
                self.broken[file] = str(error)
                labels[row] = UNREADABLE
            except Exception as error:  # a thread's own traceback tells neither step nor file
                raise TrainingError(
                    f"step {step}: making a patch of {file} failed"
                    f" ({type(error).__name__}: {error}); the last checkpoint stands"
                ) from error
        return PatchBatch(positions, images, crops, torch.from_numpy(labels))

    def replay(self, step: int) -> dict[str, object]:
        """The data that repeat the whole batch of a step, as JSON."""
        stream = self.stream.whole()
        positions = stream.positions(step)
        files = [self.images.files[i] for i in stream.at(positions)]
        return {"seed": stream.seed, "positions": positions.tolist(), "files": files}

    def _patch(self, file: str, position: int) -> Tensor:
        rng = np.random.default_rng([self.stream.seed, position, 1])
        pixels = decode(self.images.read(file), file).pixels
        patch = draw_patch(pixels.shape[:2], self.patches, rng)
        method = self.patches.methods[rng.integers(len(self.patches.methods))]
        patch_pixels = resize_patch(pixels, patch, self.size, method)
        # Drawn even without flips, so that later draws stay the same.
        if rng.random() < 0.5 and self.augment.flip:
            patch_pixels = patch_pixels[:, ::-1]
        centred = patch_pixels.astype(np.float32) / 255 - np.array(FILL_MEAN, np.float32)
        # torch takes no negative strides, which a mirrored patch has.
        crop = torch.from_numpy(np.ascontiguousarray(centred.transpose(2, 0, 1)))
        return distort(crop[None], self.augment, rng)[0]
