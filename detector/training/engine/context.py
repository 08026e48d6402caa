"""The context of a training: where its files are, and how much of the machine it may use."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from detector.progress.interruption import Stop
from detector.training.engine.distributed import Group


@dataclass(frozen=True)
class RunContext:
    """Paths of a run, its share of the machine, and its processes.

    out        folder of the run
    data_root  where relative data paths begin
    cache      proposals; None: in `out`
    bank       maps of a trunk; None: in `out`
    threads    for proposals, crops and batches
    quiet      no progress bars
    compiled   torch.compile the network
    bounded    the user limited the threads: a search for proposals then runs on one
    group      this process among those that train together
    stop       true once the user has asked to stop
    """

    out: Path
    data_root: Path = Path()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 2
    quiet: bool = True
    cache: Path | None = None
    bank: Path | None = None
    compiled: bool = False
    tensorboard: bool = False
    bounded: bool = False
    group: Group = field(default_factory=Group)
    stop: Stop = field(default_factory=Stop)

    def stops(self) -> bool:
        """True in all processes once any was asked to stop. A signal reaches one process; if it
        left alone, the others would wait for it for ever.
        """
        stopping = self.group.any(bool(self.stop), self.device)
        if stopping:
            self.stop.with_the_others()
        return stopping

    def run_on_main(self, steps: Iterator[object]) -> None:
        """Run `steps` on the main process while the others wait; exits once any was asked to
        stop.
        """
        if not self.group.run_on_main(steps, self.stop, self.device):
            self.stop.leave()
