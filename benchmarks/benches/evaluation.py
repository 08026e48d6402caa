"""Seconds that each protocol takes on a synthetic set of results.

Processor seconds are the figure to quote: on a busy machine the others say how busy it was.
"""

import importlib.util
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benches.timing import by_turns, machine, median
from detector.datasets import Dataset, Sample
from detector.evaluation import PROTOCOLS, evaluate
from detector.structures import Annotations, Detections

SIDE = 640


def measure(*, images: int, detections: int, classes: int, rounds: int) -> dict[str, Any]:
    """Time every protocol, and COCO's by every installed engine; medians of `rounds`."""
    dataset, results = synthetic(images, detections, classes)
    mean_ap: dict[str, float] = {}

    def judge(name: str, protocol: Any, engine: Any = "pycocotools") -> Callable[[Any], None]:
        def run(_: Any) -> None:
            mean_ap[name] = evaluate(dataset, results, protocol, engine, rounds=0).mean_ap

        return run

    ways: dict[str, Callable[[Any], None]] = {name: judge(name, name) for name in PROTOCOLS}
    if importlib.util.find_spec("hotcoco") is not None:
        ways["coco, fast"] = judge("coco, fast", "coco", "fast")
    table = {
        name: {
            "mAP": mean_ap[name], "seconds": median(taken[:, 0]),
            "processor seconds": median(taken[:, 1]),
        }
        for name, taken in by_turns(ways, [None], rounds).items()
    }  # fmt: skip
    about = {
        "images": images,
        "objects": sum(len(sample.annotations) for sample in dataset.samples),
        "detections": sum(map(len, results.values())),
        "classes": classes,
        "rounds": rounds,
        # Linux counts in kilobytes.
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    return {"about": machine() | about, "tables": {"protocol": table}}


def synthetic(
    images: int, detections: int, classes: int, seed: int = 0
) -> tuple[Dataset, dict[str, Detections]]:
    """Make objects of all sizes and of classes of very different frequency, and results near them.

    About seven objects an image, as in COCO; seven of ten results have the right class.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, classes + 1)  # as Zipf's law: few classes are common
    share /= share.sum()
    samples, results = [], {}
    each = detections // images
    for number in range(1, images + 1):
        count = int(rng.integers(1, 14))
        low = rng.uniform(0, 0.7 * SIDE, (count, 2))
        boxes = np.concatenate([low, low + np.exp(rng.uniform(1.5, 5.5, (count, 2)))], 1)
        labels = rng.choice(classes, count, p=share)
        name = f"{number:012d}"
        truth = Annotations(boxes, labels)
        samples.append(Sample(name, Path(f"{name}.jpg"), (SIDE, SIDE), truth))
        near = rng.integers(count, size=each)
        noise = rng.normal(0, 0.1, (each, 4)) * np.tile(boxes[near, 2:] - boxes[near, :2], 2)
        found = boxes[near] + noise
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        wrong = rng.random(each) < 0.3
        guessed = np.where(wrong, rng.choice(classes, each, p=share), labels[near])
        results[name] = Detections(found, rng.random(each), guessed)
    names = tuple(f"class {label}" for label in range(classes))
    return Dataset("synthetic", names, tuple(samples)), results
