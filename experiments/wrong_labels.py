"""Mistakes put into clean labels, and how many of them `data check --weights` ranks first.

    python experiments/wrong_labels.py --data DATA/voc2012_sample --split val
    python experiments/wrong_labels.py --data DATA/voc_more --prefix 20 --images 150 --fit

Of 5 % of the labels a quarter each is an object dropped, a class swapped, a box shifted (IoU 0.1 to
0.5 with what it was) and a box that is on no object. --fit prints the two logistic functions of
evaluation/wrong_labels/suspicion.py, fitted to the same mistakes. The scores stay in --out, so that
further seeds take seconds.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from detector.boxes import clip, iou
from detector.cli import options as option
from detector.cli.app import exclusive_out, run_tool
from detector.cli.checking.data import read_labelled
from detector.cli.checking.labels import find, load_for_labels
from detector.cli.checking.settings import WrongLabelSettings
from detector.datasets import Dataset, Sample
from detector.detection.bundle import read_manifest
from detector.detection.load import SHIPPED
from detector.evaluation.wrong_labels.suspects import Suspect, ranked
from detector.structures import Annotations, Array

KINDS = ("dropped", "swapped", "shifted", "spurious")


class Mistake(NamedTuple):
    """A wrong label: its box (4,) and label; of a dropped object those that it had."""

    image_id: str
    kind: str
    box: Array
    label: int


def corrupt(
    dataset: Dataset, share: float, rng: np.random.Generator
) -> tuple[Dataset, list[Mistake]]:
    """The data set with mistakes in a share of its labels, and the mistakes."""
    objects = [
        (index, row)
        for index, sample in enumerate(dataset.samples)
        for row in np.flatnonzero(sample.annotations.real).tolist()
    ]
    chosen = rng.permutation(len(objects))[: round(share * len(objects))]
    samples, mistakes = list(dataset.samples), []
    dropped: dict[int, list[int]] = {}
    for turn, (index, row) in enumerate(objects[number] for number in chosen):
        kind, truth = KINDS[turn % len(KINDS)], samples[index].annotations
        box, label = truth.boxes[row], int(truth.labels[row])
        if kind == "dropped":
            dropped.setdefault(index, []).append(row)
        elif kind == "swapped":
            label = int(rng.choice(np.delete(np.arange(len(dataset.classes)), label)))
        elif kind == "shifted":
            box = _shifted(box, samples[index].size, rng)
        else:
            index = int(rng.integers(len(samples)))
            truth, row = samples[index].annotations, len(samples[index].annotations)
            box = _on_nothing(box[2:] - box[:2], samples[index], rng)
        if kind != "dropped":
            samples[index] = replace(samples[index], annotations=_with(truth, row, box, label))
        mistakes.append(Mistake(samples[index].image_id, kind, box, label))
    for index, rows in dropped.items():  # last, so that the rows before stay
        truth = samples[index].annotations
        left = truth[np.delete(np.arange(len(truth)), rows)]
        samples[index] = replace(samples[index], annotations=left)
    return replace(dataset, samples=tuple(samples)), mistakes


def _shifted(box: Array, size: tuple[int, int] | None, rng: np.random.Generator) -> Array:
    assert size is not None
    while True:
        moved = clip(box + np.tile(rng.uniform(-0.7, 0.7, 2) * (box[2:] - box[:2]), 2), size)
        if (moved[2:] - moved[:2]).min() >= 1 and 0.1 <= iou(moved[None], box[None])[0, 0] <= 0.5:
            return moved


def _on_nothing(sides: Array, sample: Sample, rng: np.random.Generator) -> Array:
    assert sample.size is not None
    room = np.array(sample.size[::-1])
    while True:
        sides = np.minimum(sides, room) * 0.98  # smaller each time, where the image is crowded
        low = rng.uniform(0, room - sides)
        box = np.concatenate([low, low + sides]).astype(np.float32)
        if iou(box[None], sample.annotations.boxes).max(initial=0) < 0.1:
            return box


def _with(truth: Annotations, row: int, box: Array, label: int) -> Annotations:
    """The labels with one replaced, or added after the last."""
    count = max(row + 1, len(truth))
    boxes, labels = np.resize(truth.boxes, (count, 4)), np.resize(truth.labels, count)
    boxes[row], labels[row] = box, label
    aside = [np.append(mask, False)[:count] for mask in (truth.difficult, truth.crowd)]
    return Annotations(boxes, labels, *aside)


def points_at(suspect: Suspect, mistake: Mistake, names: tuple[str, ...]) -> bool:
    """True if the suspect is this mistake: the label itself, or the object that was dropped."""
    if suspect.image_id != mistake.image_id or suspect.box is None:
        return False
    if mistake.kind == "dropped":
        is_it = suspect.kind == "overlooked" and suspect.suggestion == names[mistake.label]
        return is_it and bool(iou(suspect.box[None], mistake.box[None])[0, 0] >= 0.5)
    is_it = suspect.row is not None and suspect.label == names[mistake.label]
    return is_it and bool(np.allclose(suspect.box, mistake.box))


def found_in(
    suspects: list[Suspect], mistakes: list[Mistake], names: tuple[str, ...], count: int
) -> Array:
    """Mask of the mistakes that the first `count` suspects point at."""
    first = suspects[:count]
    return np.array([any(points_at(one, m, names) for one in first) for m in mistakes])


def fit(examples: list[tuple[Suspect, bool]]) -> Iterator[str]:
    """The logistic functions of labels and of overlooked objects, as Python."""
    from sklearn.linear_model import LogisticRegression

    for name, of_labels in (("OF_BOXES", True), ("OF_OVERLOOKED", False)):
        rows = [
            (one.evidence, wrong) for one, wrong in examples if (one.row is not None) == of_labels
        ]
        evidence, wrong = map(np.array, zip(*rows, strict=True))
        model = LogisticRegression().fit(evidence, wrong)
        weights = ", ".join(f"{value:.2f}" for value in model.coef_[0])
        yield f"{name} = Logistic(({weights}), {model.intercept_[0]:.2f})"


@exclusive_out
def main(
    data: option.Data,
    split: option.Split = None,
    images: option.SomeImages = None,
    prefix: Annotated[str, typer.Option(help="Only images whose id begins so.")] = "",
    share: Annotated[float, typer.Option(min=0, max=1, help="Labels made wrong.")] = 0.05,
    seeds: Annotated[int, typer.Option(min=2, help="Draws of mistakes.")] = 10,
    precision: option.Precision = "int8",
    fitted: Annotated[bool, typer.Option("--fit", help="Fit the logistic functions.")] = False,
    quiet: option.Quiet = False,
    out: Annotated[Path, typer.Option(help="Folder of the scores.")] = Path("out"),
) -> None:
    """Print how many of the mistakes are among the first labels of the list."""
    manifest = read_manifest(SHIPPED)
    labelled = read_labelled(data, split, manifest.classes)
    ids = [one.image_id for one in labelled.dataset.samples if one.image_id.startswith(prefix)]
    dataset = labelled.dataset.subset(ids).subset(images or len(ids))
    chosen = WrongLabelSettings(precision=precision, device="cpu")
    detector = load_for_labels(SHIPPED, chosen, quiet)
    shares, examples = [], []
    for seed in range(seeds):
        wrong, mistakes = corrupt(dataset, share, np.random.default_rng(seed))
        part = labelled._replace(dataset=wrong, splits=("",) * len(wrong))
        suspects = ranked(find(detector, manifest, part, out, quiet)[0])
        labels = sum(one.row is not None for one in suspects)
        first = [0.05 * len(suspects), 0.1 * len(suspects), 0.1 * labels]
        hits = [found_in(suspects, mistakes, labelled.names, round(count)) for count in first]
        of_kinds = [hits[1][turn :: len(KINDS)] for turn in range(len(KINDS))]
        shares.append([100 * float(part.mean()) for part in (*hits, *of_kinds)])
        print(
            f"seed {seed}: {len(mistakes)} mistakes in {labels} labels and"
            f" {len(suspects) - labels} candidates; in the first 10 %: {shares[-1][1]:.1f} %"
        )
        examples += [
            (one, any(points_at(one, mistake, labelled.names) for mistake in mistakes))
            for one in suspects
        ]
    firsts = ("5 % of the list", "10 % of the list", "10 % of the number of labels")
    names = (*(f"in the first {one}" for one in firsts), *(f"of {kind}" for kind in KINDS))
    for name, column in zip(names, np.array(shares).T, strict=True):
        print(f"{name}: {column.mean():.1f} % +- {column.std(ddof=1):.1f}")
    if fitted:
        print(*fit(examples), sep="\n")


if __name__ == "__main__":
    run_tool(main)
