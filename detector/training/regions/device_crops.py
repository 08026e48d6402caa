"""Crops made on the GPU that trains: all images lie decoded in its memory, and a batch is a few
matrix products.

A GPU that trains on thousands of crops a second would wait for a CPU that makes them. A few
thousand photographs fit beside the network; otherwise engine/batches.py makes the crops.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from detector.crops.warp import CONTEXT, FILL_COLOUR, STACK_BYTES, crop_stack
from detector.datasets import Dataset
from detector.errors import ImageError
from detector.images.decoding import read_image
from detector.progress.prefetch import prefetched
from detector.structures import Array
from detector.training.augment import AugmentSettings, distort
from detector.training.engine.batches import InputBatch
from detector.training.regions.sampling import RegionBatch

SHARE = 0.4
"""Largest share of the free memory that images may take."""

CROP_BYTES = 6 * STACK_BYTES
"""Memory for making crops: the pixels of three batches, before and after, as float32."""


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

    Regions, mirroring and distortions are those of engine/batches.py's RegionCrops; a crop differs
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
        fill = torch.tensor(FILL_COLOUR, dtype=torch.uint8, device=device).view(1, 3, 1, 1)
        self._images = fill.expand(len(sizes), 3, height, width).contiguous()

    def load(self, threads: int = 1) -> Iterator[int]:
        """Read all images; yields the number of loaded ones after each."""
        paths = [sample.path for sample in self.dataset.samples]

        def read(path: Path) -> Array | ImageError:
            try:
                return read_image(path)
            except ImageError as error:
                return error

        decoded = prefetched(
            lambda number: read(paths[number]), 0, len(paths), threads=threads, ahead=2 * threads
        )
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
        rng = np.random.default_rng([self.seed, step, 1])
        read = ~self._unreadable[batch.image]
        allowed_classes = torch.from_numpy(batch.allowed_classes | ~read[:, None])
        crops = crops.contiguous(memory_format=torch.channels_last)
        crops = distort(crops, self.augment, rng, batch.place, batch.whole)
        return InputBatch(crops, allowed_classes, torch.from_numpy(read))
