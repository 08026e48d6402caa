"""Region batches to tensors: decode, crop and distort in threads ahead of the network.

Threads suffice: Pillow, the crop kernel and torch all release the interpreter's lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.crops.warp import CONTEXT, crop_into
from detector.datasets import Dataset
from detector.errors import ImageError
from detector.images.decoding import read_image
from detector.structures import Array
from detector.training.augment import AugmentSettings, distort
from detector.training.regions.sampling import RegionBatch


class ImageCache:
    """A least-recently-used cache of decoded images, limited in bytes."""

    def __init__(self, max_bytes: int = 1_000_000_000) -> None:
        self.max_bytes = max_bytes
        self._images: OrderedDict[Path, Array] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, path: Path) -> Array:
        """The decoded image (H, W, 3) uint8 at `path`. Raises ImageError if it is unreadable."""
        with self._lock:
            if path in self._images:
                self._images.move_to_end(path)
                return self._images[path]
        image = read_image(path)
        with self._lock:
            if path not in self._images:
                self._images[path] = image
                self._bytes += image.nbytes
            while self._bytes > self.max_bytes and len(self._images) > 1:
                self._bytes -= self._images.popitem(last=False)[1].nbytes
        return image


class InputBatch(NamedTuple):
    """The network's inputs for N regions.

    inputs           (N, 3, S, S) crops, or (N, C, h, w) maps; float32, channels-last
    allowed_classes  (N, K+1) bool: the classes that each may be
    read             (N,) bool: False where the image could not be read; such a region has no loss
    """

    inputs: Tensor
    allowed_classes: Tensor
    read: Tensor


@dataclass
class RegionCrops:
    """The crops of a region batch, made on the CPU.

    An image that cannot be read loses its regions but never stops the run: all classes are allowed
    for them, so that they add nothing to the loss, and `broken` lists the file.
    """

    dataset: Dataset
    size: int
    augment: AugmentSettings
    seed: int
    context: float = CONTEXT
    images: ImageCache = field(default_factory=ImageCache)
    broken: dict[Path, str] = field(default_factory=dict)

    def __call__(self, batch: RegionBatch, step: int) -> InputBatch:
        crops = np.zeros((len(batch), self.size, self.size, 3), np.float32)
        allowed_classes, read = batch.allowed_classes.copy(), np.ones(len(batch), bool)
        # One image at a time: each is decoded once, however many of the batch's regions it has.
        for position in np.unique(batch.image):
            rows = np.flatnonzero(batch.image == position)
            path = self.dataset.samples[position].path
            try:
                image = self.images.read(path)
            except ImageError as error:
                self.broken[path] = str(error)
                allowed_classes[rows], read[rows] = True, False
                continue
            image_crops = np.empty((len(rows), self.size, self.size, 3), np.float32)
            crop_into(image, batch.boxes[rows], image_crops, context=self.context)
            crops[rows] = image_crops
        if self.augment.flip:
            crops[batch.flip] = crops[batch.flip][:, :, ::-1]
        # Seeded by the step alone, so that a resumed run distorts its crops as it would have.
        rng = np.random.default_rng([self.seed, step, 1])
        inputs = torch.from_numpy(crops).permute(0, 3, 1, 2)
        inputs = distort(inputs, self.augment, rng, batch.place, batch.whole)
        return InputBatch(inputs, torch.from_numpy(allowed_classes), torch.from_numpy(read))
