"""Data-parallel training: torchrun starts the processes, gradients are summed, one process reports.

Alone, a process runs the same code without the collectives. Each takes every n-th region of the
global batch, and the loss is divided by the *global* batch, so that the sum of gradients over n
processes is that of one process, up to rounding.
"""

import importlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.errors import SettingsError


@dataclass(frozen=True)
class Group:
    """One process, by its rank, among `world_size` of them."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def check_batch(self, batch: int, accumulate: int) -> None:
        """Raise SettingsError where a batch is too small to give every process at least one example
        in each of its `accumulate` parts.
        """
        if batch < self.world_size * accumulate:
            raise SettingsError(
                f"optimiser.batch: {batch} does not go around {self.world_size} processes of"
                f" {accumulate} parts; raise it, or lower optimiser.accumulate"
            )

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes."""
        if self.world_size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        # One message: a flat tensor costs one latency instead of one per parameter.
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        torch.distributed.all_reduce(flat)
        offset = 0
        for grad in grads:
            grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
            offset += grad.numel()

    def all_reduce(self, value: Tensor) -> Tensor:
        """The sum of a small tensor over all processes, in place."""
        if self.world_size > 1:
            torch.distributed.all_reduce(value)
        return value

    def any(self, flag: bool, device: torch.device | str = "cpu") -> bool:
        """True in all processes if `flag` is true in any of them."""
        if self.world_size == 1:
            return flag
        return bool(self.all_reduce(torch.tensor([float(flag)], device=device)).item() > 0)

    def agree(self, number: int, device: torch.device | str = "cpu") -> bool:
        """True if `number` is the same in all processes."""
        if self.world_size == 1:
            return True
        # Of both numbers the maximum: (max, -min), which cancel where all are equal.
        ends = torch.tensor([number, -number], device=device)
        torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX)
        return bool(ends.sum() == 0)

    def broadcast_weights(self, model: nn.Module) -> None:
        """Give every process the main one's weights and buffers."""
        if self.world_size > 1:
            for tensor in model.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def run_on_main(
        self, steps: Iterator[object], stop: object, device: torch.device | str = "cpu"
    ) -> bool:
        """Run `steps` on the main process while the others wait. After each step all agree whether
        to go on: False once any was asked to stop (`stop` is then true).
        """
        while True:
            more = self.is_main and next(steps, None) is not None
            if self.any(bool(stop), device):
                if isinstance(steps, Generator):
                    steps.close()  # now: it may have something to keep
                return False
            if not self.any(more, device):
                return True

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Leave the group; calling it again does nothing."""
        if self.world_size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def join_group(environment: Mapping[str, str], device_type: str) -> Group:
    """The group that torchrun describes in `environment` (RANK, WORLD_SIZE, LOCAL_RANK); a group of
    one without it.
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
