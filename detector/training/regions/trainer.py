"""The training loop of one region classifier."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from detector.hardware import search_kernels
from detector.training.engine.context import RunContext
from detector.training.engine.logs import Logs
from detector.training.engine.loop import TrainingLoop
from detector.training.engine.watch import HeldOutWatch
from detector.training.regions.crops import DeviceCrops
from detector.training.regions.member import Examples
from detector.training.regions.step import RegionStep, RegionSums


@contextmanager
def computing_threads(threads: int | None) -> Iterator[None]:
    """Compute with so many threads of the processor; None: with those there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_member(
    loop: TrainingLoop, examples: Examples, step: RegionStep, context: RunContext,
    watch: HeldOutWatch | None = None,
) -> int:  # fmt: skip
    """Train until the last step, the end that `watch` finds, or `context.stop`; returns the number
    of finished steps.
    """
    if context.group.world_size == 1:  # shares of a batch differ in shape: a search would not pay
        search_kernels(context.device)
    # Batches made on the GPU wait in its memory.
    ahead = 2 if isinstance(examples.source, DeviceCrops) else None
    reached = loop.first
    if watch is not None and watch.is_over:  # resumed after its end
        loop.last = reached
    with Logs(context, loop, step.batch_size) as logs:
        for current in loop.steps(examples, threads=max(1, context.threads - 1), ahead=ahead):
            inputs, target, replay = current.batch
            sums = step(inputs, target, loop.factor)
            result = loop.update(current.step, sums, step.mean_loss, replay)
            total, reached = RegionSums(*result.sums), current.step + 1
            objects_right = total.objects_right / max(total.objects, 1)
            curves = {"boxes": round(total.boxes / step.batch_size, 5)} if examples.boxes else {}
            curves["positives_right"] = round(objects_right, 4)
            logs.step(
                current, result, curves, right=round(total.right / step.batch_size, 4),
                shown=objects_right,
            )  # fmt: skip
            if watch is not None and watch.is_due(reached, loop.last):
                # Before the checkpoint that may follow, which is then of this look, too.
                losses = watch.look(reached)
                logs.note(current.step, "held_out", losses._asdict(), str(losses))
                if watch.is_over and reached < loop.last:
                    logs.end(reached, f"no lower loss in the last {watch.patience} looks")
                    loop.last = reached
        if watch is not None and reached == loop.last and (text := watch.conclusion()):
            logs.say(text)
    return reached
