"""Train MultiBox, which proposes boxes in one pass: an Inception trunk, priors, and two heads.

    python tools/train_multibox.py --data VOC2012 --split train --start weights.safetensors \\
        --out runs/multibox
    python tools/train_multibox.py --config configs/multibox.yaml --data-root DATA --out runs/mb
    torchrun --nproc-per-node 8 tools/train_multibox.py --config ... --out ...

All boxes of all classes are objects. Run the same command again to resume. Ctrl-C finishes the
step, saves, and exits; a second one exits at once. The result is OUT/multibox.safetensors.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    from multibox_training.inputs import Learning, Places
    from multibox_training.settings import MultiBoxTrainingConfig

    from detector.reporting.cli import Stop
    from detector.training.distributed import Group


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run: journal, checkpoints, weights.")],
    config: Annotated[Path | None, typer.Option(help="YAML of settings (configs/).")] = None,
    data: Annotated[list[str], typer.Option(help="Data set folder or file; may repeat.")] = [],  # noqa: B006
    split: Annotated[str | None, typer.Option(help="Split of every --data, such as train.")] = None,
    data_root: Annotated[Path, typer.Option(help="Where relative data paths begin.")] = Path("."),
    start: Annotated[Path | None, typer.Option(help="Weights that the trunk starts from.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Length of the training.")] = None,
    change: Annotated[
        list[str], typer.Option("--set", help="room.setting=value; may repeat.")
    ] = [],  # noqa: B006
    bank: Annotated[
        Path | None, typer.Option(help="Maps of the trunk, for configs with a bank. [OUT/bank]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads that make batches.")] = 2,
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet/--no-quiet", help="No progress.")] = False,
) -> int:
    """Train MultiBox; run again to resume."""
    from multibox_training.images import images_of
    from multibox_training.inputs import Places, learning_of, report
    from multibox_training.outputs import save_settings, write_weights
    from multibox_training.pseudo import labelled
    from multibox_training.settings import MultiBoxTrainingConfig

    from detector.build import load_config, validated
    from detector.hardware import choose_device
    from detector.reporting.cli import stop_gently
    from detector.training.distributed import join_group

    tree = load_config(config, change)
    if data:
        tree["data"] = [{"path": path, "split": split} for path in data]
    if start is not None:
        tree.setdefault("trunk", {})["weights"] = str(start.resolve())
    if epochs is not None:
        tree.setdefault("optimiser", {})["epochs"] = epochs
    tree.setdefault("data", ())
    tree["optimiser"] = _over_defaults(tree.get("optimiser", {}))
    settings: MultiBoxTrainingConfig = validated(
        MultiBoxTrainingConfig, tree, str(config or "options")
    )
    if not settings.data:
        raise typer.BadParameter("give --data FOLDER, or a --config that names data")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and device == "auto":
        device = f"cuda:{os.environ['LOCAL_RANK']}" if _has_cuda() else "cpu"
    where = choose_device(device)
    group = join_group(os.environ, where.type)
    places = Places(out, data_root, bank, where, threads, quiet or not group.is_first)
    try:
        with stop_gently("this image or step, then saving") as stop, ExitStack() as logs:
            dataset = images_of(settings, data_root)
            out.mkdir(parents=True, exist_ok=True)
            images = labelled(settings, dataset, places, group, stop)
            learning = learning_of(settings, images, places, group, stop)
            if group.is_first:
                save_settings(out, settings)
                if not places.quiet:
                    report(learning, settings)
            averaged = _train(settings, learning, places, compiled, group, stop, logs)
            if group.is_first and not stop:
                write_weights(out, settings, learning, averaged)
    finally:
        group.close()
    for path, message in sorted(learning.views.broken.items()):
        typer.echo(f"left out: {path}: {message}", err=True)
    return 1 if learning.views.broken else 0


def _train(
    settings: MultiBoxTrainingConfig,
    learning: Learning,
    places: Places,
    compiled: bool,
    group: Group,
    stop: Stop,
    logs: ExitStack,
) -> dict[str, Any]:
    """Train until the last step or until `stop`; the averaged weights."""
    import math
    import time

    import torch
    from multibox_training.settings import run_settings
    from multibox_training.step import Step, Sums

    from detector.hardware import choose_precision
    from detector.reporting.journal import Journal
    from detector.reporting.live import TrainingDisplay
    from detector.training.batches import prefetched
    from detector.training.checkpoint import fingerprint_of
    from detector.training.loss_scale import LossScale
    from detector.training.optimisers import build_optimiser, clip_gradients, rate_by_step
    from detector.training.state import TrainingState, freeze

    how, device, network, out = settings.optimiser, places.device, learning.network, places.out
    freeze(network, [])
    steps_per_epoch = learning.count / how.batch
    last = math.ceil(how.epochs * steps_per_epoch)
    run = TrainingState(
        network, how, fingerprint_of(run_settings(settings, learning.labelled.digest)),
        build_optimiser(network, how), rate_by_step(how, last, steps_per_epoch),
    )  # fmt: skip
    scale = LossScale(how.precision == "float16")
    run.extra["progress"] = scale.state()
    first = run.resume(out)
    scale.load(run.extra["progress"])
    if first == 0:
        _measure(learning, device, group)
        run.average.load({**run.average.values, **dict(network.named_buffers())})
    journal = None
    if group.is_first:
        journal = logs.enter_context(closing(Journal(out / "journal.jsonl", resume_at=first)))
    step_of = Step(
        torch.compile(network) if compiled else network,  # type: ignore[arg-type]
        learning.priors, settings.loss, device, choose_precision(how.precision, device),
        how.batch, how.accumulate,
    )  # fmt: skip
    bad_in_a_row = 0
    display = TrainingDisplay(last, first, how.batch, places.quiet, items="views", right="distance")
    before = time.perf_counter()
    batches = prefetched(learning.make, first, last, threads=max(1, places.threads - 1))
    for step, batch in enumerate(batches, start=first):
        waited = time.perf_counter() - before
        torch.manual_seed((how.seed * 1_000_003 + step) * 1009 + group.rank)
        rate = run.set_rate(step)
        step_of.seconds = 0.0
        sums = step_of(batch, scale.factor)
        group.sum_gradients(run.trainable)
        scale.unscale(run.trainable)
        total = Sums(*group.sum(sums).tolist())
        views, objects = max(total.views, 1), max(total.matched, 1)
        loss, norm = (total.location + total.confidence) / views, run.gradient_norm()
        if total.views and math.isfinite(loss) and math.isfinite(norm):
            clip_gradients(run.trainable, norm, how.clip)
            run.update(step)
            scale.succeeded()
            bad_in_a_row = 0
        elif total.views and math.isfinite(loss) and scale.overflowed():
            run.optimizer.zero_grad(set_to_none=True)  # float16 only: try again, scaled less
        else:
            bad_in_a_row += 1
            run.skip(step, batch.replay, out, bad_in_a_row)
        now = time.perf_counter()
        if journal is not None:
            journal.write(
                step=step, loss=round(loss, 5), location=round(total.location / views, 5),
                confidence=round(total.confidence / views, 5), rate=rate,
                gradient=round(norm, 4), objects=int(total.matched),
                seconds=round(now - before, 3), waited=round(waited, 3),
                matching=round(step_of.seconds, 4),
            )  # fmt: skip
        distance = math.sqrt(2 * total.location / settings.loss.alpha / objects / 4)
        display.step(step, loss, rate, distance, waited)
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


def _measure(learning: Learning, device: Any, group: Group) -> None:
    """The deviation of the maps' channels, on the first batch; the same in all processes."""
    import torch

    heads: Any = learning.whole.heads
    if group.is_first:
        inputs = learning.whole_batch(0).inputs.to(device)
        learns_below = learning.network is learning.whole
        with torch.no_grad():
            heads.standardise.measure(learning.whole.trunk(inputs) if learns_below else inputs)
    group.same_weights(heads)


def _over_defaults(given: Any) -> Any:
    """The optimiser's settings as given, laid over those of a MultiBox."""
    from multibox_training.settings import MultiBoxTrainingConfig

    if not isinstance(given, dict):
        return given
    return {**MultiBoxTrainingConfig.model_fields["optimiser"].default.model_dump(), **given}


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    run_tool(main)
