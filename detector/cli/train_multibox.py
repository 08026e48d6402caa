"""Train MultiBox, which proposes boxes in one pass: an Inception trunk, priors, and two heads.

    inception-rcnn train multibox --data VOC2012 --split train --start weights.safetensors \\
        --out runs/multibox
    inception-rcnn train multibox --config configs/multibox.yaml --data-root DATA --out runs/mb
    torchrun --nproc-per-node 8 tools/train_multibox.py --config ... --out ...

All boxes of all classes are objects. Run the same command again to resume. Ctrl-C finishes the
step, saves, and exits; a second one exits at once. The result is OUT/multibox.safetensors.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli import options as option
from detector.cli.training_session import (
    check_options,
    run_of,
    sources_of,
    training_session,
    tree_of,
    without_licence,
)

if TYPE_CHECKING:
    from detector.training.engine.context import RunContext
    from detector.training.multibox.settings import MultiBoxTrainingConfig

SETTINGS = "detector.training.multibox.settings.MultiBoxTrainingConfig"
RUN = "detector.cli.run_settings.BankRunSettings"


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run: journal, checkpoints, weights.")],
    config: option.Config = None,
    data: option.DataSets = [],  # noqa: B006
    split: option.SplitOfAll = None,
    data_root: option.DataRoot = Path("."),
    start: Annotated[Path | None, typer.Option(help="Weights that the trunk starts from.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Length of the training.")] = None,
    change: Annotated[list[str], option.settings_of(SETTINGS, run=RUN)] = [],  # noqa: B006
    device: option.TrainingDevice = "auto",
    quiet: Annotated[bool, typer.Option("--quiet/--no-quiet", help="No progress.")] = False,
    strict: option.AllImages = False,
) -> int:
    """Train MultiBox; run again to resume."""
    from detector.cli.run_settings import BankRunSettings
    from detector.settings import validate
    from detector.training.multibox.settings import MultiBoxTrainingConfig

    given = {
        "data": sources_of(data, split),
        # A whole path: relative ones in settings begin at --data-root.
        "trunk.weights": start and str(start.resolve()),
        "optimiser.epochs": epochs,
    }
    tree = {"data": (), **tree_of(config, change, given)}
    without_licence(tree, change, bool(data or start))
    run = run_of(tree, BankRunSettings)
    tree["optimiser"] = _over_defaults(tree.get("optimiser", {}))
    settings = validate(MultiBoxTrainingConfig, tree, str(config or "options"))
    check_options(settings, run.bank)
    with training_session(out, data_root, run, device=device, quiet=quiet) as context:
        return _trained(settings, context, strict)


def _trained(settings: MultiBoxTrainingConfig, context: RunContext, strict: bool) -> int:
    from detector.cli.app import code_of_made
    from detector.progress.interruption import stop_gently
    from detector.training.multibox.inputs import build_setup, load_images, report
    from detector.training.multibox.trainer import train, write_weights

    group = context.group
    try:
        group.check_batch(settings.optimiser.batch, settings.optimiser.accumulate)
        with stop_gently("this image or step, then saving") as stop:
            context = replace(context, stop=stop)
            dataset = load_images(settings, context.data_root)
            setup = build_setup(settings, dataset, context)
            if not context.quiet:
                report(setup, settings)
            averaged, left_out = train(settings, setup, context)
            readable = not group.any(bool(left_out), context.device)
    finally:
        group.close()
    for message in left_out.messages():
        typer.echo(f"left out: {message}", err=True)
    if not group.is_main:  # torchrun ends all processes when one of them fails
        return 0
    write_weights(context.out, settings, setup, averaged)
    return code_of_made(not readable, strict)


# A partial `optimiser` is completed by MultiBox's defaults, not by those of optimisers at large.
def _over_defaults(given: Any) -> Any:
    from detector.training.multibox.settings import MultiBoxTrainingConfig

    if not isinstance(given, dict):
        return given
    return {**MultiBoxTrainingConfig.model_fields["optimiser"].default.model_dump(), **given}
