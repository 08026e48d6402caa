"""Feature maps of a frozen trunk for many regions, computed once and kept on disk (trunk_cache.py).

Where the lower layers stay as they are, a region need pass them only once: what is trained above
them then costs a fraction of the whole network.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.files import write_atomically
from detector.models.inference.prepare import FixedBatches
from detector.structures import Array
from detector.training.engine.bank_settings import BankSettings
from detector.training.engine.batches import InputBatch, RegionCrops
from detector.training.engine.trunk_cache import Shape, TrunkCache, TrunkCacheBuilder
from detector.training.regions.sampling import RegionBatch, RegionPool


def choose_rows(pool: RegionPool, partial: Array, settings: BankSettings) -> Array:
    """The rows of the pool that a bank keeps, ascending.

    partial  (images,) bool: only some classes are annotated there
    """
    rng = np.random.default_rng(settings.seed)
    chance = rng.random(len(pool.boxes))
    chance[pool.overlap >= 0.999] = -1  # the annotated boxes themselves come first
    share = np.where(partial, settings.partial_share, 1.0)
    positives = _first_of_each(
        pool.positive, pool.object, chance, np.ceil(settings.positives_per_object * share), pool
    )
    near_row = np.zeros(len(pool.boxes), bool)
    near_row[pool.near] = True
    rest = np.setdiff1d(pool.background, pool.near)
    wanted = np.round(settings.background_per_image * share)
    near = _first_of_each(pool.near, pool.image, chance, np.ceil(wanted / 2), pool)
    near_count = np.bincount(pool.image[near], minlength=len(partial))
    far = _first_of_each(rest, pool.image, chance, wanted - near_count, pool)
    return np.sort(np.concatenate([positives, near, far]))


def mirrored_rows(image: Array, seed: int) -> Array:
    """Draw which rows of a bank are mirrored: image numbers (N,), ascending, to (N,) bool. Each
    image is seeded by its own number, so other images do not change its lot.
    """
    mirrored = np.zeros(len(image), bool)
    for number in np.unique(image):
        rows = image == number
        mirrored[rows] = np.random.default_rng([seed, number]).random(rows.sum()) < 0.5
    return mirrored


def _first_of_each(
    rows: Array, group: Array, chance: Array, per_image: Array, pool: RegionPool
) -> Array:
    """The rows of each group with the lowest `chance`, as many as their image allows."""
    order = rows[np.lexsort((chance[rows], group[rows]))]
    if not len(order):
        return order
    _, first, count = np.unique(group[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    return order[rank < per_image[pool.image[order]]]


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Maps of regions: `rows[i]` is the pool's row of map i; `read[i]` is False where its image
    could not be read when the maps were made.
    """

    maps: TrunkCache
    rows: Array
    read: Array

    def __call__(self, batch: RegionBatch, _step: int) -> InputBatch:
        """The maps of a batch that was drawn from the pool restricted to `rows`."""
        read = self.read[batch.rows]
        allowed_classes = torch.from_numpy(batch.allowed_classes | ~read[:, None])
        return InputBatch(self.maps.read(batch.rows), allowed_classes, torch.from_numpy(read))


@dataclass
class BankBuilder:
    """Fills a bank, image by image.

    An image that cannot be read is recorded in the bank (`unread.json`); its maps mean nothing.
    """

    folder: Path
    pool: RegionPool
    rows: Array
    crops: RegionCrops
    trunk: FixedBatches
    shape: Shape
    fingerprint: str
    """Of everything that the maps depend on beside the regions; a bank of another one is refused.
    """
    threads: int = 1
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def build(self) -> Iterator[int]:
        """Fill the bank; yields the number of finished images after each. The maps are on disk when
        the iterator ends or is closed.
        """
        return self._builder().build()

    def open(self) -> FeatureBank:
        """The finished bank. Raises TrainingError if `build` has not run to its end."""
        maps, unread = self._builder().open(), self.unread()
        samples = self.crops.dataset.samples
        unreadable = np.array([sample.image_id in unread for sample in samples])
        for sample in samples:
            if sample.image_id in unread and sample.path not in self.crops.broken:
                self.crops.broken[sample.path] = (
                    f"{sample.path}: could not be read when {self.folder} was made;"
                    " remove that to try again"
                )
        return FeatureBank(maps, self.rows, ~unreadable[self.pool.image[self.rows]])

    def unread(self) -> set[str]:
        """The ids of the images that could not be read while their maps were made."""
        try:
            return set(json.loads((self.folder / "unread.json").read_text()))
        except (OSError, ValueError):
            return set()

    def images(self) -> int:
        """The number of images with a region in the bank."""
        return len(np.unique(self.pool.image[self.rows]))

    def _builder(self) -> TrunkCacheBuilder:
        images, counts = np.unique(self.pool.image[self.rows], return_counts=True)
        return TrunkCacheBuilder(
            self.folder, counts, lambda position: self._crops(int(images[position])),
            self.trunk, self.shape, f"{self.fingerprint}-{self.pool.digest(self.rows)}",
            self.threads,
        )  # fmt: skip

    def _crops(self, image: int) -> Tensor:
        rows = self.rows[self.pool.image[self.rows] == image]
        batch = self.pool.batch(rows, mirrored_rows(self.pool.image[rows], self.crops.seed))
        crops = self.crops(batch, image)
        if not crops.read.all():  # on disk before its maps count as done
            with self._lock:
                unread = self.unread() | {self.crops.dataset.samples[image].image_id}
                write_atomically(self.folder / "unread.json", json.dumps(sorted(unread)) + "\n")
        return crops.inputs
