"""The report of an evaluation as one HTML file without scripts or network, images embedded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.datasets.dataset import Dataset
from detector.evaluation.bootstrap import Interval
from detector.evaluation.coverage import Coverage
from detector.evaluation.diagnosis.diagnosis import Diagnosis
from detector.evaluation.protocols.matching import NEITHER
from detector.evaluation.report import sections as sections
from detector.evaluation.report.parts import figure, points, text
from detector.evaluation.report.pictures import worst_pictures
from detector.evaluation.report.style import STYLE
from detector.evaluation.result import Evaluation
from detector.progress.messages import pluralise


@dataclass(frozen=True, eq=False)
class Report:
    """The contents of a page.

    command   the command that makes the page, shown under every figure
    interval  of the mAP, and coverage of the proposals, if known
    judged    source of the detections: weights, or a file
    date      of the evaluation
    """

    dataset: Dataset
    evaluation: Evaluation
    diagnosis: Diagnosis
    command: str
    interval: Interval | None = None
    coverage: Coverage | None = None
    judged: str = ""
    date: str = ""


def report_html(report: Report) -> str:
    """The whole page; all text from files is escaped."""
    evaluation, diagnosis, command = report.evaluation, report.diagnosis, report.command
    # In columns of a page these stand about equally high, one after the other.
    cards = [sections.errors(diagnosis, command), sections.misses(diagnosis, command)]
    if report.coverage is not None:
        cards.append(sections.proposals(report.coverage, command))
    cards += [
        sections.calibration(diagnosis, command),
        sections.slices(diagnosis, command),
        sections.stages(diagnosis, evaluation, command),
        sections.classes(evaluation, command),
    ]
    wide = [sections.curves(evaluation, command), sections.confusions(diagnosis, command)]
    if len(report.dataset.classes) <= sections.FEW_CLASSES:  # small figures, no rows of their own
        cards, wide = cards + wide, []
    wide.append(
        figure(
            "Worst images",
            f"Most errors at a score of {diagnosis.threshold:.2f} or more.",
            worst_pictures(report.dataset, diagnosis),
            command,
            "wide",
        )
    )
    name = text(report.dataset.name)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{name}: {points(evaluation.mean_ap)} mAP</title><style>{STYLE}</style></head>\n"
        f'<body><main><h1>{name}</h1>{_origin(report)}<p class="note">{_about(report)}</p>'
        f'<div class="numbers">{_numbers(report)}</div>\n'
        f'<div class="cards">\n{"".join(cards)}</div>\n{"".join(wide)}</main></body></html>\n'
    )


def _origin(report: Report) -> str:
    """The source of the detections, the data set, and the date."""
    parts = [("", report.judged), ("data ", report.dataset.name), ("", report.date)]
    known = [f"{kind}{value}" for kind, value in parts if value]
    return f'<p class="origin">{text(" · ".join(known))}</p>'


def _about(report: Report) -> str:
    dataset, diagnosis = report.dataset, report.diagnosis
    return text(
        f"{pluralise(len(dataset), 'image')}, {pluralise(len(dataset.classes), 'class')}. The mAP"
        f" is by the protocol {report.evaluation.protocol}; errors, misses and confusions are"
        f" judged at IoU 0.5 by VOC's rule (mAP {points(diagnosis.matching.mean_ap())})."
    )


def _numbers(report: Report) -> str:
    diagnosis, matching = report.diagnosis, report.diagnosis.matching
    counted = matching.objects.counted
    threshold = diagnosis.threshold
    found = int((counted & matching.found_at(threshold)).sum())
    claimed = int(((matching.scores >= threshold) & (matching.verdicts != NEITHER)).sum())
    objects = int(counted.sum())
    share = "mAP"
    if report.interval is not None:
        low, high = points(report.interval.low), points(report.interval.high)
        share = f"mAP, {100 * report.interval.confidence:.0f} % interval {low} to {high}"
    rows = [
        (points(report.evaluation.mean_ap), share),
        (f"{objects}", "objects to be found"),
        (
            f"{threshold:.2f}",
            "operating score" if threshold != diagnosis.best_threshold else "score of best F1",
        ),
        (points(found / claimed if claimed else np.nan), "precision there"),
        (points(found / objects), "recall there"),
        (points(diagnosis.calibration.error), "calibration error, %"),
    ]
    return "".join(
        f'<div class="number{" first" if index == 0 else ""}"><b>{value}</b>'
        f"<span>{text(name)}</span></div>"
        for index, (value, name) in enumerate(rows)
    )
