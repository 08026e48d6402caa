"""Locks and settings of a run's folder.

It belongs to one run at a time, since two would write one journal and one checkpoint in turns, and
to one run's settings.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from detector.errors import OtherRunError, SettingsError, TrainingError
from detector.files import lock_folder, remove_leftovers
from detector.settings import load_config
from detector.training.engine.distributed import Group

CONFIG = "config.yaml"
# Another name than a run's lock: its folder may hold the bank that it shares, too.
SHARED_LOCK = ".shared-lock"


@contextmanager
def exclusive_lock(
    folder: Path, group: Group, device: torch.device | str = "cpu", *, within: str | None = None
) -> Iterator[None]:
    """Hold a run's folder by the group's main process, and clear it of what a killed run left.

    within  pattern of the folders in it that belong to the run, too

    Raises TrainingError in all processes where another run holds it.
    """
    lock = lock_folder(folder) if group.is_main else None
    try:
        # Refused together: none may wait for a process that has left.
        if group.any(group.is_main and lock is None, device):
            group.close()
            raise TrainingError(
                f"{folder}: another process is at work on this run; wait for it or stop it, or use"
                " another --out"
            )
        if group.is_main and within:
            for member in folder.glob(within):
                remove_leftovers(member)
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def shared_lock(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder that runs share; raises TrainingError with the text `refusal` where another run
    does.
    """
    lock = lock_folder(folder, SHARED_LOCK)
    if lock is None:
        raise TrainingError(refusal)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def naming_what_differs(folder: Path, settings: BaseModel, free: Any = None) -> Iterator[None]:
    """Where resuming is refused, name the settings that differ from the run's own in the error.

    free  settings that may change (as pydantic's `exclude`)
    """
    try:
        yield
    except OtherRunError as error:
        changes = _changes(folder / CONFIG, settings, free)
        if changes is None:
            raise
        if not changes:
            raise OtherRunError(
                f"{folder} belongs to a run on other data: the settings are the same, but"
                " annotations, images, regions or the start have changed; use another --out"
            ) from error
        more = f" and {len(changes) - 3} others" if len(changes) > 3 else ""
        raise OtherRunError(
            f"{folder} belongs to a run with other settings: {'; '.join(changes[:3])}{more};"
            " use the same, or another --out"
        ) from error


def _changes(path: Path, settings: BaseModel, free: Any) -> list[str] | None:
    """Return sentences, one a changed setting; None where the run's settings cannot be read."""
    try:
        before = type(settings).model_validate(load_config(path))
    except (SettingsError, ValidationError, OSError):
        return None
    old, new = (_flat(tree.model_dump(mode="json", exclude=free)) for tree in (before, settings))
    return [
        f"{name} was {_short(old.get(name))}, is {_short(new.get(name))}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _flat(tree: dict[str, Any], room: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{room}{name}.") if isinstance(value, dict) else {room + name: value}
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
