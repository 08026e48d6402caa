"""The paper's detection table, and any other: rows that differ in proposals, networks and rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from detector.cli.detecting.loading import settings_given
from detector.datasets import Dataset
from detector.errors import EvaluationError, ImageError
from detector.progress.messages import say_error
from detector.settings import Settings
from detector.structures import Detections


class RowSettings(Settings):
    """One row. What is None is as the bundle has it."""

    name: str = ""
    proposals: str | None = None
    """NAME or NAME:SETTING=VALUE,..., as for tools/detect.py."""
    members: int | Literal["all"] = 1
    max_proposals: int | None = Field(None, ge=0)
    """0 is all."""
    nms: float = Field(0.3, ge=0, le=1)
    voting: float | None = Field(None, ge=0, le=1)
    """0 is none."""
    regression: bool | None = None
    svm: bool | None = None
    size_prior: bool = True
    temperature: bool = True
    """False leaves the softmax of each member as it comes."""
    paper: str = ""
    """What the paper says, to be printed beside."""


class Table(Settings):
    """A file of rows; `common` holds what they have in common."""

    common: dict[str, Any] = {}
    rows: tuple[dict[str, Any], ...] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class Measured:
    """What one row found."""

    settings: RowSettings
    boxes: float
    results: dict[str, Detections]


def read_rows(path: Path) -> list[RowSettings]:
    """The rows of a table's file, each complete."""
    from detector.settings import load_config, validate

    table: Table = validate(Table, load_config(path), str(path))
    made = []
    for number, row in enumerate(table.rows, start=1):
        label = f"{path}: row {number}"
        made.append(validate(RowSettings, {**table.common, **row}, label))
    names = [row.name for row in made]
    if len(set(names)) < len(names) or not all(names):
        from detector.errors import SettingsError

        raise SettingsError(f"{path}: every row needs a name of its own")
    return made


def check_classes(classes: tuple[str, ...], dataset: Dataset) -> None:
    """The data set's are those of the detector."""
    if classes != dataset.classes:
        raise EvaluationError(
            f"{dataset.name} has other classes than the weights; the mAP needs the same"
        )


def measure(
    dataset: Dataset,
    row: RowSettings,
    bundle: Path,
    threads: int,
    out: Path,
    watched: Callable[[Iterator[Any]], Iterator[Any]],
) -> Measured:
    """Run one row; proposals and what the networks say of them are kept in `out`, for all rows.

    An image that cannot be read is said on stderr and has no result.
    """
    from detector.detection.bundle import read_manifest
    from detector.detection.load import load_detector
    from detector.evaluation.scoring.regions import proposing_with, region_store, score_dataset
    from detector.proposals.cache.stored import ProposalStore

    settings = settings_given(
        row.max_proposals, row.voting, svm=row.svm, regression=row.regression,
        score_threshold=0.01, nms_threshold=row.nms, max_detections=300,
    )  # fmt: skip
    members = None if row.members == "all" else row.members
    detector = load_detector(
        bundle, members=members, proposals=row.proposals, settings=settings, threads=threads
    )
    check_classes(detector.classes, dataset)
    if not row.size_prior:
        detector.prior = None
    if not row.temperature:
        detector.ensemble.temperatures = (1.0,) * len(detector.ensemble.members)
    store = region_store(out / "regions", detector, read_manifest(bundle))
    results, boxes = {}, 0
    with ProposalStore(out / "proposals.sqlite", "rw") as kept:
        scored = score_dataset(detector, dataset, store, proposing_with(detector, kept))
        for sample, found in watched(scored):
            if isinstance(found, ImageError):
                say_error(found)
                continue
            boxes += len(found.proposals)
            results[sample.image_id] = detector.suppress(found.boxes, found.scores)
    if not results:
        raise ImageError(f"{dataset.name}: none of its images could be read")
    return Measured(row, boxes / len(results), results)


def judged(dataset: Dataset, rows: list[Measured], seed: int, rounds: int) -> list[dict[str, Any]]:
    """VOC2012's mAP of each row and its difference from the first, with bootstrap intervals."""
    from detector.evaluation import compare, evaluate

    found = []
    for row in rows:
        verdict = evaluate(dataset, row.results, "voc12", rounds=rounds, seed=seed)
        one: dict[str, Any] = {
            "name": row.settings.name, "paper": row.settings.paper, "boxes": row.boxes,
            "mAP": verdict.mean_ap,
            "settings": row.settings.model_dump(mode="json"),
        }  # fmt: skip
        if verdict.interval is not None:
            one["interval"] = [verdict.interval.low, verdict.interval.high]
            if row is not rows[0]:
                found_first = rows[0].results
                gain = compare(dataset, found_first, row.results, "voc12", seed, rounds).difference
                one["gain"] = [gain.estimate, gain.low, gain.high]
        found.append(one)
    return found
