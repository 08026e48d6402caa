"""The folder of a run belongs to one run at a time: two would write one journal and one checkpoint
in turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from detector.errors import TrainingError
from detector.files import remove_leftovers
from detector.training.distributed import Group

if TYPE_CHECKING:
    import torch

LOCK = ".lock"
"""Stays there, and is nobody's when the process that holds it ends, however that ends."""
SHARED_LOCK = ".shared-lock"
"""Of what runs share, such as a bank; a run's own folder may be the place of its bank, too."""


@contextmanager
def alone_in(
    folder: Path, group: Group, device: torch.device | str = "cpu", *, within: str | None = None
) -> Iterator[None]:
    """Hold a run's folder, by the group's first process, and clear it of what a killed one left.

    within  pattern of the folders in it that belong to the run, too

    A TrainingError in all processes where another run holds it.
    """
    lock = _locked(folder) if group.is_first else -1
    try:
        if group.any(lock is None, device):
            group.close()
            raise TrainingError(
                f"{folder}: another process is at work on this run; wait for it or stop it, or use"
                " another --out"
            )
        if group.is_first:
            for place in (folder, *(folder.glob(within) if within else ())):
                remove_leftovers(place)
        yield
    finally:
        if lock is not None and lock >= 0:
            os.close(lock)


@contextmanager
def held(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder that runs share; a TrainingError of these words where another one does."""
    lock = _locked(folder, SHARED_LOCK)
    if lock is None:
        raise TrainingError(refusal)
    try:
        yield
    finally:
        os.close(lock)


def _locked(folder: Path, name: str = LOCK) -> int | None:
    """The open lock of the folder; None where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except (ImportError, OSError):
        pass  # a system, or a network's file system, without such locks
    return handle
