"""New classes from a few boxes: AP against the number of boxes, beside a training of the whole
network on the same images, and of images that were suggested.

    python experiments/few_boxes.py boxes --data bccd --name WBC --name Platelets --name RBC
    python experiments/few_boxes.py finetune --data bccd --name WBC --budget 1m
    python experiments/few_boxes.py suggest --data bccd --name WBC

Each draw takes other images of the train split; AP is that of the test split (VOC2012's rule, IoU
0.5), mean and standard deviation over the draws. Each region is described once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from unittest.mock import patch

import numpy as np
import typer

from detector.cli import options as option
from detector.cli.app import new_app, run_tool
from detector.datasets import Dataset, read_dataset
from detector.detection.bundle import load_bundle, read_manifest
from detector.detection.detector import Detector
from detector.detection.load import SHIPPED, load_detector
from detector.detection.suppression import suppress
from detector.evaluation import evaluate
from detector.heads.few_shot import moved_boxes
from detector.heads.linear import ClassHead
from detector.images.decoding import content_hash, read_image
from detector.progress.bar import progress
from detector.structures import Array, Detections
from detector.training.heads import class_regions
from detector.training.heads.class_data import real_objects
from detector.training.heads.data_features import describe_regions
from detector.training.heads.fit_classes import fit_classes
from detector.training.heads.suggest import choose, uncertainty_of

app = new_app(__doc__ or "")
Data = Annotated[Path, typer.Option(help="Data set with two splits.")]
Names = Annotated[list[str], typer.Option("--name", help="Class to learn; may repeat.")]
Draws = Annotated[int, typer.Option(min=1)]
Train = Annotated[str, typer.Option(help="Split to learn from.")]
Test = Annotated[str, typer.Option(help="Split to measure on.")]
Weights = Annotated[Path, typer.Option(help="Bundle that learns.")]


class Described:
    """`describe_regions` that remembers: fits on the same images share their proposals, whose
    features cost nearly all of the time.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[str, bytes, bool], Array] = {}

    def __call__(
        self, detector: Detector, image: Array, boxes: Array, mirrored: Array | None = None
    ) -> list[Array]:
        content = content_hash(image.tobytes())
        flips = np.zeros(len(boxes), bool) if mirrored is None else mirrored
        keys = [
            (content, np.float64(box).tobytes(), bool(flip))
            for box, flip in zip(boxes, flips, strict=True)
        ]
        new = [row for row, key in enumerate(keys) if key not in self.known]
        features = describe_regions(detector, image, boxes[new], flips[new])[0]
        self.known.update(zip((keys[row] for row in new), features, strict=True))
        every = [self.known[key] for key in keys]
        return [np.array(every).reshape(len(keys), features.shape[1])]


@dataclass(frozen=True)
class Regions:
    """The described proposals of a data set's images, and the vector of each whole image."""

    dataset: Dataset
    detector: Detector
    boxes: list[Array]
    features: list[Array]
    sizes: list[tuple[int, int]]
    vectors: Array

    @staticmethod
    def of(dataset: Dataset, detector: Detector, label: str, describe: Described) -> Regions:
        boxes, features, sizes, whole = [], [], [], []
        for sample in progress(dataset.samples, label):
            image = read_image(sample.path)
            found = detector.propose(image).boxes
            height, width = image.shape[:2]
            every = np.concatenate([found, [[0, 0, width, height]]])
            described = describe(detector, image, every)[0]
            boxes.append(found)
            features.append(described[:-1])
            sizes.append((height, width))
            whole.append(described[-1])
        vectors = np.array(whole, np.float64)
        vectors -= vectors.mean(0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Regions(dataset, detector, boxes, features, sizes, vectors)

    def detections(self, head: ClassHead) -> list[Detections]:
        """The detections of a head in each image, from a score of 0.01 on."""
        settings = self.detector.settings.model_copy(update={"score_threshold": 0.01})
        found = []
        for boxes, features, size in zip(self.boxes, self.features, self.sizes, strict=True):
            scores = head.scores(features)
            moved = moved_boxes(head, boxes, features, size)
            found.append(suppress(moved, np.concatenate([scores, 1 - scores], 1), settings))
        return found

    def ap(self, head: ClassHead, name: str) -> float:
        dataset = self.dataset.with_classes((name,))
        ids = [sample.image_id for sample in dataset.samples]
        results = dict(zip(ids, self.detections(head), strict=True))
        return evaluate(dataset, results, rounds=0).mean_ap


def fitted(
    dataset: Dataset, name: str, weights: Path, describe: Described, crops: int | None = None
) -> ClassHead:
    """The head that `inception-rcnn fit --add` learns from a data set."""
    with TemporaryDirectory() as folder, patch.object(class_regions, "describe_regions", describe):
        fit_classes(dataset, folder, add=[name], bundle=weights, boxes=1000, crops=crops)
        entries, heads = read_manifest(folder).heads, load_bundle(folder).heads
        head = heads[[entry.name for entry in entries].index(name)]
    assert isinstance(head, ClassHead)
    return head


def drawn(dataset: Dataset, name: str, boxes: int, seed: int) -> Dataset:
    """Images of a class in random order, as many as hold at least `boxes` objects, two at least."""
    label = dataset.classes.index(name)
    having = [sample for sample in dataset.samples if real_objects(sample, label)]
    chosen: list[str] = []
    count = 0
    for row in np.random.default_rng(seed).permutation(len(having)):
        if count >= boxes and len(chosen) >= 2:
            break
        chosen.append(having[row].image_id)
        count += real_objects(having[row], label)
    return dataset.subset(chosen)


def summary(values: Sequence[float] | Array) -> str:
    return f"{100 * np.mean(values):5.1f} ± {100 * np.std(values):4.1f}"


@app.command("boxes")
def compare_boxes(
    data: Data, name: Names, draws: Draws = 5, train: Train = "train", test: Test = "test",
    weights: Weights = SHIPPED, sizes: Annotated[str, typer.Option()] = "5,10,20,50",
    images: option.SomeImages = None,
    crops: Annotated[int | None, typer.Option(help="That of fit; fewer are faster.")] = None,
) -> None:  # fmt: skip
    """AP against the number of boxes; `images` are those of the test split."""
    pool, detector = read_dataset(data, train), load_detector(weights, device="auto")
    describe, judged = Described(), read_dataset(data, test)
    judged = judged if images is None else judged.subset(images)
    measured = Regions.of(judged, detector, "test", describe)
    for one in name:
        for boxes in map(int, sizes.split(",")):
            aps = []
            for seed in range(draws):
                part = drawn(pool, one, boxes, seed)
                head = fitted(part, one, weights, describe, crops)
                aps.append(measured.ap(head, one))
            print(f"{one:12} {boxes:4} boxes: AP {summary(aps)}", flush=True)


@app.command("finetune")
def compare_trainings(
    data: Data, name: Names, draws: Draws = 3, train: Train = "train", test: Test = "test",
    weights: Weights = SHIPPED, sizes: Annotated[str, typer.Option()] = "10,50",
    budget: Annotated[str, typer.Option(help="Time for each training.")] = "1m",
    images: option.SomeImages = None,
) -> None:  # fmt: skip
    """AP of `train regions`, which forgets its other classes, on the images that `boxes` draws and
    all labels there. The data set is a VOC folder; `images` are those of the test split.
    """
    pool, measured = read_dataset(data, train), read_dataset(data, test)
    measured = measured if images is None else measured.subset(images)
    for one in name:
        for boxes in map(int, sizes.split(",")):
            aps, taken = [], []
            for seed in range(draws):
                with TemporaryDirectory() as folder:
                    part = voc_part(data, drawn(pool, one, boxes, seed), Path(folder, "part"))
                    out, started = Path(folder, "run"), time.perf_counter()
                    given = {"data": part, "split": "train", "start": weights, "budget": budget}
                    words = [f"--{option}={value}" for option, value in given.items()]
                    command = [sys.executable, "-m", "detector", "train", "regions", *words]
                    subprocess.run([*command, f"--out={out}", "--quiet"], check=True)
                    taken.append(time.perf_counter() - started)
                    aps.append(ap_of(out / "bundle", measured, one))
            seconds = np.mean(taken)
            print(f"{one:12} {boxes:4} boxes: AP {summary(aps)}, {seconds:.0f} s", flush=True)


def voc_part(root: Path, part: Dataset, folder: Path) -> Path:
    """A VOC folder whose split `train` is a part of another one's images."""
    (folder / "ImageSets/Main").mkdir(parents=True)
    for name in ("Annotations", "JPEGImages"):
        (folder / name).symlink_to((root / name).resolve())
    ids = [sample.image_id for sample in part.samples]
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(ids))
    return folder


def ap_of(bundle: Path, dataset: Dataset, name: str) -> float:
    """The AP of a class that a bundle's networks know."""
    settings = {"score_threshold": 0.01}
    detector = load_detector(bundle, device="auto", settings=settings)
    label = detector.classes.index(name)
    results = {}
    found = detector.detect_many(sample.path for sample in dataset.samples)
    for sample, one in zip(dataset.samples, found, strict=True):
        mine = one[one.labels == label]
        labels = np.zeros(len(mine), np.int64)
        results[sample.image_id] = Detections(mine.boxes, mine.scores, labels, classes=(name,))
    return evaluate(dataset.with_classes((name,)), results, rounds=0).mean_ap


@app.command("suggest")
def compare_suggestions(
    data: Data, name: Names, draws: Draws = 5, train: Train = "train", test: Test = "test",
    weights: Weights = SHIPPED, images: Annotated[int, typer.Option()] = 100,
    each: Annotated[int, typer.Option()] = 5, rounds: Annotated[int, typer.Option()] = 4,
) -> None:  # fmt: skip
    """AP against labelled images: suggested ones and random ones, from the same first images."""
    pool, detector = read_dataset(data, train), load_detector(weights, device="auto")
    pool = pool.subset(images)
    describe = Described()
    known = Regions.of(pool, detector, "train", describe)
    measured = Regions.of(read_dataset(data, test), detector, "test", describe)
    for one in name:
        label = pool.classes.index(one)
        aps = {"suggested": np.zeros((draws, rounds)), "random": np.zeros((draws, rounds))}
        for seed in range(draws):
            for strategy, table in aps.items():
                rng = np.random.default_rng(seed)
                having = [real_objects(sample, label) > 0 for sample in pool.samples]
                rows = rng.permutation(np.flatnonzero(having))[:each].tolist()
                for number in range(rounds):
                    ids = [pool.samples[row].image_id for row in rows]
                    head = fitted(pool.subset(ids), one, weights, describe)
                    table[seed, number] = measured.ap(head, one)
                    rest = np.setdiff1d(np.arange(len(pool)), rows)
                    if strategy == "random":
                        rows += rng.permutation(rest)[:each].tolist()
                        continue
                    found = known.detections(head)
                    doubts = np.array([uncertainty_of(found[row].scores) for row in rest])
                    order = choose(doubts, known.vectors[rest], known.vectors[rows], each)
                    rows += rest[order].tolist()
        for number in range(rounds):
            first, second = (table[:, number] for table in aps.values())
            spread = 1.96 * np.std(first - second, ddof=1) / np.sqrt(draws) if draws > 1 else 0.0
            print(
                f"{one:12} {each * (number + 1):3} images: suggested {summary(first)}, random"
                f" {summary(second)}, difference {100 * np.mean(first - second):+.1f}"
                f" ± {100 * spread:.1f}", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    run_tool(app, sys.argv[1:])
