"""The paper's detection table, and any other: rows that differ in proposals, networks and rules."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ablations.rows import read_file
from detector.datasets import Dataset
from detector.detection.bundle import read_manifest
from detector.detection.load import load_detector
from detector.errors import EvaluationError, ImageError, SettingsError
from detector.evaluation import compare, evaluate
from detector.evaluation.scoring.regions import proposing_with, region_store, score_dataset
from detector.progress.messages import say_error
from detector.proposals.cache.stored import ProposalStore
from detector.settings import Settings, validate
from detector.structures import Detections


class RowSettings(Settings):
    """One row; a setting of None is as the bundle has it."""

    name: str = ""
    proposals: str | None = None
    """NAME or NAME:SETTING=VALUE,..., as for inception-rcnn detect."""
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
    """The paper's figure, to be printed beside."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Detections of one row, and its regions an image."""

    settings: RowSettings
    boxes: float
    results: dict[str, Detections]


def read_rows(path: Path) -> list[RowSettings]:
    """Read the rows of a table's file, each complete. Raises SettingsError."""
    file = read_file(path)
    rows: list[RowSettings] = [
        validate(RowSettings, {**file.common, **row}, f"{path}: row {number}")
        for number, row in enumerate(file.rows, start=1)
    ]
    names = [row.name for row in rows]
    if len(set(names)) < len(names) or not all(names):
        raise SettingsError(f"{path}: every row needs a name of its own")
    return rows


def measure(
    dataset: Dataset,
    row: RowSettings,
    bundle: Path,
    threads: int,
    out: Path,
    watched: Callable[[Iterator[Any]], Iterator[Any]],
) -> Measured:
    """Run one row; proposals and the networks' outputs are cached in `out` for all rows.

    An image that cannot be read is reported on stderr and has no result.
    """
    settings = settings_given(
        row.max_proposals, row.voting, svm=row.svm, regression=row.regression,
        score_threshold=0.01, nms_threshold=row.nms, max_detections=300,
    )  # fmt: skip
    members = None if row.members == "all" else row.members
    detector = load_detector(
        bundle, members=members, proposals=row.proposals, settings=settings, threads=threads
    )
    if detector.classes != dataset.classes:
        raise EvaluationError(
            f"{dataset.name} has other classes than the weights; the mAP needs the same"
        )
    # These are no settings of a bundle, so the loaded detector is changed.
    if not row.size_prior:
        detector = replace(detector, prior=None)
    if not row.temperature:
        detector = replace(detector, temperatures=(1.0,) * len(detector.ensemble.members))
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


def settings_given(
    max_proposals: int | None, voting: float | None = None, **values: Any
) -> dict[str, Any]:
    """The detection settings that a row names; 0 regions are all of them, 0 voting is none."""
    given = {name: value for name, value in values.items() if value is not None}
    zero_is_none = {"max_proposals": max_proposals, "voting_iou": voting}
    return given | {name: one or None for name, one in zero_is_none.items() if one is not None}


def judged(dataset: Dataset, rows: list[Measured], seed: int, rounds: int) -> list[dict[str, Any]]:
    """VOC2012's mAP of each row and its difference from the first, with bootstrap intervals."""
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
            if row is not rows[0]:  # paired over images, which all rows share
                found_first = rows[0].results
                gain = compare(dataset, found_first, row.results, "voc12", seed, rounds).difference
                one["gain"] = [gain.estimate, gain.low, gain.high]
        found.append(one)
    return found
