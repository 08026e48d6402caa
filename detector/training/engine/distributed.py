"""Several processes as one: torchrun starts them, gradients are summed, and one of them reports.

Nothing here is needed for one process. Each takes every n-th region of the global batch, and the
loss is divided by the *global* batch, so that the sum of gradients over n processes is that of one
process, up to rounding.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from detector.errors import SettingsError


class Asked(Protocol):
    """Whether the user has asked to stop (progress.interruption.Stop)."""

    def __bool__(self) -> bool: ...
    def with_the_others(self) -> None: ...


@dataclass(frozen=True)
class Group:
    """One process's place among `world_size` of them."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def goes_around(self, batch: int, accumulate: int) -> None:
        """A SettingsError where a batch is too small to give every process something in each of its
        parts.
        """
        if batch < self.world_size * accumulate:
            raise SettingsError(
                f"optimiser.batch: {batch} does not go around {self.world_size} processes of"
                f" {accumulate} parts; raise it, or lower optimiser.accumulate"
            )

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes, in one message."""
        if self.world_size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        torch.distributed.all_reduce(flat)
        at = 0
        for grad in grads:
            grad.copy_(flat[at : at + grad.numel()].view_as(grad))
            at += grad.numel()

    def all_reduce(self, value: Tensor) -> Tensor:
        """The sum of a small tensor over all processes."""
        if self.world_size > 1:
            torch.distributed.all_reduce(value)
        return value

    def any(self, flag: bool, device: torch.device | str = "cpu") -> bool:
        """Whether any process says yes: for decisions that all must take alike."""
        if self.world_size == 1:
            return flag
        return bool(self.all_reduce(torch.tensor([float(flag)], device=device)).item() > 0)

    def stops(self, asked: Asked, device: torch.device | str = "cpu") -> bool:
        """Whether any process was asked to stop; then all of them are. A signal comes to one
        process, and whoever left alone would leave the others waiting.
        """
        stopping = self.any(bool(asked), device)
        if stopping:
            asked.with_the_others()
        return stopping

    def agree(self, number: int, device: torch.device | str = "cpu") -> bool:
        """Whether all processes have the same number."""
        if self.world_size == 1:
            return True
        ends = torch.tensor([number, -number], device=device)
        torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX)
        return bool(ends.sum() == 0)

    def broadcast_weights(self, model: nn.Module) -> None:
        """Give every process the first one's weights."""
        if self.world_size > 1:
            for tensor in model.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def run_on_main(
        self, steps: Iterator[object], asked: object, device: torch.device | str = "cpu"
    ) -> bool:
        """The first process takes `steps` while the others wait, and after each one all agree
        whether to go on: False once any of them was asked to stop (`asked` is then true).
        """
        while True:
            more = self.is_main and next(steps, None) is not None
            if self.any(bool(asked), device):
                if isinstance(steps, Generator):
                    steps.close()  # now: it may have something to keep
                return False
            if not self.any(more, device):
                return True

    def barrier(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Leave the group; nothing where that is done."""
        if self.world_size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def join_group(environment: Mapping[str, str], device_type: str) -> Group:
    """The group that torchrun describes in `environment` (RANK, WORLD_SIZE, LOCAL_RANK); alone
    without it.
    """
    world_size = int(environment.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return Group()
    # This module takes the group that there is when it is first imported as the default of its
    # functions, and optimisers import it. Imported after the group is made, it would keep the group
    # and its threads alive past close(), into the interpreter's end, where they abort the process.
    importlib.import_module("torch.distributed.nn.functional")
    backend = "nccl" if device_type == "cuda" else "gloo"
    if backend == "nccl":  # its collectives run on the current card
        torch.cuda.set_device(int(environment.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group(backend)
    return Group(int(environment["RANK"]), world_size)
