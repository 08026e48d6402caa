"""A bank: maps of a frozen trunk for a fixed choice of regions, computed once and kept on disk.

Where the lower layers stay as they are, a region need pass them only once: what is trained above
them then costs a fraction of the whole network.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from detector.files import write_atomically
from detector.models.inference.prepare import FixedBatches
from detector.progress.bar import progress
from detector.seeds import Seed
from detector.settings import Settings
from detector.structures import Array
from detector.training.engine.context import RunContext
from detector.training.engine.feature_cache import FeatureCache, Shape, through
from detector.training.regions.crops import InputBatch, RegionCrops
from detector.training.regions.sampling import RegionBatch, RegionPool


class BankSettings(Settings):
    """Which regions of a data set are kept, and where the network is cut."""

    after: str = "4e"
    """The trunk ends behind this module (and the pool that follows it)."""
    positives_per_object: int = Field(6, ge=1)
    """The annotated box, and other regions of the object by lot."""
    background_per_image: int = Field(16, ge=0)
    """Half of them near an object (sampling.near_iou), where there are so many."""
    partial_share: float = Field(0.4, ge=0, le=1)
    """Of both numbers, in images where only some classes are annotated."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In which the trunk is computed; the maps are kept in float16 either way. bfloat16 takes half
    the time on a processor that multiplies it in hardware.
    """
    seed: Seed = 0


def choose_rows(pool: RegionPool, partial: Array, settings: BankSettings) -> Array:
    """The rows of the pool that a bank keeps, ascending.

    partial  (images,) bool: only some classes are annotated there
    """
    rng = np.random.default_rng(settings.seed)
    chance = rng.random(len(pool.boxes))
    chance[pool.overlap >= 0.999] = -1  # the annotated boxes themselves come first

    def first_of_each(rows: Array, group: Array, per_image: Array) -> Array:
        """The rows of each group with the lowest `chance`, as many as their image allows."""
        order = rows[np.lexsort((chance[rows], group[rows]))]
        if not len(order):
            return order
        _, first, count = np.unique(group[order], return_index=True, return_counts=True)
        rank = np.arange(len(order)) - np.repeat(first, count)
        return order[rank < per_image[pool.image[order]]]

    share = np.where(partial, settings.partial_share, 1.0)
    wanted = np.round(settings.background_per_image * share)
    per_object = np.ceil(settings.positives_per_object * share)
    positives = first_of_each(pool.positive, pool.object, per_object)
    near = first_of_each(pool.near, pool.image, np.ceil(wanted / 2))
    near_count = np.bincount(pool.image[near], minlength=len(partial))
    rest = np.setdiff1d(pool.background, pool.near)
    far = first_of_each(rest, pool.image, wanted - near_count)
    return np.sort(np.concatenate([positives, near, far]))


def mirrored_rows(image: Array, seed: int) -> Array:
    """Draw which rows of a bank are mirrored: image numbers (N,), ascending, to (N,) bool."""
    mirrored = np.zeros(len(image), bool)
    for number in np.unique(image):  # each with its own seed: other images change nothing
        rows = image == number
        mirrored[rows] = np.random.default_rng([seed, number]).random(rows.sum()) < 0.5
    return mirrored


@dataclass(eq=False)
class RegionBank:
    """Outputs of one frozen network for the rows of a pool.

    pool         the regions that are kept, renumbered 0, 1, 2 ...
    crops        makes the crops; `crops.seed` draws the mirrored ones
    fingerprint  of everything that the outputs depend on beside the regions
    read         (N,) bool: False where the image could not be read

    An image that cannot be read is recorded in the bank (`unread.json`); its outputs mean nothing.
    """

    folder: Path
    pool: RegionPool
    crops: RegionCrops
    shape: Shape
    fingerprint: str
    cache: FeatureCache = field(init=False)
    mirrored: Array = field(init=False)
    read: Array = field(init=False)

    def __post_init__(self) -> None:
        self._images, counts = np.unique(self.pool.image, return_counts=True)
        self._lock = threading.Lock()
        self.mirrored = mirrored_rows(self.pool.image, self.crops.seed)
        belongs = f"{self.fingerprint}-{self.pool.digest()}"
        self.cache = FeatureCache(self.folder, counts, self.shape, belongs)

    def fill(self, network: Callable[[Tensor], Tensor], threads: int = 1) -> Iterator[int]:
        """Compute what is missing; yields the number of finished images after each."""
        images = len(self.cache.counts)
        return self.cache.fill(through(network, self._crops_of, images, threads=threads))

    def open(self) -> RegionBank:
        """Find out which images were read. Raises TrainingError if `fill` has not ended."""
        self.cache.require_complete()
        unread = self._unread()
        for sample in self.crops.dataset.samples:
            if sample.image_id in unread:
                self.crops.broken.setdefault(
                    sample.path,
                    f"{sample.path}: could not be read when {self.folder} was made;"
                    " remove that to try again",
                )
        self.read = ~np.isin(np.array(self.pool.image_ids)[self.pool.image], sorted(unread))
        return self

    def __call__(self, batch: RegionBatch, _step: int) -> InputBatch:
        """The outputs for a batch that was drawn from `pool`."""
        read = self.read[batch.rows]
        # With every class allowed the loss is 0.
        allowed_classes = torch.from_numpy(batch.allowed_classes | ~read[:, None])
        return InputBatch(self.cache.read(batch.rows), allowed_classes, torch.from_numpy(read))

    def _unread(self) -> set[str]:
        try:
            return set(json.loads((self.folder / "unread.json").read_text()))
        except (OSError, ValueError):  # there is no file while all could be read
            return set()

    def _crops_of(self, position: int) -> Tensor:
        image = int(self._images[position])
        rows = np.flatnonzero(self.pool.image == image)
        crops = self.crops(self.pool.batch(rows, self.mirrored[rows]), image)
        if not crops.read.all():  # on disk before its outputs count as done
            with self._lock:  # of the threads that make crops
                unread = self._unread() | {self.pool.image_ids[image]}
                write_atomically(self.folder / "unread.json", json.dumps(sorted(unread)) + "\n")
        return crops.inputs


def filled(bank: RegionBank, network: nn.Module, context: RunContext, label: str) -> RegionBank:
    """Fill a bank on the main process while the others wait, and open it. Exits once the run is
    asked to stop; what is computed by then is kept.
    """
    # The maps of eight crops stay in a core's cache.
    batch_size = 8 if context.device.type == "cpu" else 64
    batches = FixedBatches(network, batch_size=batch_size, workers=context.threads)
    filling = bank.fill(batches, context.threads)
    context.run_on_main(progress(filling, label, len(bank.cache.counts), context.quiet))
    return bank.open()
