"""Section 8 of arXiv 1409.4842 as a table: superpixels doubled, 200 MultiBox regions added back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets import Dataset
from detector.detection.bundle import BundleManifest
from detector.detection.detector import Detector
from detector.errors import EvaluationError, ImageError
from detector.evaluation.scoring.regions import region_store, score_dataset
from detector.evaluation.scoring.store import RegionStore
from detector.images.decoding import read_image
from detector.progress.messages import say_error
from detector.proposals.cache.stored import describe, settings_hash
from detector.proposals.engines import build_engine
from detector.proposals.merge import Proposer, union
from detector.structures import Array, Detections, Proposals

ADDED = 200
"""MultiBox regions of GoogLeNet's entry."""


@dataclass(eq=False)
class Row:
    """One way to propose, and what it found.

    against  the row that it is compared with; None: it is one that others are compared with
    limit    where it is not None, the row is the best so many of `against`
    """

    name: str
    propose: Proposer
    settings: list[dict[str, Any]]
    paper: dict[str, str]
    against: Row | None = None
    limit: int | None = None
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
    rows[1].against = rows[0]
    if multibox is None:
        return rows
    given: dict[str, Any] = {"weights": multibox} if multibox else {}
    added = build_engine("multibox", {**given, "keep": ADDED, "threads": threads})
    rows += [
        Row(
            f"doubled + {ADDED} MultiBox", union(doubled, added),
            [describe(doubled), describe(added)],
            {"boxes": "about 60 %", "coverage": "93 %", "mAP": "+1"}, rows[0],
        ),
        Row(f"MultiBox alone ({ADDED})", added, [describe(added)], {"boxes": "200"}, rows[0]),
    ]  # fmt: skip
    return rows


def rows_of_budgets(name: str, proposer: Proposer, budgets: Sequence[int]) -> list[Row]:
    """All regions of a proposer that ranks them, and the best few."""
    settings = [describe(proposer)]
    every = Row(f"{name}: all", proposer, settings, {})
    return [
        every,
        *(Row(f"{name}: {n}", proposer, settings, {}, every, n) for n in sorted(budgets)),
    ]


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
            if row.limit is not None and row.against is not None:
                whole = row.against.found[sample.image_id]
                row.found[sample.image_id] = whole[: row.limit]
                continue
            before = time.perf_counter()
            row.found[sample.image_id] = row.propose(image)
            row.seconds += time.perf_counter() - before
        yield True


def measure_all(
    dataset: Dataset, rows: Sequence[Row], seed: int, rounds: int
) -> list[dict[str, Any]]:
    """What each row covers, with bounds where `rounds` is not 0."""
    results = [measured(dataset, row) for row in rows]
    if rounds:
        with_bounds(dataset, rows, results, seed, rounds)
    return results


def measured(dataset: Dataset, row: Row) -> dict[str, Any]:
    """Boxes an image, coverage at IoU 0.5, MABO and seconds an image of one row."""
    from detector.evaluation.coverage import coverage

    found = coverage(dataset, row.found, [None])
    proposing = row if row.limit is None or row.against is None else row.against
    return {
        "name": row.name,
        "boxes": float(found.taken[0]),
        "coverage": float(found.recall(0.5)[0]),
        "mabo": float(found.mabo()[0]),
        "seconds": proposing.seconds / len(row.found),
        "paper": row.paper,
        "settings": row.settings,
    }


def with_bounds(
    dataset: Dataset, rows: Sequence[Row], results: list[dict[str, Any]], seed: int, rounds: int
) -> None:
    """Add to each row the bootstrap interval of its coverage, and the paired difference from that
    of the row it is compared with, over the images (Efron; 95 %).
    """
    from detector.evaluation.bootstrap import image_draws
    from detector.evaluation.coverage import best_overlaps

    images = len(dataset)
    draws = image_draws(images, seed, rounds)
    objects = np.zeros(images)
    covered = np.zeros((len(rows), images))
    for place, sample in enumerate(dataset.samples):
        truth = sample.annotations
        real = truth.boxes[truth.real]
        objects[place] = len(real)
        for number, row in enumerate(rows):
            best = best_overlaps(row.found[sample.image_id].boxes, real, [None])
            covered[number, place] = (best >= 0.5).sum()
    drawn = draws @ objects
    shares = np.divide(
        covered @ draws.T, drawn, out=np.full((len(rows), rounds), np.nan), where=drawn > 0
    )
    for number, result in enumerate(results):
        result["coverage_interval"] = _bounds(shares[number])
        other = rows[number].against
        if other is not None:
            place = rows.index(other)
            gain = result["coverage"] - results[place]["coverage"]
            result["coverage_gain"] = [gain, *_bounds(shares[number] - shares[place])]


def _bounds(values: Array) -> list[float]:
    """The middle 95 % of resampled values; those of rounds without an object do not count."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def detect_by_rows(
    dataset: Dataset,
    rows: Sequence[Row],
    detector: Detector,
    store: RegionStore,
    watched: Callable[[Iterator[Any]], Iterator[Any]],
) -> list[dict[str, Detections]]:
    """What a detector finds on the regions of each row, by image id.

    A region that several rows have is judged once: each image's distinct regions are asked
    together, and a row takes its own of the answers, up to the detector's `max_proposals`.
    """
    limit = detector.settings.max_proposals
    distinct: dict[Path, Proposals] = {}
    places: dict[str, list[Array]] = {}
    for sample in dataset.samples:
        own = [row.found[sample.image_id].boxes[:limit] for row in rows]
        boxes, inverse = np.unique(np.concatenate(own), axis=0, return_inverse=True)
        distinct[sample.path] = Proposals(boxes, rows[0].found[sample.image_id].size)
        ends = np.cumsum([len(one) for one in own])[:-1]
        places[sample.image_id] = np.split(inverse.reshape(-1), ends)
    detector.settings = detector.settings.model_copy(
        update={"max_proposals": None}
    )  # of the distinct ones, all
    results: list[dict[str, Detections]] = [{} for _ in rows]
    scored = score_dataset(
        detector, dataset, store, lambda paths: ((path, distinct[path]) for path in paths)
    )
    for sample, found in watched(scored):
        if isinstance(found, ImageError):
            raise found
        if not np.array_equal(found.proposals.boxes, distinct[sample.path].boxes):
            raise EvaluationError(
                f"{sample.path}: its regions are not those whose scores were kept before; give"
                " another --out, or remove what it holds"
            )
        for one, chosen in zip(results, places[sample.image_id], strict=True):
            one[sample.image_id] = detector.suppress(found.boxes[chosen], found.scores[chosen])
    return results


def mean_precisions(
    dataset: Dataset,
    rows: Sequence[Row],
    results: list[dict[str, Any]],
    detector: Detector,
    manifest: BundleManifest,
    out: Path,
    watched: Callable[[Iterator[Any]], Iterator[Any]],
    seed: int,
    rounds: int,
) -> None:
    """Add to each row VOC2012's mAP on its regions, the bootstrap interval, and the paired
    difference from the row it is compared with; what the networks say of regions is kept in `out`.
    """
    from detector.evaluation import compare, evaluate

    made = {
        "rows": [[row.settings, row.limit] for row in rows],
        "most": detector.settings.max_proposals,
    }
    store = region_store(out / "regions", detector, manifest, settings_hash(made))
    found = detect_by_rows(dataset, rows, detector, store, watched)
    for row, one, result in zip(rows, found, results, strict=True):
        verdict = evaluate(dataset, one, "voc12", rounds=rounds, seed=seed)
        result["mAP"] = verdict.mean_ap
        if verdict.interval is not None:
            result["mAP_interval"] = [verdict.interval.low, verdict.interval.high]
        if rounds and row.against is not None:
            other = found[rows.index(row.against)]
            gain = compare(dataset, other, one, "voc12", seed, rounds).difference
            result["mAP_gain"] = [gain.estimate, gain.low, gain.high]
