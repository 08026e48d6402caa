"""Train the region classifier: proposals of annotated images, R-CNN's sampling, softmax over K
classes + background.

    python tools/train_regions.py --data VOC2012 --split train --start weights.safetensors \\
        --out runs/voc
    python tools/train_regions.py --config configs/shipped.yaml --data-root data --out runs/shipped
    torchrun --nproc-per-node 2 tools/train_regions.py --config ... --out ...

Run the same command again to resume. Ctrl-C finishes the step, saves, and exits; a second one exits
at once. --members 6 trains six networks of one start and schedule on different samples, as the
paper's ensemble was.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    from region_training.inputs import Learning, Places

    from detector.reporting.cli import Stop
    from detector.training.distributed import Group
    from detector.training.region_settings import RegionTrainingConfig


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run: journal, checkpoints, bundle.")],
    config: Annotated[Path | None, typer.Option(help="YAML of settings (configs/).")] = None,
    data: Annotated[list[str], typer.Option(help="Data set folder or file; may repeat.")] = [],  # noqa: B006
    split: Annotated[str | None, typer.Option(help="Split of every --data, such as train.")] = None,
    data_root: Annotated[Path, typer.Option(help="Where relative data paths begin.")] = Path("."),
    start: Annotated[
        Path | None, typer.Option(help="Weights that the network starts from.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of batches.")] = None,
    members: Annotated[int, typer.Option(min=1, max=100, help="Networks to train.")] = 1,
    change: Annotated[
        list[str], typer.Option("--set", help="room.setting=value; may repeat.")
    ] = [],  # noqa: B006
    cache: Annotated[
        Path | None, typer.Option(help="Proposal cache. [OUT/proposals.sqlite]")
    ] = None,
    bank: Annotated[
        Path | None, typer.Option(help="Maps of the trunk, for configs with a bank. [OUT/bank]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads that make crops.")] = 2,
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="Curves in OUT/tensorboard, too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet/--no-quiet", help="No progress.")] = False,
) -> int:
    """Train a region classifier; run again to resume."""
    from head_fitting.after_training import fit_heads_of_run
    from region_training.inputs import Places, learning_of, regions_of
    from region_training.outputs import save_settings, write_bundle

    from detector.build import load_config, validated
    from detector.hardware import choose_device
    from detector.reporting.cli import stop_gently
    from detector.training.distributed import join_group
    from detector.training.region_settings import RegionTrainingConfig

    tree = load_config(config, change)
    if data:
        tree["data"] = [{"path": path, "split": split} for path in data]
    if start is not None:
        tree.setdefault("member", {})["weights"] = str(start.resolve())
    if steps is not None:
        tree.setdefault("optimiser", {})["steps"] = steps
    tree.setdefault("data", ())
    settings: RegionTrainingConfig = validated(RegionTrainingConfig, tree, str(config or "options"))
    if not settings.data:
        raise typer.BadParameter("give --data FOLDER, or a --config that names data")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and device == "auto":
        device = f"cuda:{os.environ['LOCAL_RANK']}" if _has_cuda() else "cpu"
    where = choose_device(device)
    group = join_group(os.environ, where.type)
    quiet = quiet or not group.is_first
    places = Places(out, data_root, cache, bank, where, threads, quiet)
    out.mkdir(parents=True, exist_ok=True)
    trained: list[Any] = []
    broken: dict[Path, str] = {}
    try:
        with stop_gently("this image or step, then saving") as stop:
            dataset, pool, prior = regions_of(settings, places, group, stop)
            if group.is_first:
                save_settings(out, settings)
            for number in range(members):
                own = settings.of_member(number)
                learning = learning_of(own, dataset, pool, places, group, stop)
                folder = out if members == 1 else out / f"member-{number}"
                if members > 1 and not quiet:
                    typer.echo(f"member {number + 1} of {members}", err=True)
                with ExitStack() as logs:
                    averaged = _train(
                        own, learning, folder, places, compiled, tensorboard, group, stop, logs
                    )
                broken |= learning.crops.broken
                if stop:
                    break
                trained.append((learning.whole, {**learning.below, **averaged}))
                del learning  # its images, before the next member takes their place
    finally:
        group.close()
    for path, message in sorted(broken.items()):
        typer.echo(f"left out: {path}: {message}", err=True)
    whole = True
    if group.is_first:
        write_bundle(out, settings, dataset, trained, prior)
        whole = fit_heads_of_run(settings, places)
    return 1 if broken or not whole else 0


def _train(
    settings: RegionTrainingConfig,
    learning: Learning,
    out: Path,
    places: Places,
    compiled: bool,
    tensorboard: bool,
    group: Group,
    stop: Stop,
    logs: ExitStack,
) -> dict[str, Any]:
    """Train one member until its last step or until `stop`; its averaged weights."""
    import math
    import time

    import torch
    from region_training.step import Step, Sums, Target

    from detector.hardware import choose_precision, search_kernels
    from detector.models.normalisation import CENTRED
    from detector.region_run import run_fingerprint
    from detector.reporting.journal import Journal
    from detector.reporting.live import TrainingDisplay
    from detector.reporting.track import Tracker
    from detector.training.batches import prefetched
    from detector.training.box_loss import WithMoves
    from detector.training.loss_scale import LossScale
    from detector.training.state import TrainingState, freeze

    how, sampling, device = settings.optimiser, settings.sampling, places.device
    network, pool, seed = learning.network, learning.pool, settings.sampling_seed
    taught = settings.teacher
    freeze(network, settings.member.freeze)
    run = TrainingState(network, how, run_fingerprint(settings, learning.teacher_fingerprint))
    scale = LossScale(how.precision == "float16")
    run.extra["progress"] = scale.state()
    first, last = run.resume(out), how.steps
    scale.load(run.extra["progress"])
    out.mkdir(parents=True, exist_ok=True)
    journal = tracker = None
    if tensorboard and group.is_first:
        tracker = logs.enter_context(closing(Tracker(out / "tensorboard", resume_at=first)))
    if group.is_first:
        journal = logs.enter_context(closing(Journal(out / "journal.jsonl", resume_at=first)))
    batch_size = sampling.positives_per_batch + sampling.background_per_batch
    forward: Any = network if settings.box_loss is None else WithMoves(network).__call__
    if group.world == 1:  # a share of a batch has another shape at each step
        search_kernels(device)
    step_of = Step(
        torch.compile(forward) if compiled else forward,
        device, choose_precision(how.precision, device), batch_size,
        getattr(network, "normalisation", CENTRED), sampling.hard_share,
        how.accumulate, how.label_smoothing,
        learning.teacher, taught.weight if taught else 0.0, taught.temperature if taught else 1.0,
        settings.box_loss.weight if settings.box_loss else 0.0,
    )  # fmt: skip

    def batch_at(step: int) -> tuple[Any, Any, Target]:
        own = pool.draw(seed, step).part(group.rank, group.world)
        seen = learning.make(own, step, group.rank)
        moves = learning.moves(own, settings.augment.flip) if settings.box_loss else None
        told = None if learning.taught is None else learning.taught(own)
        labels = torch.from_numpy(own.labels)
        return own, seen.inputs, Target(seen.possible, labels, moves, told, seen.read)

    bad_in_a_row = 0
    display = TrainingDisplay(last, first, batch_size, places.quiet)
    before = time.perf_counter()
    batches = prefetched(batch_at, first, last, threads=max(1, places.threads - 1))
    for step, (batch, inputs, target) in enumerate(batches, start=first):
        waited = time.perf_counter() - before
        torch.manual_seed((seed * 1_000_003 + step) * 1009 + group.rank)
        rate = run.set_rate(step)
        sums = step_of(inputs, target, scale.factor)
        group.sum_gradients(run.trainable)
        scale.unscale(run.trainable)
        total = Sums(*group.sum(sums).tolist())
        loss, norm = total.loss / batch_size, run.gradient_norm()
        if math.isfinite(loss) and math.isfinite(norm):
            run.update(step)
            scale.succeeded()
            bad_in_a_row = 0
        elif math.isfinite(loss) and scale.overflowed():
            run.optimizer.zero_grad(set_to_none=True)  # float16 only: try again, scaled less
        else:
            bad_in_a_row += 1
            run.skip(step, batch, out, bad_in_a_row)
        now, objects_right = time.perf_counter(), total.objects_right / max(total.objects, 1)
        if journal is not None:
            journal.write(
                step=step, loss=round(loss, 5), rate=rate, gradient=round(norm, 4),
                right=round(total.right / batch_size, 4), positives_right=round(objects_right, 4),
                seconds=round(now - before, 3), waited=round(waited, 3),
                **({"boxes": round(total.boxes / batch_size, 5)} if settings.box_loss else {}),
            )  # fmt: skip
        if tracker is not None:
            boxes = {"boxes": total.boxes / batch_size} if settings.box_loss else {}
            tracker.write(
                step, loss=loss, rate=rate, gradient=norm, objects_right=objects_right, **boxes
            )
        display.step(step, loss, rate, objects_right, waited)
        stopping = group.any(bool(stop), device)
        if stopping or step + 1 == last or (step + 1) % how.save_every == 0:
            if group.is_first:
                run.extra["progress"] = scale.state()
                run.save(out, step + 1)
            group.wait()
        before = time.perf_counter()
        if stopping:
            stop.with_the_others()
            break
    display.close()
    return run.averaged()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    run_tool(main)
