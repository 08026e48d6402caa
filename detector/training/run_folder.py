"""The folder of a run belongs to one run at a time: two would write one journal and one checkpoint
in turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from detector.errors import TrainingError
from detector.files import lock_folder, remove_leftovers
from detector.training.distributed import Group

if TYPE_CHECKING:
    import torch

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
    lock = lock_folder(folder) if group.is_first else None
    try:
        if group.any(group.is_first and lock is None, device):
            group.close()
            raise TrainingError(
                f"{folder}: another process is at work on this run; wait for it or stop it, or use"
                " another --out"
            )
        if group.is_first and within:
            for place in folder.glob(within):
                remove_leftovers(place)
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def held(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder that runs share; a TrainingError of these words where another one does."""
    lock = lock_folder(folder, SHARED_LOCK)
    if lock is None:
        raise TrainingError(refusal)
    try:
        yield
    finally:
        lock.release()
