"""Small data sets and results for the tests of evaluation."""

from pathlib import Path

import numpy as np
from plain_evaluation import Guess, Truth

from detector.boxes import voc_from_xyxy
from detector.datasets import Dataset, Sample
from detector.structures import Annotations, Detections, Proposals


def dataset_of(*truths: Annotations, classes: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    """Images a, b, c, ... with these objects."""
    samples = tuple(
        Sample(chr(ord("a") + i), Path(f"{chr(ord('a') + i)}.jpg"), (100, 100), truth)
        for i, truth in enumerate(truths)
    )
    return Dataset("toy", classes, samples)


def random_case(
    rng: np.random.Generator, images: int = 4, classes: int = 3, ties: bool = True
) -> tuple[Dataset, dict[str, Detections]]:
    """Objects on a 60-pixel image; detections often near one, and often with equal scores."""
    truths, results = [], {}
    for image in range(images):
        n = int(rng.integers(0, 6))
        boxes = _random_boxes(rng, n)
        truth = Annotations(
            boxes, rng.integers(0, classes, n), rng.random(n) < 0.25, rng.random(n) < 0.1
        )
        m = int(rng.integers(0, 12))
        found = _random_boxes(rng, m)
        labels = rng.integers(0, classes, m)
        for row in range(m):
            if n and rng.random() < 0.7:
                target = int(rng.integers(n))
                found[row] = boxes[target] + rng.integers(-4, 5, 4) * [1, 1, 0, 0]
                labels[row] = truth.labels[target]
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        scores = rng.integers(0, 8, m) / 8 if ties else rng.random(m)
        truths.append(truth)
        if m or rng.random() < 0.5:
            results[chr(ord("a") + image)] = Detections(found, scores, labels)
    names = tuple(f"class {label}" for label in range(classes))
    return dataset_of(*truths, classes=names), results


def _random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    low = rng.integers(0, 50, (n, 2))
    return np.concatenate([low, low + rng.integers(1, 40, (n, 2))], 1).astype(float)


def in_plain_terms(
    dataset: Dataset, results: dict[str, Detections], label: int
) -> tuple[list[Guess], list[Truth]]:
    """One class as the plain version wants it: 1-based inclusive boxes in flat lists."""
    guesses, truths = [], []
    for sample in dataset.samples:
        image, objects = sample.image_id, sample.annotations
        boxes = voc_from_xyxy(objects.boxes).astype(int).tolist()
        for i in np.flatnonzero(objects.labels == label):
            ignored = bool(objects.difficult[i] or objects.crowd[i])
            truths.append(Truth(image, tuple(boxes[i]), ignored))
        if image in results:
            found = results[image]
            boxes = voc_from_xyxy(found.boxes).astype(int).tolist()
            for i in np.flatnonzero(found.labels == label):
                guesses.append(Guess(image, float(found.scores[i]), tuple(boxes[i])))
    return guesses, truths


def proposals_of(boxes: list[list[float]]) -> Proposals:
    return Proposals(boxes, (100, 100))
