"""Top-1 and top-5 error of classifiers by 1, 10 or 144 crops, alone and together (Table 3).

    inception-rcnn evaluate classifier --data ILSVRC --weights a.safetensors --crops 1 --crops 10
    inception-rcnn evaluate classifier --data val.tar --weights a.safetensors --images 500

Probabilities are kept under --out: the same command again goes on after an interruption.
"""

from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out, reject_unused
from detector.progress.interruption import stop_gently
from detector.progress.messages import pluralise

SETTINGS = "detector.cli.evaluating.classifier.EvaluateClassifierSettings"


@exclusive_out
def main(
    context: typer.Context,
    data: Annotated[
        Path, typer.Option(help="ILSVRC, a folder of class folders, or a tar of class/name.jpg.")
    ],
    weights: Annotated[list[Path], typer.Option(help="A member's weights; may repeat.")],
    split: Annotated[str, typer.Option(help="Which part, where there are several.")] = "val",
    crops: Annotated[list[int], typer.Option(help="1, 10 or 144; may repeat. [1]")] = [],  # noqa: B006
    images: option.SomeImages = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file: the outputs' class folders, one a line.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/classifier"),
    device: option.TrainingDevice = "auto",
    change: Annotated[list[str], option.settings_of(SETTINGS)] = [],  # noqa: B006
    quiet: option.Quiet = False,
) -> int:
    """Top-1 and top-5 error by 1, 10 or 144 crops."""
    import cv2

    from detector.cli.evaluating import classifier as evaluating
    from detector.datasets.labelled.recognise import read_labelled
    from detector.evaluation.views import CROPS
    from detector.hardware import usable_cores, use_device
    from detector.images.paths import short_names
    from detector.models.inference.prepare import fastest_precision
    from detector.models.weights.classifier_file import load_classifier
    from detector.progress.bar import progress

    cv2.setNumThreads(1)  # our own threads make the crops
    chosen = option.chosen(evaluating.EvaluateClassifierSettings, change)
    counts = sorted(set(crops or [1]))
    if not set(counts) <= set(CROPS):
        raise typer.BadParameter(f"--crops is one of {', '.join(map(str, CROPS))}")
    if counts == [144]:
        reject_unused(context, ["short_side"], "with 144 crops, which have scales of their own")
    where, threads = use_device(device), chosen.threads or usable_cores()
    precision = fastest_precision(where) if chosen.precision == "auto" else chosen.precision
    members = [load_classifier(path, chosen.architecture) for path in weights]
    judged = evaluating.under_classes(read_labelled(data, split), members, weights[0], classes)
    judged = judged.subset(images) if images is not None else judged

    scores, names = {}, short_names(weights)
    with stop_gently("these crops; what is done is kept") as stop:
        for which, one in evaluating.scores_of(
            out, weights, members, judged, counts, chosen.short_side, precision
        ):
            scores[which] = one
            label = f"{pluralise(which[1], 'crop')}, {names[which[0]]}"
            for _ in progress(one.run(precision, where, threads), label, len(one), quiet):
                if stop:
                    return 3  # leaving the block exits by the signal
    complete = evaluating.report(
        out, scores, judged, weights=names, short_side=chosen.short_side, precision=precision
    )
    return 0 if complete else 1
