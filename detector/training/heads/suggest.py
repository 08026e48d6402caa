"""Which unlabelled photographs to label next: uncertain ones, different from each other.

The uncertainty of a photograph is the sum over its detections of (1 - |2 p - 1|)^2, where p is the
score: detections summed as by Brust et al. 2019 ("Active learning for deep object detection"),
squared so that many hopeless regions do not outweigh a few doubtful objects. The choice is greedy
(Sener and Savarese 2018, k-centre): the next photograph has the largest product of uncertainty and
distance to all that are labelled or chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets import Dataset, Sample
from detector.detection.bundle import read_manifest
from detector.detection.detector import Detector
from detector.detection.load import SHIPPED, load_detector
from detector.errors import ImageError, SettingsError
from detector.evaluation.scoring.regions import forward_dataset, region_store
from detector.hardware import use_device, use_threads
from detector.images.decoding import read_image
from detector.images.paths import image_paths
from detector.progress.bar import progress
from detector.progress.messages import say_error
from detector.structures import Annotations, Array, Detections
from detector.training.heads.data_features import describe_regions

# Lower scores are hardly ever objects.
MIN_SCORE = 0.05
# Of a photograph in which nothing is uncertain: something may have been overlooked there.
MIN_UNCERTAINTY = 0.05


@dataclass(frozen=True)
class Suggestion:
    """A photograph to label next, with what the detector finds there from a score of 0.05 on."""

    path: Path
    uncertainty: float
    detections: Detections


def suggest(
    images: Sequence[str | Path], cache: str | Path, *, count: int = 20,
    classes: Sequence[str] = (), labelled: Sequence[str | Path] = (),
    bundle: str | Path | None = None, device: str = "auto", precision: str = "auto",
    threads: int | None = None, quiet: bool = True,
) -> list[Suggestion]:  # fmt: skip
    """Choose photographs to label next, the most useful first, as `inception-rcnn suggest` does.

    images    photographs, or folders of them; those that cannot be read are named on stderr
    cache     folder for the networks' outputs, so that the same search goes on and is quick
    classes   those that are learnt; by default the added ones, or all where none is added
    labelled  photographs that have labels already, from which the others should differ
    bundle    the detector; None is the one that ships
    """
    if count < 1:
        raise SettingsError(f"count is {count}; it must be at least 1")
    bundle = Path(bundle or SHIPPED)
    manifest = read_manifest(bundle)
    if unknown := [name for name in classes if name not in manifest.classes]:
        raise SettingsError(
            f"no class {unknown[0]!r} in the bundle; it has {', '.join(manifest.classes[:20])}"
        )
    chosen = tuple(classes) or manifest.added_classes or manifest.classes
    paths = image_paths([str(path) for path in images])
    known = image_paths([str(path) for path in labelled]) if labelled else []
    resolved = {path.resolve() for path in known}
    paths = [path for path in paths if path.resolve() not in resolved]
    detector = load_detector(
        bundle, device=use_device(device), precision=precision, threads=use_threads(threads),
        threshold=MIN_SCORE,
    )  # fmt: skip
    store = region_store(cache, detector, manifest)
    dataset = _dataset_of(paths)
    scored = forward_dataset(detector, dataset, store, label="photographs", quiet=quiet)
    found: list[Suggestion] = []
    for sample, outputs in scored:
        if isinstance(outputs, ImageError):
            say_error(outputs)
            continue
        detections = detector.detections(outputs).filter(classes=chosen)
        found.append(Suggestion(sample.path, uncertainty_of(detections.scores), detections))
    if not found:
        raise ImageError("none of the photographs can be read, or all of them are labelled")
    found.sort(key=lambda one: str(one.path))  # cached ones came first
    pictures = [one.path for one in found] + known
    vectors = _describe(detector, pictures, quiet)
    uncertainty = np.array([one.uncertainty for one in found])
    order = choose(uncertainty, vectors[: len(found)], vectors[len(found) :], count)
    return [found[row] for row in order]


def uncertainty_of(scores: Array) -> float:
    """The uncertainty of a photograph by the scores (N,) of its detections."""
    return float(((1 - np.abs(2 * scores.astype(np.float64) - 1)) ** 2).sum())


def choose(uncertainty: Array, vectors: Array, labelled: Array, count: int) -> list[int]:
    """Rows of the next `count` photographs among N.

    uncertainty  (N,)
    vectors      (N, F) descriptions, and (L, F) of labelled photographs
    """
    value = uncertainty + MIN_UNCERTAINTY
    near = np.full(len(vectors), np.inf)
    for vector in labelled:
        near = np.minimum(near, np.linalg.norm(vectors - vector, axis=1))
    near[np.isinf(near)] = 1.0  # nothing is labelled: all are equally far
    rows: list[int] = []
    for _ in range(min(count, len(vectors))):
        gain = value * near
        gain[rows] = -1
        rows.append(int(gain.argmax()))
        near = np.minimum(near, np.linalg.norm(vectors - vectors[rows[-1]], axis=1))
    return rows


def _describe(detector: Detector, paths: Sequence[Path], quiet: bool) -> Array:
    """Unit vectors (N, F): the network's features of each whole photograph, without their mean."""
    features = []
    for path in progress(paths, "descriptions", quiet=quiet):
        image = read_image(path)
        height, width = image.shape[:2]
        features.append(describe_regions(detector, image, np.array([[0, 0, width, height]]))[0])
    vectors = np.concatenate(features).astype(np.float64)
    vectors -= vectors.mean(0)  # features of a network are above 0: all point one way
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _dataset_of(paths: Sequence[Path]) -> Dataset:
    nothing: Any = Annotations.empty()
    samples = tuple(Sample(str(path), path, None, nothing) for path in paths)
    return Dataset("photographs", ("any",), samples)
