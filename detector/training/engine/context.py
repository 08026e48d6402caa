"""The context of a training: where its files are, and how much of the machine it may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class RunContext:
    """Paths, and how the machine is used.

    out        folder of the run
    data_root  where relative data paths begin
    cache      proposals; None: in `out`
    bank       maps of a trunk; None: in `out`
    threads    that make proposals, crops and batches
    quiet      no progress
    bounded    whether nothing else may take more of them: a search has one then
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
