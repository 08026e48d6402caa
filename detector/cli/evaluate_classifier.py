"""Top-1 and top-5 error of classifiers by 1, 10 or 144 crops, alone and together (Table 3).

    python tools/evaluate_classifier.py --data ILSVRC --weights a.safetensors --crops 1 --crops 10
    python tools/evaluate_classifier.py --data val.tar --weights a.safetensors --images 500

Probabilities are kept under --out: the same command again goes on after an interruption.
"""

from __future__ import annotations

import os
from collections.abc import Container
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli.app import exclusive_out, reject_unused
from detector.progress.messages import pluralise

if TYPE_CHECKING:
    from detector.datasets.labelled.images import LabelledImages
    from detector.evaluation.classification import Row
    from detector.evaluation.scoring.classifier import ClassifierScores
    from detector.evaluation.scoring.probability_cache import ProbabilityCache
    from detector.models.weights.classifier_file import Classifier


@exclusive_out
def main(
    context: typer.Context,
    data: Annotated[
        Path, typer.Option(help="ILSVRC, a folder of class folders, or a tar of class/name.jpg.")
    ],
    weights: Annotated[list[Path], typer.Option(help="A member's weights; may repeat.")],
    split: Annotated[str, typer.Option(help="Which part, where there are several.")] = "val",
    crops: Annotated[list[int], typer.Option(help="1, 10 or 144; may repeat. [1]")] = [],  # noqa: B006
    short_side: Annotated[
        int, typer.Option(min=224, help="Of an image before its 1 or 10 crops of 224 are taken.")
    ] = 256,
    images: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, evenly spaced.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file: the outputs' class folders, one a line.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Of weights that do not tell: resnet50, vgg16, ...")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/classifier"),
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")] = 0,
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
) -> int:
    """Top-1 and top-5 error by 1, 10 or 144 crops."""
    import cv2

    from detector.datasets.labelled.recognise import read_labelled
    from detector.evaluation.classification import table
    from detector.evaluation.scoring.classifier import ClassifierScores
    from detector.evaluation.views import CROPS
    from detector.hardware import usable_cores, use_device
    from detector.images.paths import short_names
    from detector.models.inference.prepare import fastest_precision
    from detector.models.weights.classifier_file import load_classifier
    from detector.progress.bar import progress
    from detector.progress.interruption import stop_gently

    cv2.setNumThreads(1)
    chosen = sorted(set(crops or [1]))
    if not set(chosen) <= set(CROPS):
        raise typer.BadParameter(f"--crops is one of {', '.join(map(str, CROPS))}")
    if chosen == [144]:
        reject_unused(context, ["short_side"], "with 144 crops, which have scales of their own")
    where = use_device(device)
    number_format: Any = fastest_precision(where) if precision == "auto" else precision
    if number_format not in ("float32", "bfloat16"):
        raise typer.BadParameter("--precision is one of auto, float32, bfloat16")
    members = [load_classifier(path, architecture) for path in weights]
    judged = _under_classes(read_labelled(data, split), members, weights, classes)
    judged = judged.subset(images) if images is not None else judged

    scores: dict[tuple[int, int], ClassifierScores] = {}
    files, names = _files_on_disk(judged), short_names(weights)
    with stop_gently("these crops; what is done is kept") as stop:
        for count, (number, member) in product(chosen, enumerate(members)):
            side = 0 if count == 144 else short_side
            kept = _kept(out, weights[number], judged, files, member, count, side, number_format)
            one = ClassifierScores(member, judged, kept, count, side)
            work = one.run(number_format, where, threads or usable_cores())
            label = f"{pluralise(count, 'crop')}, {names[number]}"
            for _ in progress(work, label, len(one), quiet):
                if stop:
                    return 3  # leaving the block exits by the signal
            scores[number, count] = one
    broken = {file: why for one in scores.values() for file, why in one.broken.items()}
    for _, message in sorted(broken.items()):
        typer.echo(f"left out: {message}", err=True)
    rows = _rows(scores, judged, broken)
    for line in table(rows):
        typer.echo(line)
    typer.echo(f"{pluralise(rows[0].images, 'image')} of {judged.name}")
    _save(out, rows, names, judged, broken, short_side, number_format)
    return 1 if broken else 0


def _rows(
    scores: dict[tuple[int, int], ClassifierScores],
    judged: LabelledImages,
    broken: Container[str],
) -> list[Row]:
    """The table: the first member alone, the first two together, ..., each by each number of crops.

    scores  by the number of the member and of crops
    """
    import numpy as np

    from detector.errors import EvaluationError
    from detector.evaluation.classification import Row, hits

    usable = np.array([file not in broken for file in judged.files])
    if not usable.any():
        raise EvaluationError(f"{judged.name}: none of its images can be read")
    labels, rows = judged.labels[usable], []
    for last, crops in sorted(scores):
        each = [scores[number, crops].kept.rows[usable] for number in range(last + 1)]
        mean = np.mean(each, axis=0)
        top1, top5 = (1 - float(hits(mean, labels, k).mean()) for k in (1, 5))
        rows.append(Row(last + 1, crops, top1, top5, len(mean)))
    return rows


def _under_classes(
    judged: LabelledImages, members: list[Classifier], weights: list[Path], classes: Path | None
) -> LabelledImages:
    """The images with the labels of the outputs: by --classes, by the names in the weights, or in
    the sorted order of the folders, which is that of all ImageNet weights.
    """
    from detector.datasets.formats.annotation_files import read_limited
    from detector.datasets.labelled.images import class_key
    from detector.errors import EvaluationError

    outputs = {member.num_outputs for member in members}
    named = {member.classes for member in members} - {None}
    if len(outputs) > 1 or len(named) > 1:
        raise EvaluationError("the members do not tell the same classes apart")
    count = outputs.pop()
    if classes is not None:
        text = read_limited(classes, 10_000_000).decode("utf-8", errors="replace")
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        if not set(map(class_key, judged.classes)) <= set(map(class_key, names)):
            names = tuple(line.split()[0] for line in names)  # what follows describes them
        if len(names) != count:
            raise EvaluationError(f"{classes}: {len(names)} names, but {count} outputs")
        return judged.under(names)
    if named:
        return judged.under(named.pop() or ())
    if len(judged.classes) != count:
        raise EvaluationError(
            f"{judged.name} has {len(judged.classes)} classes, {weights[0]} has {count} outputs;"
            " give --classes FILE with the outputs' names, one a line"
        )
    return judged


def _kept(
    out: Path,
    path: Path,
    images: LabelledImages,
    files: str,
    member: Classifier,
    crops: int,
    short_side: int,
    number_format: str,
) -> ProbabilityCache:
    """The file of what is known already: bound to the weights, the crops and the images."""
    import hashlib

    from detector.evaluation.scoring.probability_cache import ProbabilityCache

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    depends = (digest, crops, short_side, member.input_size, number_format, files)
    shape = (len(images), member.num_outputs)
    return ProbabilityCache(out, repr(depends), shape)


def _files_on_disk(images: LabelledImages) -> str:
    """Hash of which files these are: names within the set alone are those of other sets too."""
    import hashlib

    place: Any = getattr(images.read, "place", Path)
    states: dict[Path, tuple[int, ...] | None] = {}  # one tar holds all of its members
    digest = hashlib.sha256()
    for name in images.files:
        path = Path(os.path.abspath(place(name)))
        if path not in states:
            states[path] = _state(path)
        digest.update(repr((name, str(path), states[path])).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:  # what is wrong with it is said where it is read
        return None
    return found.st_size, found.st_mtime_ns


def _save(
    out: Path,
    rows: list[Row],
    weights: list[str],
    judged: LabelledImages,
    broken: dict[str, str],
    short_side: int,
    number_format: str,
) -> None:
    import json

    from detector.files import write_atomically

    result = {
        "table": [{**row._asdict(), "cost": row.cost} for row in rows],
        "weights": weights,
        "data": judged.name,
        "short_side": short_side,
        "precision": number_format,
        "broken": broken,
    }
    write_atomically(out / "classification.json", json.dumps(result, indent=2) + "\n")
