"""Crops of a region batch: decoded, cropped and distorted in threads ahead of the network.

Threads suffice: Pillow, the crop kernel and torch all release the interpreter's lock. But a GPU
that trains on thousands of crops a second would wait for a CPU that makes them; where all images
fit beside the network, they lie decoded in its memory, and a batch is a few matrix products.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.crops.warp import CONTEXT, FILL_COLOUR, STACK_BYTES, crop_into, crop_stack
from detector.datasets import Dataset
from detector.errors import ImageError
from detector.images.decoding import read_image
from detector.progress.prefetch import prefetched
from detector.structures import Array
from detector.training.augment import AugmentSettings, distort
from detector.training.engine.image_cache import ImageCache
from detector.training.regions.sampling import RegionBatch

# Largest share of the free memory that images may take; the network needs the rest.
SHARE = 0.4

# Memory for making crops: the pixels of three batches, before and after, as float32.
CROP_BYTES = 6 * STACK_BYTES


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


def fit_in_memory(sizes: Array, device: torch.device) -> bool:
    """True if images of these (H, W), a row each, fit a CUDA device beside a network; False for any
    other device.
    """
    if device.type != "cuda" or not len(sizes):
        return False
    torch.cuda.empty_cache()  # torch's own cache counts as used otherwise
    free, _ = torch.cuda.mem_get_info(device)
    return needed_bytes(sizes) <= SHARE * free


def needed_bytes(sizes: Array) -> int:
    """Bytes for all images, each padded to the largest, and for the crops being made."""
    height, width = sizes.max(0)
    return 3 * len(sizes) * int(height) * int(width) + CROP_BYTES


class DeviceCrops:
    """The crops of a region batch, made on the GPU: (N, 3, S, S) float32 channels-last.

    Regions, mirroring and distortions are those of RegionCrops; a crop differs
    by rounding. An image that cannot be read loses its regions and is listed in `broken`.
    """

    def __init__(
        self,
        dataset: Dataset,
        sizes: Array,
        size: int,
        augment: AugmentSettings,
        seed: int,
        context: float = CONTEXT,
        *,
        device: torch.device,
    ) -> None:
        """Allocate memory for all images; `sizes` (B, 2) holds (H, W) of each. `load` must run
        before the first batch.
        """
        self.dataset, self.sizes, self.size = dataset, sizes, size
        self.augment, self.seed, self.context, self.device = augment, seed, context, device
        self.broken: dict[Path, str] = {}
        self._unreadable = np.zeros(len(sizes), bool)
        height, width = (int(side) for side in sizes.max(0))
        # All are padded to the largest; a crop that reaches beyond its image sees this colour.
        fill = torch.tensor(FILL_COLOUR, dtype=torch.uint8, device=device).view(1, 3, 1, 1)
        self._images = fill.expand(len(sizes), 3, height, width).contiguous()

    def load(self, threads: int = 1) -> Iterator[int]:
        """Read all images; yields the number of loaded ones after each."""
        paths = [sample.path for sample in self.dataset.samples]

        def read(path: Path) -> Array | ImageError:
            try:  # returned: an error raised in a thread would end the loading of all
                return read_image(path)
            except ImageError as error:
                return error

        decoded = prefetched(read, paths, threads=threads, ahead=2 * threads)
        for number, image in enumerate(decoded):
            self._keep(number, image)
            yield number + 1

    def _keep(self, number: int, image: Array | ImageError) -> None:
        height, width = (int(side) for side in self.sizes[number])
        if isinstance(image, ImageError) or image.shape[:2] != (height, width):
            path = self.dataset.samples[number].path
            changed = f"{path}: has changed since its regions were proposed"
            self.broken[path] = str(image) if isinstance(image, ImageError) else changed
            self._unreadable[number] = True
            return
        pixels = torch.from_numpy(image).to(self.device).permute(2, 0, 1)
        self._images[number, :, :height, :width] = pixels

    def __call__(self, batch: RegionBatch, step: int) -> InputBatch:
        crops = crop_stack(self._images, batch.image, batch.boxes, self.size, context=self.context)
        if self.augment.flip:
            flip = torch.from_numpy(batch.flip).to(self.device)[:, None, None, None]
            crops = torch.where(flip, crops.flip(3), crops)
        rng = np.random.default_rng([self.seed, step, 1])  # the draws of RegionCrops
        read = ~self._unreadable[batch.image]
        allowed_classes = torch.from_numpy(batch.allowed_classes | ~read[:, None])
        crops = crops.contiguous(memory_format=torch.channels_last)
        crops = distort(crops, self.augment, rng, batch.place, batch.whole)
        return InputBatch(crops, allowed_classes, torch.from_numpy(read))
