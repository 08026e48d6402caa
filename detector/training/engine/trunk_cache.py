"""Cache of feature maps: the outputs of a frozen network for many crops, computed once and kept on
disk.

A folder: `maps.f16` holds the maps one after the other, `bank.json` what they were made from and
how far it has come. An interrupted one resumes. Crops are of regions (feature_bank.py) or views of
whole images (view_bank.py).
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.errors import TrainingError
from detector.files import write_atomically
from detector.models.inference.prepare import FixedBatches
from detector.progress.prefetch import prefetched
from detector.structures import Array
from detector.training.engine.run_folder import shared_lock

SAVE_EVERY = 32
"""Images."""

Shape = tuple[int, int, int]
"""(C, h, w) of one map."""


@dataclass(frozen=True)
class TrunkCache:
    """`count` maps of one shape, in the order in which they were computed."""

    folder: Path
    count: int
    shape: Shape

    def read(self, rows: Array) -> Tensor:
        """(N, C, h, w) float32, channels-last, of the maps at `rows` (N,)."""
        channels, height, width = self.shape
        stored = (height, width, channels)
        maps: Array = np.memmap(
            self.folder / "maps.f16", np.float16, "r", shape=(self.count, *stored)
        )
        # In file order: random reads of a memory map would fault pages back and forth.
        order = np.argsort(rows, kind="stable")
        loaded = np.empty((len(rows), *stored), np.float32)
        loaded[order] = maps[rows[order]]
        return torch.from_numpy(loaded).permute(0, 3, 1, 2)


@dataclass
class TrunkCacheBuilder:
    """Computes the maps of images, one after the other, into a folder.

    counts       (images,) crops of each image
    make         the number of an image -> its crops (count, 3, S, S)
    fingerprint  hash of everything that the maps depend on; a folder with another one is refused
    together     images whose crops share the trunk's batches, where each has only a few
    """

    folder: Path
    counts: Array
    make: Callable[[int], Tensor]
    trunk: FixedBatches
    shape: Shape
    fingerprint: str
    threads: int = 1
    together: int = 1

    def build(self) -> Iterator[int]:
        """Compute the missing maps; yields the number of finished images after each. The maps are
        on disk when the iterator ends, and what there is of them when it is closed early. Raises
        TrainingError where another run is filling the folder.
        """
        self._resume()
        if self._is_complete():
            return
        busy = (
            f"{self.folder}: another run is filling this bank; begin when it is full, or use"
            " another --bank"
        )
        with shared_lock(self.folder, busy):
            yield from self._fill(self._resume())

    def _fill(self, done: int) -> Iterator[int]:
        images = len(self.counts)
        stored = (self.shape[1], self.shape[2], self.shape[0])
        path, count = self.folder / "maps.f16", int(self.counts.sum())
        if done == 0:  # else an older bank.json, its maps lost, would call the new zeros complete
            self._save(0, False)
        _allocate(path, self._bytes())
        maps = np.memmap(path, np.float16, "r+", shape=(count, *stored))
        at = int(self.counts[:done].sum())
        waiting: list[Tensor] = []
        for made in prefetched(self.make, done, images, threads=self.threads):
            waiting.append(made)
            done += 1
            saving = done % SAVE_EVERY == 0 or done == images
            if saving or len(waiting) == self.together:
                crops, waiting = torch.cat(waiting), []
                for start in range(0, len(crops), 64):
                    part = self.trunk(crops[start : start + 64]).permute(0, 2, 3, 1)
                    maps[at : at + len(part)] = part.float().numpy().astype(np.float16)
                    at += len(part)
            if saving:
                maps.flush()
                self._save(done, done == images)
            try:
                yield done
            except GeneratorExit:
                maps.flush()
                self._save(done - len(waiting), done == images)
                raise

    def open(self) -> TrunkCache:
        """The finished cache. Raises TrainingError if `build` has not run to its end."""
        if not self._is_complete():
            raise TrainingError(f"{self.folder}: the bank is not complete; run the command again")
        return TrunkCache(self.folder, int(self.counts.sum()), self.shape)

    def _is_complete(self) -> bool:
        return bool(self._state().get("complete")) and self._is_whole()

    def _state(self) -> dict[str, object]:
        try:
            state: dict[str, object] = json.loads((self.folder / "bank.json").read_text())
            return state
        except (OSError, ValueError):
            return {}

    def _resume(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self._state()
        if state and state.get("fingerprint") != self.fingerprint:
            raise TrainingError(
                f"{self.folder} holds maps of other settings, of other images or boxes, or of"
                " another start; use the same, or another --out"
            )
        done = state.get("done", 0)
        return done if isinstance(done, int) and self._is_whole() else 0

    def _bytes(self) -> int:
        return 2 * int(self.counts.sum()) * math.prod(self.shape)

    def _is_whole(self) -> bool:
        """True if the file of maps has its full length."""
        try:
            return (self.folder / "maps.f16").stat().st_size == self._bytes()
        except OSError:
            return False

    def _save(self, done: int, complete: bool) -> None:
        state = {"fingerprint": self.fingerprint, "done": done, "complete": complete}
        write_atomically(self.folder / "bank.json", json.dumps(state) + "\n")


def _allocate(path: Path, size: int) -> None:
    """Extend the file to `size` bytes and allocate them on the disk: a memory map that finds the
    disk full later would kill the process with SIGBUS.
    """
    with path.open("ab") as file:
        before = os.fstat(file.fileno()).st_size
        file.truncate(size)
        if not hasattr(os, "posix_fallocate") or not size:
            return
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                file.truncate(before)  # what an interrupted bank holds stays
                raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
