"""Class scores of annotated boxes themselves, cached beside those of proposals."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from detector.datasets import Dataset, Sample
from detector.detection.aggregate import RegionScores
from detector.detection.bundle import BundleManifest
from detector.detection.detector import Detector
from detector.errors import ImageError
from detector.evaluation.scoring.regions import proposing_by, region_store, score_dataset
from detector.images.decoding import read_bytes
from detector.structures import Proposals


def score_annotated(
    detector: Detector, dataset: Dataset, folder: str | Path, manifest: BundleManifest, **how: Any
) -> Iterator[tuple[Sample, RegionScores | ImageError]]:
    """Each image with the scores of its objects, or its error, in the order of `score_dataset`.

    folder  of the cache; a corrected image is scored anew
    how     label, quiet and stop of `forward_dataset`

    The prior of sizes is left out: it counts how often a *proposal* of that size is an object.
    """
    boxes = {sample.path: sample.annotations.boxes for sample in dataset.samples}

    annotated = proposing_by(lambda path, _, size: Proposals(boxes[path], size))
    settings = detector.settings.model_copy(update={"max_proposals": None})
    unlimited = replace(detector, settings=settings, prior=None)
    store = region_store(folder, detector, manifest, "annotated boxes")

    def named_by(sample: Sample) -> bytes:
        return read_bytes(sample.path) + sample.annotations.boxes.tobytes()

    return score_dataset(unlimited, dataset, store, annotated, named_by=named_by, **how)
