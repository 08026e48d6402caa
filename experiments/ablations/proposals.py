"""Section 8 of arXiv 1409.4842 as a table: superpixels doubled, 200 MultiBox regions added back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets import Dataset
from detector.errors import ImageError
from detector.evaluation.bootstrap import image_draws
from detector.evaluation.coverage import best_overlaps, coverage
from detector.images.decoding import read_image
from detector.progress.messages import say_error
from detector.proposals.cache.stored import describe
from detector.proposals.engines import build_engine
from detector.proposals.merge import Proposer, union
from detector.structures import Array, Proposals

ADDED = 200  # MultiBox regions of GoogLeNet's entry (arXiv 1409.4842, section 8)


@dataclass(eq=False)
class Row:
    """One way to propose, and its proposals by image id.

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


def rows_of(multibox: Path | None, threads: int) -> list[Row]:
    """The rows of the table; without MultiBox's weights only those of selective search.

    The paper's figures are of ILSVRC's validation set, where R-CNN had 2,403 regions at 91.6 %.
    """
    once, doubled = (
        build_engine("selective-search", {"superpixel_scale": scale, "threads": threads})
        for scale in (1.0, 2.0)
    )
    paper = {"boxes": "2,403", "coverage": "92 %"}
    first = Row("selective search", once, [describe(once)], paper)
    paper = {"boxes": "half", "coverage": "not said"}
    rows = [first, Row("superpixels doubled", doubled, [describe(doubled)], paper, first)]
    if multibox is None:
        return rows
    added = build_engine("multibox", {"weights": multibox, "keep": ADDED, "threads": threads})
    joined, settings = union(doubled, added), [describe(doubled), describe(added)]
    paper = {"boxes": "about 60 %", "coverage": "93 %", "mAP": "+1"}
    return [
        *rows,
        Row(f"doubled + {ADDED} MultiBox", joined, settings, paper, first),
        Row(f"MultiBox alone ({ADDED})", added, [describe(added)], {"boxes": "200"}, first),
    ]


def rows_of_budgets(name: str, proposer: Proposer, budgets: Sequence[int]) -> list[Row]:
    """All regions of a proposer that ranks them, and the best few."""
    settings = [describe(proposer)]
    every = Row(f"{name}: all", proposer, settings, {})
    return [
        every,
        *(Row(f"{name}: {n}", proposer, settings, {}, every, n) for n in sorted(budgets)),
    ]


def propose_all(dataset: Dataset, rows: Sequence[Row]) -> Iterator[bool]:
    """Propose by each row for each image, in turn; yields True for an image that can be read."""
    for sample in dataset.samples:
        try:
            image = read_image(sample.path)
        except ImageError as error:
            say_error(error)
            yield False
            continue
        for row in rows:
            # The best few of a row above need no search of their own.
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
    """Boxes an image, coverage at IoU 0.5, MABO and seconds an image of each row; with bounds where
    `rounds` is not 0.
    """
    results = []
    for row in rows:
        found = coverage(dataset, row.found, [None])
        proposing = row if row.limit is None or row.against is None else row.against
        results.append(
            {
                "name": row.name,
                "boxes": float(found.taken[0]),
                "coverage": float(found.recall(0.5)[0]),
                "mabo": float(found.mabo()[0]),
                "seconds": proposing.seconds / len(row.found),
                "paper": row.paper,
                "settings": row.settings,
            }
        )
    if rounds:
        add_bounds(dataset, rows, results, seed, rounds)
    return results


def add_bounds(
    dataset: Dataset, rows: Sequence[Row], results: list[dict[str, Any]], seed: int, rounds: int
) -> None:
    """Add to each row the bootstrap interval of its coverage, and the paired difference from that
    of the row it is compared with, over the images (Efron; 95 %).
    """
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
    # Images are drawn, so rounds differ in their number of objects.
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
    # A round may draw no object at all; its share is nan.
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [float(low), float(high)]
