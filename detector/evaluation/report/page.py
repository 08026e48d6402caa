"""The report of an evaluation as one HTML file without scripts or network, images embedded.

The page is `report.html.j2`, which escapes every value; here are the numbers that it shows.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.datasets.dataset import Dataset
from detector.evaluation.coverage import Coverage
from detector.evaluation.diagnosis.calibration_error import BINS
from detector.evaluation.diagnosis.diagnosis import Diagnosis
from detector.evaluation.diagnosis.oracles import map_of
from detector.evaluation.protocols.matching import WRONG
from detector.evaluation.report.charts import Chart, percent, polyline
from detector.evaluation.report.pictures import worst_pictures
from detector.evaluation.report.templates import template
from detector.evaluation.result import CURVE_POINTS, ClassResult, Evaluation
from detector.progress.messages import pluralise

FEW_CLASSES = 3  # up to so many have a card of the common size for curves and confusions
PANELS_IN_A_ROW = 8
MAX_CURVES = 60
MAX_CONFUSED = 40  # a wider matrix cannot be read


@dataclass(frozen=True, eq=False)
class Report:
    """The contents of a page.

    command   the command that makes the page, shown under every figure
    coverage  of the proposals, if known
    judged    source of the detections: weights, or a file
    date      of the evaluation
    """

    dataset: Dataset
    evaluation: Evaluation
    diagnosis: Diagnosis
    command: str
    coverage: Coverage | None = None
    judged: str = ""
    date: str = ""


class Bar(NamedTuple):
    """One row of a bar chart: `share` of the full width, and its labels."""

    name: str
    share: float
    value: str
    note: str = ""
    pale: bool = False

    @property
    def width(self) -> str:
        return f"{100 * min(max(self.share, 0.0), 1.0) if math.isfinite(self.share) else 0.0:.1f}"


def report_html(report: Report) -> str:
    """The whole page; all text from files is escaped."""
    page = template("report.html.j2")
    evaluation, diagnosis = report.evaluation, report.diagnosis
    few = len(report.dataset.classes) <= FEW_CLASSES
    shown = sorted((one for one in evaluation.per_class if one.positives), key=lambda r: -r.ap)
    panels = shown if few else shown[:MAX_CURVES]
    # As many in each row as leaves the last one as full as can be.
    rows = max(1, math.ceil(len(panels) / PANELS_IN_A_ROW))
    text = page.render(
        report=report,
        evaluation=evaluation,
        diagnosis=diagnosis,
        few=few,
        images=pluralise(len(report.dataset), "image"),
        classes=pluralise(len(report.dataset.classes), "class"),
        voc_map=map_of(diagnosis.matching),
        numbers=_numbers(report),
        errors=_errors(diagnosis),
        alarms=_alarms(diagnosis),
        misses=_misses(diagnosis),
        stages=_stages(diagnosis, evaluation),
        coverage=None if report.coverage is None else _coverage(report.coverage),
        calibration=_calibration(diagnosis),
        rows=sorted(evaluation.per_class, key=lambda row: (not row.positives, -_or_zero(row.ap))),
        panels=[(one, _panel(one, few)) for one in panels],
        classes_with_objects=len(shown),
        columns=max(1, math.ceil(len(panels) / rows)),
        confusions=_confusions(diagnosis),
        max_confused=MAX_CONFUSED,
        pictures=list(worst_pictures(report.dataset, diagnosis)),
    )
    return text.strip() + "\n"


def _numbers(report: Report) -> list[tuple[str, str]]:
    diagnosis, matching = report.diagnosis, report.diagnosis.matching
    counted, threshold = matching.objects.counted, diagnosis.threshold
    found = int((counted & matching.found_at(threshold)).sum())
    claimed = int(((matching.scores >= threshold) & matching.judged).sum())
    objects = int(counted.sum())
    share, interval = "mAP", report.evaluation.interval
    if interval is not None:
        level = f"{100 * interval.confidence:.0f} %"
        share = f"mAP, {level} interval {percent(interval.low)} to {percent(interval.high)}"
    operating = "operating score" if threshold != diagnosis.best_threshold else "score of best F1"
    return [
        (percent(report.evaluation.mean_ap), share),
        (f"{objects}", "objects to be found"),
        (f"{threshold:.2f}", operating),
        (percent(found / claimed if claimed else np.nan), "precision there"),
        (percent(found / objects), "recall there"),
        (percent(diagnosis.calibration.error), "calibration error, %"),
    ]


def _errors(diagnosis: Diagnosis) -> list[Bar]:
    most = max([one.gain for one in diagnosis.gains] + [0.01])  # no full bar for almost nothing
    return [
        Bar(one.kind, one.gain / most, f"+{percent(one.gain)}", f"{one.number}", "all" in one.kind)
        for one in diagnosis.gains
    ]


def _alarms(diagnosis: Diagnosis) -> tuple[int, int]:
    wrong = diagnosis.matching.verdicts == WRONG
    return int(wrong.sum()), int((wrong & (diagnosis.matching.scores >= diagnosis.threshold)).sum())


def _misses(diagnosis: Diagnosis) -> list[Bar]:
    counts = diagnosis.misses()
    total = max(1, sum(counts.values()))
    return [
        Bar(name, count / total, f"{count}", f"{100 * count / total:.0f} %")
        for name, count in counts.items()
        if count or (diagnosis.with_regions != (name == "unseen"))
    ]


def _stages(diagnosis: Diagnosis, evaluation: Evaluation) -> list[Bar]:
    rows = [
        Bar(name, value, percent(value), pale=name != "as measured")
        for name, value in diagnosis.oracles.items()
    ]
    ceiling = evaluation.extras.get("oracle_class_map")
    if ceiling is not None:
        rows.append(Bar("perfect classes of all regions", ceiling, percent(ceiling), pale=True))
    return rows


def _coverage(coverage: Coverage) -> Chart:
    taken = np.maximum(1.0, coverage.taken)  # its logarithm is drawn
    lines = (coverage.recall(0.5), coverage.recall(0.7), coverage.mabo())
    ticks = [10**k for k in range(int(np.log10(taken[0])), int(np.ceil(np.log10(taken[-1]))) + 1)]
    curves = [(taken, values) for values in lines]
    return Chart("recall", curves, "boxes an image", ticks, logarithmic=True)


def _calibration(diagnosis: Diagnosis) -> Chart:
    measured = diagnosis.calibration
    there = measured.number > 0
    columns = [
        (place / BINS, (place + 1) / BINS, float(measured.precision[place]))
        for place in np.flatnonzero(there)
    ]
    curves = [(measured.score[there], measured.precision[there])]
    ticks = (0, 0.25, 0.5, 0.75, 1)
    return Chart("reliability", curves, "score", ticks, columns=columns, ideal=True)


def _panel(one: ClassResult, few: bool) -> Chart | str:
    # Up to the last recall that was reached.
    values = one.curve()
    last = int(np.flatnonzero(values > 0).max(initial=0)) + 1
    curve = (CURVE_POINTS[:last], values[:last])
    if few:
        return Chart(one.name, [curve], "recall", (0, 0.25, 0.5, 0.75, 1))
    return polyline((150 * curve[0]).tolist(), (110 * (1 - curve[1])).tolist())


class Confusions(NamedTuple):
    """The classes shown, and a row of counts with their share of the row for each; background is
    the last row, missed the last column.
    """

    names: list[str]
    rows: list[list[tuple[int, float]]]


def _confusions(diagnosis: Diagnosis) -> Confusions:
    counts = diagnosis.confusion
    last = len(counts) - 1
    # Those with most counts off the diagonal.
    off = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    chosen = sorted(np.argsort(-off[:last], kind="stable")[:MAX_CONFUSED].tolist())
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [diagnosis.matching.classes[label] for label in chosen]
    labels = [*chosen, last]
    rows = [[(int(counts[r, c]), float(shares[r, c])) for c in labels] for r in labels]
    return Confusions(names, rows)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
