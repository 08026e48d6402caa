"""Features of many images, computed once and kept on disk: maps of a frozen trunk for the crops of
a training (regions/bank.py, multibox/examples.py), and what heads are fitted on
(heads/data_features.py).

A folder: `maps.f16` holds them one after the other, `bank.json` the fingerprint of what they were
made from and how far it has come. An interrupted one resumes.
"""

import errno
import json
import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from detector.errors import TrainingError
from detector.files import write_atomically
from detector.progress.prefetch import prefetched
from detector.structures import Array
from detector.training.engine.run_folder import shared_lock

SAVE_EVERY = 32  # images
# Crops in one call of the network: a whole batch on a GPU, so that none is padded with zeros.
AT_ONCE = 64

# (C, h, w) of one map; (F, 1, 1) of a vector.
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class FeatureCache:
    """Features (rows, C, h, w) of images one after the other; float16, whose relative error is
    below a thousandth.

    counts       (images,) rows of each
    fingerprint  hash of everything that the features depend on; a folder with another is refused
    """

    folder: Path
    counts: Array
    shape: Shape
    fingerprint: str

    def fill(self, described: Callable[[int], Generator[Tensor]]) -> Iterator[int]:
        """Compute what is missing; yields the number of finished images after each. It is on disk
        when the iterator ends, and what there is of it when it is closed early. Raises
        TrainingError where another run is filling the folder.

        described  the number of an image -> the features (rows, C, h, w) of it, of the next, ...
        """
        self._resume()
        if self._is_complete():
            return
        busy = (
            f"{self.folder}: another run is filling this bank; begin when it is full, or use"
            " another run.bank"
        )
        with shared_lock(self.folder, busy):
            # Again, under the lock: another run may have filled more of it since.
            done, images = self._resume(), len(self.counts)
            if done == 0:  # else an older bank.json, its maps lost, would call the new zeros whole
                self._save(0)
            _allocate(self._path, self._bytes())
            maps, at = self._maps("r+"), int(self.counts[:done].sum())
            with closing(described(done)) as stream:
                for features in stream:
                    # Channels-last, as the layers above take them.
                    rows = features.permute(0, 2, 3, 1).float().numpy()
                    maps[at : at + len(rows)] = rows.astype(np.float16)
                    at, done = at + len(rows), done + 1
                    if done % SAVE_EVERY == 0 or done == images:
                        maps.flush()  # first: bank.json counts what is on the disk
                        self._save(done)
                    try:
                        yield done
                    except GeneratorExit:
                        maps.flush()
                        self._save(done)
                        raise

    def read(self, rows: Array) -> Tensor:
        """(N, C, h, w) float32, channels-last, of the features at `rows` (N,)."""
        maps = self._maps("r")
        # In file order: random reads of a memory map would fault pages back and forth.
        order = np.argsort(rows, kind="stable")
        loaded = np.empty((len(rows), *maps.shape[1:]), np.float32)
        loaded[order] = maps[rows[order]]
        return torch.from_numpy(loaded).permute(0, 3, 1, 2)

    def require_complete(self) -> None:
        """Raise TrainingError if `fill` has not run to its end."""
        if not self._is_complete():
            raise TrainingError(f"{self.folder}: the bank is not complete; run the command again")

    @property
    def _path(self) -> Path:
        return self.folder / "maps.f16"

    def _maps(self, mode: Literal["r", "r+"]) -> np.memmap[Any, Any]:
        channels, height, width = self.shape
        stored = (int(self.counts.sum()), height, width, channels)
        return np.memmap(self._path, np.float16, mode, shape=stored)

    def _state(self) -> dict[str, object]:
        try:
            return json.loads((self.folder / "bank.json").read_text())
        except (OSError, ValueError):
            return {}

    def _is_complete(self) -> bool:
        return bool(self._state().get("complete")) and self._is_whole()

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
        return 2 * int(self.counts.sum()) * math.prod(self.shape)  # float16

    def _is_whole(self) -> bool:
        # Maps that are gone or cut short are made again, whatever bank.json says.
        try:
            return self._path.stat().st_size == self._bytes()
        except OSError:
            return False

    def _save(self, done: int) -> None:
        complete = done == len(self.counts)
        state = {"fingerprint": self.fingerprint, "done": done, "complete": complete}
        write_atomically(self.folder / "bank.json", json.dumps(state) + "\n")


def through(
    network: Callable[[Tensor], Tensor], make: Callable[[int], Tensor], images: int, *,
    threads: int = 1, together: int = 1,
) -> Callable[[int], Generator[Tensor]]:  # fmt: skip
    """Describe each image by the outputs of a network for its crops, `make(image)`, which threads
    make ahead of it.

    together  images whose crops share the network's batches, where each has only a few
    """

    def described(first: int) -> Generator[Tensor]:
        waiting: list[Tensor] = []
        made = prefetched(make, range(first, images), threads=threads)
        for done, crops in enumerate(made, start=first + 1):
            waiting.append(crops)
            if len(waiting) == together or done == images:
                batch = torch.cat(waiting)
                parts = [network(batch[at : at + AT_ONCE]) for at in range(0, len(batch), AT_ONCE)]
                # An image may have no crops at all.
                outputs = torch.cat(parts) if parts else torch.zeros(0, 1, 1, 1)
                yield from outputs.split([len(one) for one in waiting])
                waiting = []

    return described


# Writing to a memory map of a sparse file on a full disk kills the process with SIGBUS.
def _allocate(path: Path, size: int) -> None:
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
            # These two: a file system that cannot allocate ahead.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
