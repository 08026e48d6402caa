"""The context of a training: where its files are, and how much of the machine it may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class RunContext:
    """Paths of a run, and its share of the machine.

    out        folder of the run
    data_root  where relative data paths begin
    cache      proposals; None: in `out`
    bank       maps of a trunk; None: in `out`
    threads    for proposals, crops and batches
    quiet      no progress bars
    compiled   torch.compile the network
    bounded    the user limited the threads: a search for proposals then runs on one
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
    bounded: bool = False
