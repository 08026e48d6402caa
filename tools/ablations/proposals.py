"""Section 8 of arXiv 1409.4842 as a table: superpixels doubled, 200 MultiBox regions added back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.datasets import Dataset
from detector.errors import EvaluationError, ImageError
from detector.images import read_image
from detector.proposals.engines import build_engine
from detector.proposals.merge import Proposer, union
from detector.proposals.stored import describe, settings_hash
from detector.reporting.cli import say_error
from detector.structures import Proposals

ADDED = 200
"""MultiBox regions of GoogLeNet's entry."""


@dataclass
class Row:
    """One way to propose, and what it found."""

    name: str
    propose: Proposer
    settings: list[dict[str, Any]]
    paper: dict[str, str]
    found: dict[str, Proposals] = field(default_factory=dict)
    seconds: float = 0.0


def rows_of(multibox: str | None, threads: int) -> list[Row]:
    """The rows of the table; without MultiBox's weights only those of selective search.

    The paper's figures are of ILSVRC's validation set, where R-CNN had 2,403 regions at 91.6 %.
    """
    once, doubled = (
        build_engine("selective-search", {"superpixel_scale": scale, "threads": threads})
        for scale in (1.0, 2.0)
    )
    rows = [
        Row("selective search", once, [describe(once)], {"boxes": "2,403", "coverage": "92 %"}),
        Row(
            "superpixels doubled", doubled, [describe(doubled)],
            {"boxes": "half", "coverage": "not said"},
        ),
    ]  # fmt: skip
    if multibox is None:
        return rows
    given: dict[str, Any] = {"weights": multibox} if multibox else {}
    added = build_engine("multibox", {**given, "keep": ADDED, "threads": threads})
    rows += [
        Row(
            f"doubled + {ADDED} MultiBox", union(doubled, added),
            [describe(doubled), describe(added)],
            {"boxes": "about 60 %", "coverage": "93 %", "mAP": "+1"},
        ),
        Row(f"MultiBox alone ({ADDED})", added, [describe(added)], {"boxes": "200"}),
    ]  # fmt: skip
    return rows


def propose_all(dataset: Dataset, rows: Sequence[Row]) -> Iterator[bool]:
    """Let each row propose for each image, in turn; yields whether the image could be read."""
    for sample in dataset.samples:
        try:
            image = read_image(sample.path)
        except ImageError as error:
            say_error(error)
            yield False
            continue
        for row in rows:
            before = time.perf_counter()
            row.found[sample.image_id] = row.propose(image)
            row.seconds += time.perf_counter() - before
        yield True


def measured(dataset: Dataset, row: Row) -> dict[str, Any]:
    """Boxes an image, coverage at IoU 0.5, MABO and seconds an image of one row."""
    from detector.evaluation.coverage import coverage

    found = coverage(dataset, row.found, [None])
    return {
        "name": row.name,
        "boxes": float(found.taken[0]),
        "coverage": float(found.recall(0.5)[0]),
        "mabo": float(found.mabo()[0]),
        "seconds": row.seconds / len(row.found),
        "paper": row.paper,
        "settings": row.settings,
    }


def mean_precision(
    dataset: Dataset,
    row: Row,
    bundle: Path | None,
    threads: int,
    out: Path,
    watched: Callable[[Iterator[Any]], Iterator[Any]],
) -> float:
    """VOC2012's mAP of a bundle on the regions of one row; scores of regions are kept in `out`."""
    from detector.build import SHIPPED, load_detector
    from detector.bundle import read_manifest
    from detector.evaluation import evaluate
    from detector.region_scores import region_store, score_dataset

    detector = load_detector(
        bundle, proposer=row.propose, threads=threads,
        settings={"score_threshold": 0.01, "max_detections": 300},
    )  # fmt: skip
    if detector.classes != dataset.classes:
        raise EvaluationError(
            f"{dataset.name} has other classes than the weights; the mAP needs the same"
        )
    # A single source is kept under its own settings, where tools/evaluate.py too finds it.
    made = row.settings[0] if len(row.settings) == 1 else {"ablation": row.settings}
    manifest = read_manifest(bundle or SHIPPED)
    store = region_store(out / "regions", detector, manifest, settings_hash(made))
    by_path = {sample.path: row.found[sample.image_id] for sample in dataset.samples}
    scored = score_dataset(
        detector, dataset, store,
        lambda paths: ((path, by_path[path]) for path in paths),
    )  # fmt: skip
    results = {}
    for sample, found in watched(scored):
        if isinstance(found, ImageError):
            raise found
        results[sample.image_id] = detector.suppress(found.boxes, found.scores)
    return float(evaluate(dataset, results, "voc12").mean_ap)
