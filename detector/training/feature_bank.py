"""Maps of a frozen trunk for many regions, computed once and kept on disk.

Where the lower layers stay as they are, a region need pass them only once: what is trained above
them then costs a fraction of the whole network. A bank is a folder: `regions.npz` says which
regions, `maps.f16` holds their maps one after the other, `bank.json` what it was made from and how
far it has come. An interrupted one goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detector.errors import TrainingError
from detector.files import write_atomically
from detector.models.inference import FixedBatches
from detector.structures import Array
from detector.training.bank_settings import BankSettings
from detector.training.batches import RegionCrops
from detector.training.regions import RegionBatch, RegionPool

SAVE_EVERY = 32
"""Images."""


def map_shape(trunk: nn.Module, input_size: int) -> tuple[int, int, int]:
    """(C, h, w) of the trunk's map of one crop."""
    device = next(trunk.parameters()).device
    training = trunk.training
    with torch.inference_mode():
        made = trunk.eval()(torch.zeros(1, 3, input_size, input_size, device=device))
    trunk.train(training)
    channels, height, width = made.shape[1:]
    return channels, height, width


def choose(pool: RegionPool, partial: Array, settings: BankSettings) -> Array:
    """Rows of the pool that a bank keeps, ascending.

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
    found = np.bincount(pool.image[near], minlength=len(partial))
    far = _first_of_each(rest, pool.image, chance, wanted - found, pool)
    return np.sort(np.concatenate([positives, near, far]))


def mirrored_rows(image: Array, seed: int) -> Array:
    """Which rows of a bank are mirrored, a lot for each image by itself: (N,) image numbers,
    ascending, to (N,) bool.
    """
    found = np.zeros(len(image), bool)
    for one in np.unique(image):
        rows = image == one
        found[rows] = np.random.default_rng([seed, one]).random(rows.sum()) < 0.5
    return found


def _first_of_each(
    rows: Array, group: Array, chance: Array, per_image: Array, pool: RegionPool
) -> Array:
    """Of each group's rows those with the lowest chance, as many as their image allows."""
    order = rows[np.lexsort((chance[rows], group[rows]))]
    if not len(order):
        return order
    _, first, count = np.unique(group[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(first, count)
    return order[place < per_image[pool.image[order]]]


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Maps of regions: `rows[i]` is the pool's row of map i."""

    folder: Path
    rows: Array
    shape: tuple[int, int, int]

    def read(self, places: Array) -> Tensor:
        """(N, C, h, w) float32, channels-last, of the maps at `places`."""
        maps: Array = np.memmap(
            self.folder / "maps.f16", np.float16, "r", shape=(len(self.rows), *self._stored)
        )
        order = np.argsort(places, kind="stable")
        found = np.empty((len(places), *self._stored), np.float32)
        found[order] = maps[places[order]]
        return torch.from_numpy(found).permute(0, 3, 1, 2)

    def __call__(self, batch: RegionBatch, _step: int, _rank: int = 0) -> tuple[Tensor, Tensor]:
        """(maps, possible) of a batch that was drawn from the pool restricted to `rows`."""
        return self.read(batch.rows), torch.from_numpy(batch.possible)

    @property
    def _stored(self) -> tuple[int, int, int]:
        channels, height, width = self.shape
        return height, width, channels


@dataclass
class BankBuilder:
    """Fills a bank from the images of a data set, one image after the other."""

    folder: Path
    pool: RegionPool
    rows: Array
    crops: RegionCrops
    trunk: FixedBatches
    shape: tuple[int, int, int]
    fingerprint: str
    """Of everything that the maps depend on; a bank of another one is refused."""
    threads: int = 1

    def build(self) -> Iterator[int]:
        """Yields how many images are done, after each; closes with all maps on disk."""
        images = np.unique(self.pool.image[self.rows])
        done = self._resume()
        stored = (self.shape[1], self.shape[2], self.shape[0])
        path = self.folder / "maps.f16"
        maps = np.memmap(
            path, np.float16, "r+" if path.exists() else "w+", shape=(len(self.rows), *stored)
        )
        at = int(np.count_nonzero(np.isin(self.pool.image[self.rows], images[:done])))
        for made in self._ahead(images[done:]):
            for start in range(0, len(made), 64):
                part = self.trunk(made[start : start + 64]).permute(0, 2, 3, 1)
                maps[at : at + len(part)] = part.numpy().astype(np.float16)
                at += len(part)
            done += 1
            if done % SAVE_EVERY == 0 or done == len(images):
                maps.flush()
                self._save(done, done == len(images))
            yield done

    def open(self) -> FeatureBank:
        """The finished bank. Raises TrainingError where `build` has not ended."""
        if not self._state().get("complete"):
            raise TrainingError(f"{self.folder}: the bank is not complete; run the command again")
        return FeatureBank(self.folder, self.rows, self.shape)

    def images(self) -> int:
        return len(np.unique(self.pool.image[self.rows]))

    def _ahead(self, images: Array) -> Iterator[Tensor]:
        """The crops of each image, made while the trunk runs."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="bank") as pool:
            waiting: list[Future[Tensor]] = []
            asked = 0
            for _ in images:
                while asked < len(images) and len(waiting) <= self.threads:
                    waiting.append(pool.submit(self._crops, int(images[asked])))
                    asked += 1
                yield waiting.pop(0).result()

    def _crops(self, image: int) -> Tensor:
        rows = self.rows[self.pool.image[self.rows] == image]
        batch = self.pool.batch(rows, mirrored_rows(self.pool.image[rows], self.crops.seed))
        return self.crops(batch, image)[0]

    def _state(self) -> dict[str, object]:
        try:
            found: dict[str, object] = json.loads((self.folder / "bank.json").read_text())
            return found
        except (OSError, ValueError):
            return {}

    def _resume(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self._state()
        if state and state.get("fingerprint") != self.fingerprint:
            raise TrainingError(
                f"{self.folder} holds maps of other settings; use the same ones, or another --out"
            )
        done = state.get("done", 0)
        return done if isinstance(done, int) else 0

    def _save(self, done: int, complete: bool) -> None:
        state = {"fingerprint": self.fingerprint, "done": done, "complete": complete}
        write_atomically(self.folder / "bank.json", json.dumps(state) + "\n")
