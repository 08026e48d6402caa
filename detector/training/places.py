"""Where a training's files are, and how much of the machine it may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from detector.hardware import choose_device


@dataclass(frozen=True)
class Places:
    """Paths, and how the machine is used.

    out        folder of the run
    data_root  where relative data paths begin
    cache      proposals; None: in `out`
    bank       maps of a trunk; None: in `out`
    threads    that make crops and batches
    quiet      no progress
    """

    out: Path
    data_root: Path
    device: torch.device
    threads: int
    quiet: bool
    cache: Path | None = None
    bank: Path | None = None
    compiled: bool = False
    tensorboard: bool = False


def device_of(option: str, environment: Mapping[str, str]) -> torch.device:
    """The device that --device names; under torchrun (WORLD_SIZE, LOCAL_RANK in `environment`)
    "auto" and "cuda" give each process a card of its own.
    """
    if int(environment.get("WORLD_SIZE", "1")) > 1 and option in ("auto", "cuda"):
        if torch.cuda.is_available():
            option = f"cuda:{environment['LOCAL_RANK']}"
        elif option == "auto":
            option = "cpu"
    return choose_device(option)
