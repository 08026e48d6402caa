"""The figures of the report, each from the part of the diagnosis that it shows."""

from __future__ import annotations

import math

import numpy as np

from detector.evaluation.coverage import Coverage
from detector.evaluation.diagnosis.calibration import BINS
from detector.evaluation.diagnosis.diagnosis import Diagnosis
from detector.evaluation.protocols.matching import WRONG
from detector.evaluation.report.parts import (
    Bar,
    Curve,
    bars,
    chart,
    figure,
    points,
    small_curve,
    table,
    text,
)
from detector.evaluation.result import CURVE_POINTS, ClassResult, Evaluation
from detector.structures import Array

FEW_CLASSES = 3
"""Up to so many have a card of the common size for their curves and confusions."""
PANELS_IN_A_ROW = 8
MOST_CURVES = 60
MOST_CONFUSED = 40


def errors(diagnosis: Diagnosis, command: str) -> str:
    most = max([one.gain for one in diagnosis.gains] + [0.01])
    rows = [
        Bar(one.kind, one.gain / most, f"+{points(one.gain)}", f"{one.number}", "all" in one.kind)
        for one in diagnosis.gains
    ]
    matching = diagnosis.matching
    alarms = matching.verdicts == WRONG
    there = int((alarms & (matching.scores >= diagnosis.threshold)).sum())
    note = (
        "Points of mAP that mending each kind of error would bring, and how many there are at any"
        f" score. Of the {int(alarms.sum())} false alarms {there} have a score of"
        f" {diagnosis.threshold:.2f} or more: only these count in the precision above, among the"
        " confusions and on the worst images."
    )
    return figure("Where points are lost", note, bars(rows), command)


def misses(diagnosis: Diagnosis, command: str) -> str:
    counts = diagnosis.misses()
    total = max(1, sum(counts.values()))
    rows = [
        Bar(name, count / total, f"{count}", f"{100 * count / total:.0f} %")
        for name, count in counts.items()
        if count or (diagnosis.with_regions != (name == "unseen"))
    ]
    source = "regions and detections" if diagnosis.with_regions else "the detections alone"
    note = f"Objects not found with a score of {diagnosis.threshold:.2f} or more; from {source}."
    return figure("Why objects are missed", note, bars(rows), command)


def stages(diagnosis: Diagnosis, evaluation: Evaluation, command: str) -> str:
    rows = [
        Bar(name, value, points(value), pale=name != "as measured")
        for name, value in diagnosis.oracles.items()
    ]
    ceiling = evaluation.extras.get("oracle_class_map")
    if ceiling is not None:
        rows.append(Bar("perfect classes of all regions", ceiling, points(ceiling), pale=True))
    note = "mAP (voc12) if one stage were perfect and the others stayed as they are."
    return figure("What each stage allows", note, bars(rows), command)


def proposals(coverage: Coverage, command: str) -> str:
    taken = [max(1.0, float(one)) for one in coverage.taken]
    curves = [
        Curve(name, list(zip(taken, values.tolist(), strict=True)))
        for name, values in (
            ("recall at IoU 0.5", coverage.recall(0.5)),
            ("recall at IoU 0.7", coverage.recall(0.7)),
            ("MABO", coverage.mabo()),
        )
    ]
    ticks = [10**k for k in range(int(np.log10(taken[0])), int(np.ceil(np.log10(taken[-1]))) + 1)]
    body = chart("recall", curves, "boxes an image", ticks, logarithmic=True)
    note = "Blue: recall at IoU 0.5; red: at 0.7; green: mean average best overlap."
    return figure("Recall against proposals", note, body, command)


def calibration(diagnosis: Diagnosis, command: str) -> str:
    found = diagnosis.calibration
    columns = [
        (place / BINS, (place + 1) / BINS, float(value))
        for place, value in enumerate(found.precision)
        if not np.isnan(value)
    ]
    there = found.number > 0
    line = list(zip(found.score[there].tolist(), found.precision[there].tolist(), strict=True))
    body = chart(
        "reliability", [Curve("precision", line)], "score", (0, 0.25, 0.5, 0.75, 1),
        columns=columns, ideal=True,
    )  # fmt: skip
    note = (
        f"Share of right detections at each score; on the dashed line a score means what it says."
        f" Expected calibration error {points(found.error)} %."
    )
    return figure("Calibration", note, body, command)


def slices(diagnosis: Diagnosis, command: str) -> str:
    rows = []
    for one in diagnosis.slices:
        numbers = [points(value) for value in (one.mean_ap, one.recall, one.recall_at)]
        rows.append([f"{one.by}: {one.name}", str(one.objects), *numbers])
    head = ("", "objects", "mAP", "recall", f"at {diagnosis.threshold:.2f}")
    note = "Size: COCO's three; share: of the image; shape: width over height."
    return figure("By size and shape", note, table(head, rows), command)


def classes(evaluation: Evaluation, command: str) -> str:
    names = ("class", "AP", "", "objects", "detections", "recall")
    head = "".join(f"<th>{name}</th>" if name else '<th class="meter"></th>' for name in names)
    rows = []
    for one in sorted(evaluation.per_class, key=lambda row: (not row.positives, -_or_zero(row.ap))):
        width = 100 * _or_zero(one.ap)
        recall = points(one.best_recall) if one.positives else "–"
        rows.append(
            f"<tr><td>{text(one.name)}</td><td>{points(one.ap)}</td>"
            f'<td class="meter"><i style="width:{width:.1f}%"></i></td>'
            f"<td>{one.positives}</td><td>{one.detections}</td><td>{recall}</td></tr>"
        )
    body = (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return figure("Classes", f"Average precision by {evaluation.protocol}.", body, command)


def curves(evaluation: Evaluation, command: str) -> str:
    shown = sorted((one for one in evaluation.per_class if one.positives), key=lambda r: -r.ap)
    note = (
        "Precision (up) against recall (right), 0 to 1; the best precision at this or more recall."
    )
    if len(evaluation.per_class) <= FEW_CLASSES:
        charts = [
            f"<h3>{text(one.name)} {points(one.ap)}</h3>"
            + chart(one.name, [_curve(one)], "recall", (0, 0.25, 0.5, 0.75, 1))
            for one in shown
        ]
        return figure("Precision and recall", note, "".join(charts), command)
    panels = [
        f"<div><h3><span>{text(one.name)}</span>{points(one.ap)}</h3>{small_curve(_curve(one))}"
        "</div>"
        for one in shown[:MOST_CURVES]
    ]
    if len(shown) > MOST_CURVES:
        note += f" The best {MOST_CURVES} of {len(shown)} classes."
    # As many in each row as leaves the last one as full as can be.
    rows = max(1, math.ceil(len(panels) / PANELS_IN_A_ROW))
    columns = max(1, math.ceil(len(panels) / rows))
    body = f'<div class="panels" style="--columns:{columns}">{"".join(panels)}</div>'
    return figure("Precision and recall", note, body, command, "wide")


def _curve(one: ClassResult) -> Curve:
    """Up to the last recall that was reached."""
    values = one.curve()
    last = int(np.flatnonzero(values > 0).max(initial=0)) + 1
    return Curve(
        one.name, list(zip(CURVE_POINTS[:last].tolist(), values[:last].tolist(), strict=True))
    )


def confusions(diagnosis: Diagnosis, command: str) -> str:
    counts = diagnosis.confusion
    chosen = _most_confused(counts)
    names = [*diagnosis.matching.classes, ""]
    tops = [text(names[label]) for label in chosen[:-1]] + ["<i>missed</i>"]
    sides = [text(names[label]) for label in chosen[:-1]] + ["<i>background</i>"]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [
        f"<tr><th>{side}</th>"
        + "".join(_cell(counts, shares, row, col) for col in chosen)
        + "</tr>"
        for side, row in zip(sides, chosen, strict=True)
    ]
    head = "<th></th>" + "".join(f"<th>{top}</th>" for top in tops)
    body = (
        f'<div class="scroll"><table class="matrix"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    note = (
        f"Rows: the truth; columns: what was detected with a score of {diagnosis.threshold:.2f} or"
        " more. Shade: share of the row."
    )
    if len(chosen) < len(counts):
        note += f" The {MOST_CONFUSED} most confused of {len(counts) - 1} classes."
    shape = "wide" if len(counts) - 1 > FEW_CLASSES else ""
    return figure("Confusions", note, body, command, shape)


def _most_confused(counts: Array) -> list[int]:
    """Labels shown, in order, background last: those with most counts off the diagonal."""
    last = len(counts) - 1
    off = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    chosen = np.argsort(-off[:last], kind="stable")[:MOST_CONFUSED]
    return [*sorted(chosen.tolist()), last]


def _cell(counts: Array, shares: Array, row: int, column: int) -> str:
    if not counts[row, column]:
        return "<td></td>"
    shade = 0.08 + 0.6 * shares[row, column]
    return f'<td style="background:rgb(var(--heat) / {shade:.2f})">{counts[row, column]}</td>'


def _or_zero(value: float) -> float:
    return 0.0 if np.isnan(value) else value
