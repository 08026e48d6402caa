"""Train a classifier on labelled images: patches, distortions, auxiliary heads, averaged weights.

    inception-rcnn train classifier --data ILSVRC --recipe googlenet --out runs/googlenet
    inception-rcnn train classifier --config configs/tiny_imagenet.yaml --out runs/tiny
    torchrun --nproc-per-node 8 tools/train_classifier.py --config ... --out ...

Run the same command again to resume. Ctrl-C finishes the step, saves, writes a classifier of what
is there, and exits; a second one exits at once. The result, `classifier.safetensors`, is what
train_regions.py --start takes. --members 7 trains seven networks of one start and schedule on
different samples in different orders, as the paper's were, each in a folder of OUT.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import options as option
from detector.cli.training_session import run_of, training_session, tree_of

if TYPE_CHECKING:
    pass

SETTINGS = "detector.training.classifier.settings.ClassifierTrainingConfig"
RUN = "detector.cli.run_settings.RunSettings"


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run: journal, checkpoints, weights.")],
    data: Annotated[
        Path | None, typer.Option(help="ILSVRC, a folder of class folders, or a tar file.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="googlenet, caffe, v3 or modern. [modern]")
    ] = None,
    config: option.Config = None,
    data_root: option.DataRoot = Path("."),
    start: Annotated[
        Path | None, typer.Option(help="Weights that the network starts from.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Length of the training.")] = None,
    members: Annotated[int, typer.Option(min=1, max=100, help="Networks to train.")] = 1,
    change: Annotated[list[str], option.settings_of(SETTINGS, run=RUN)] = [],  # noqa: B006
    device: option.TrainingDevice = "auto",
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
    strict: option.AllImages = False,
) -> int:
    """Train a classifier; run again to resume."""
    from detector.cli.app import code_of_made
    from detector.cli.run_settings import RunSettings
    from detector.progress.interruption import stop_gently
    from detector.settings import validate
    from detector.training.classifier.inputs import following_start, load_images
    from detector.training.classifier.outputs import say_what_to_try
    from detector.training.classifier.recipes import with_recipe
    from detector.training.classifier.settings import ClassifierTrainingConfig
    from detector.training.classifier.trainer import train_members

    given = {
        "recipe": recipe,
        # Whole paths: relative ones in settings begin at --data-root.
        "data.path": data and str(data.resolve()),
        "network.weights": start and str(start.resolve()),
        "optimiser.epochs": epochs,
    }
    tree = with_recipe(following_start(tree_of(config, change, given), data_root))
    run = run_of(tree, RunSettings)
    settings = validate(ClassifierTrainingConfig, tree, str(config or "options"))
    if settings.data.path is None:
        raise typer.BadParameter("give --data PATH, or a --config that names data.path")
    images, judged = load_images(settings, data_root)
    with (
        training_session(
            out, data_root, run, device=device, quiet=quiet, within="member-*"
        ) as context,
        stop_gently("this step, then saving") as stop,
    ):
        context = replace(context, stop=stop)
        folders, readable, unfinished = train_members(settings, images, judged, context, members)
        if not context.group.is_main:
            return 0
        if folders:
            say_what_to_try(folders, unfinished)
        return code_of_made(not readable, strict)
