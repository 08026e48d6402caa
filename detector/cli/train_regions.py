"""Train the region classifier: proposals of annotated images, R-CNN's sampling, softmax over K
classes + background.

    python tools/train_regions.py --data VOC2012 --split train --start weights.safetensors \\
        --out runs/voc
    python tools/train_regions.py --config configs/shipped.yaml --data-root data --out runs/shipped
    torchrun --nproc-per-node 2 tools/train_regions.py --config ... --out ...

Run the same command again to resume. Ctrl-C finishes the step, saves, writes a bundle of what is
there, and exits; a second one exits at once. --members 6 trains six networks of one start and
schedule on different samples, as the paper's ensemble was.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli import options as option
from detector.cli.training_session import (
    check_options,
    sources_of,
    training_session,
    tree_of,
    without_licence,
)

if TYPE_CHECKING:
    from detector.training.engine.context import RunContext
    from detector.training.regions.settings import RegionTrainingConfig


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run: journal, checkpoints, bundle.")],
    config: option.Config = None,
    data: option.DataSets = [],  # noqa: B006
    split: option.SplitOfAll = None,
    data_root: option.DataRoot = Path("."),
    start: Annotated[
        Path | None, typer.Option(help="Weights that the network starts from.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of batches.")] = None,
    members: Annotated[int, typer.Option(min=1, max=100, help="Networks to train.")] = 1,
    change: option.Change = [],  # noqa: B006
    cache: Annotated[
        Path | None, typer.Option(help="Proposal cache. [OUT/proposals.sqlite]")
    ] = None,
    bank: option.Bank = None,
    device: option.TrainingDevice = "auto",
    threads: option.TrainingThreads = None,
    compiled: option.Compiled = False,
    tensorboard: option.TensorBoard = False,
    quiet: Annotated[bool, typer.Option("--quiet/--no-quiet", help="No progress.")] = False,
    strict: option.AllImages = False,
) -> int:
    """Train a region classifier; run again to resume."""
    from detector.settings import validate
    from detector.training.engine.network import following_start
    from detector.training.regions.settings import RegionTrainingConfig

    given = {
        "data": sources_of(data, split),
        "member.weights": start and str(start.resolve()),
        "optimiser.steps": steps,
    }
    tree = {"data": (), **tree_of(config, change, given)}
    if config is None:  # which the numbers that are published with it would be changed by
        tree.setdefault("held_out", 0.1)
    without_licence(tree, change, bool(data or start))
    settings: RegionTrainingConfig = validate(RegionTrainingConfig, tree, str(config or "options"))
    member = following_start(settings.member, data_root)
    settings = settings.model_copy(update={"member": member})
    check_options(settings, bank)
    with training_session(
        out, data_root, device=device, threads=threads, quiet=quiet, tensorboard=tensorboard,
        within="member-*", cache=cache, bank=bank, compiled=compiled,
    ) as context:  # fmt: skip
        return _trained(settings, members, context, strict)


def _trained(
    settings: RegionTrainingConfig, members: int, context: RunContext, strict: bool
) -> int:
    """Everything from the proposals to the bundle and its heads; the exit code."""
    from detector.cli.app import code_of_made
    from detector.progress.interruption import stop_gently
    from detector.settings import save_config
    from detector.training.engine.run_folder import CONFIG, naming_what_differs
    from detector.training.heads.after_training import fit_heads_of_run
    from detector.training.regions.calibrating import fit_on_held_out
    from detector.training.regions.inputs import build_setup, load_regions
    from detector.training.regions.outputs import write_bundle
    from detector.training.regions.run import NOT_OF_THE_WEIGHTS
    from detector.training.regions.trainer import train

    out, where, group = context.out, context.device, context.group
    trained: list[Any] = []
    broken: dict[Path, str] = {}
    try:
        with stop_gently("this image or step, then saving") as stop:
            context = replace(context, stop=stop)
            dataset, pool, prior, unread, held = load_regions(settings, context)
            unfinished = ""

            def begun() -> None:
                if group.is_main:
                    save_config(out / CONFIG, settings)

            for number in range(members):
                own = settings.of_member(number)
                setup = build_setup(own, dataset, pool, context)
                folder = out if members == 1 else out / f"member-{number}"
                if members > 1 and not context.quiet:
                    typer.echo(f"member {number + 1} of {members}", err=True)
                with naming_what_differs(out, settings, NOT_OF_THE_WEIGHTS):
                    averaged, reached = train(own, setup, replace(context, out=folder), begun)
                broken |= setup.crops.broken
                stopping = context.stops()
                if reached:
                    trained.append((setup.whole, {**setup.below, **averaged}))
                if stopping:
                    of = f", network {number + 1} of {members}" if members > 1 else ""
                    unfinished = f"step {reached} of {own.optimiser.steps}{of}"
                    break
                del setup  # its images, before the next member takes their place;
                gc.collect()  # torch's first optimiser has made a cycle that holds them
            readable = not group.any(bool(broken), where)
            if unfinished and trained and group.is_main:  # something to try before it goes on
                write_bundle(
                    out, settings, dataset, trained, prior,
                    held=held, root=context.data_root, unfinished=unfinished,
                )  # fmt: skip
    finally:
        group.close()
    for _, message in sorted(broken.items()):
        typer.echo(f"left out: {message}", err=True)
    if not group.is_main:  # torchrun ends all processes when one of them fails
        return 0
    write_bundle(out, settings, dataset, trained, prior, held=held, root=context.data_root)
    code = code_of_made(bool(unread) or not readable, strict)
    fitted = fit_heads_of_run(settings, context)
    if held is not None:
        fit_on_held_out(held, context)
    return code if fitted else 1
