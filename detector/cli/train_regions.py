"""Train the region classifier: proposals of annotated images, R-CNN's sampling, softmax over K
classes + background.

    inception-rcnn train regions --data VOC2012 --split train --budget 30m --out runs/voc
    inception-rcnn train regions --config configs/shipped.yaml --data-root data --out runs/shipped
    torchrun --nproc-per-node 2 tools/train_regions.py --config ... --out ...

Without --config, what is not set is chosen for the machine and the data (regions/auto_settings.py).
Run the same command again to resume. Ctrl-C finishes the step, saves, writes a bundle of what is
there, and exits; a second one exits at once. --members 6 trains six networks of one start and
schedule on different samples, as the paper's ensemble was.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

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

SETTINGS = "detector.training.regions.settings.RegionTrainingConfig"
RUN = "detector.cli.run_settings.RegionRunSettings"


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run: journal, checkpoints, bundle.")],
    config: option.Config = None,
    data: option.DataSets = [],  # noqa: B006
    split: option.SplitOfAll = None,
    data_root: option.DataRoot = Path("."),
    start: Annotated[
        Path | None,
        typer.Option(help="Weights that the network starts from. [shipped; the config's]"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of batches.")] = None,
    members: Annotated[int, typer.Option(min=1, max=100, help="Networks to train.")] = 1,
    change: Annotated[list[str], option.settings_of(SETTINGS, run=RUN)] = [],  # noqa: B006
    device: option.TrainingDevice = "auto",
    quiet: Annotated[bool, typer.Option("--quiet/--no-quiet", help="No progress.")] = False,
    strict: option.AllImages = False,
) -> int:
    """Train a region classifier; run again to resume."""
    from detector.cli.app import code_of_made
    from detector.cli.run_settings import RegionRunSettings
    from detector.progress.interruption import stop_gently
    from detector.settings import validate
    from detector.training.engine.network import following_start
    from detector.training.regions.auto_settings import AutoSettings, choose_with_data
    from detector.training.regions.run import finish, learn
    from detector.training.regions.settings import RegionTrainingConfig

    given = {
        "data": sources_of(data, split),
        # A whole path: relative ones in settings begin at --data-root.
        "member.weights": start and str(start.resolve()),
        "optimiser.steps": steps,
    }
    tree = {"data": (), **tree_of(config, change, given)}
    without_licence(tree, change, bool(data or start))
    run = run_of(tree, RegionRunSettings)
    settings = validate(RegionTrainingConfig, tree, str(config or "options"))
    member = following_start(settings.member, data_root)
    settings = settings.model_copy(update={"member": member})
    # Without a config a bank may be chosen.
    check_options(settings, run.bank if config else None)
    if config is not None and run.budget is not None:
        raise typer.BadParameter("run.budget chooses what no --config sets; leave one of them out")
    if run.budget is not None and "steps" in settings.optimiser.model_fields_set:
        raise typer.BadParameter("run.budget chooses the steps; leave --steps out")
    with training_session(
        out, data_root, run, device=device, quiet=quiet, within="member-*"
    ) as context:
        with stop_gently("this image or step, then saving") as stop:
            context, choice = replace(context, stop=stop), AutoSettings(settings)
            if config is None:  # configs keep to what their published numbers were had with
                choice = choose_with_data(tree, context, run.budget, members)
            settings = choice.settings
            trained = learn(settings, context, members, choice.data)
        if not context.group.is_main:  # torchrun ends all processes when one of them fails
            return 0
        code = code_of_made(not trained.readable, strict)
        return code if finish(settings, trained, context) else 1
