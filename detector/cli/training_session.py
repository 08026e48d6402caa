"""The begin of every training: settings from a config and options, and the processes at work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from detector.cli.run_settings import RunSettings
    from detector.training.engine.context import RunContext

Run = TypeVar("Run", bound="RunSettings")
# Threads that make batches where run.threads does not say how many.
BATCH_THREADS = 2


def tree_of(
    config: Path | None, changes: Sequence[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """A config's settings, changed by --set, and then by other options (None: not given)."""
    from detector.settings import load_config, put

    tree = load_config(config, changes)
    for name, value in given.items():
        if value is not None:
            put(tree, name, value)
    return tree


def run_of(tree: dict[str, Any], kind: type[Run]) -> Run:
    """Take the settings of the run out of the tree. Raises SettingsError."""
    from detector.settings import validate

    return validate(kind, tree.pop("run", None) or {}, "run")


def without_licence(tree: dict[str, Any], changes: Sequence[str], replaced: bool) -> None:
    """Drop a config's licence where options have `replaced` its data or its start, unless an option
    gives one.
    """
    if replaced and not any(one.startswith("licence=") for one in changes):
        tree.pop("licence", None)


def sources_of(data: Sequence[str], split: str | None) -> list[dict[str, Any]] | None:
    """The data sets that options name; None where they name none."""
    if split is not None and not data:
        raise typer.BadParameter("--split is of every --data; without one, set it in the config")
    return [{"path": path, "split": split} for path in data] or None


def check_options(settings: Any, bank: Path | None) -> None:
    """Refuse a training without data to learn from, or with a place for a bank that is not made.

    settings  of a training from annotated images
    """
    if not settings.data:
        raise typer.BadParameter("give --data FOLDER, or a --config that names data")
    if bank is not None and settings.bank is None:
        raise typer.BadParameter("run.bank changes nothing without a bank in the settings")


@contextmanager
def training_session(
    out: Path,
    data_root: Path,
    run: RunSettings,
    *,
    device: str,
    quiet: bool,
    within: str | None = None,
) -> Iterator[RunContext]:
    """Hold the folder of a run, and join the processes that torchrun started; both are left at the
    end.

    within  pattern of the folders in `out` that belong to the run, too
    """
    import torch

    from detector.hardware import usable_cores, use_device, use_threads
    from detector.progress.tensorboard import need_tensorboard
    from detector.training.engine.context import RunContext
    from detector.training.engine.distributed import join_group
    from detector.training.engine.run_folder import exclusive_lock

    if run.tensorboard:
        need_tensorboard()  # refused now, not after hours
    where = use_device(device, os.environ)  # torchrun's LOCAL_RANK chooses the card
    # The framework counts the cores of the machine, not those that a container may use.
    use_threads(run.threads or min(torch.get_num_threads(), usable_cores()))
    group = join_group(os.environ, where.type)
    try:
        with exclusive_lock(out, group, where, within=within):
            yield RunContext(
                out, data_root, where, run.threads or BATCH_THREADS, quiet or not group.is_main,
                cache=getattr(run, "cache", None), bank=getattr(run, "bank", None),
                compiled=run.compile, tensorboard=run.tensorboard,
                bounded=run.threads is not None, group=group,
            )  # fmt: skip
    finally:
        group.close()
