"""What is said of detections: the table, the JSON, the curves, the page, the comparison."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from detector.cli.evaluating.running import Seen
from detector.datasets import Dataset
from detector.evaluation import (
    Evaluation,
    Interval,
    Protocol,
    bootstrap_interval,
    compare,
    evaluate,
)
from detector.evaluation.coverage import coverage
from detector.evaluation.diagnosis.diagnosis import diagnose
from detector.evaluation.protocols.coco_engines import MAX_DETS, CocoEngine
from detector.evaluation.report.page import Report, report_html
from detector.evaluation.report.plots import plot_precision_recall
from detector.files import write_atomically
from detector.progress.messages import escape_controls, pluralise
from detector.structures import Detections

WRITTEN = ("evaluation.json", "precision_recall.png", "diagnosis.json", "report.html")
"""What an evaluation leaves, the last two with --report."""


def report(
    dataset: Dataset,
    results: Mapping[str, Detections],
    protocol: Protocol,
    engine: CocoEngine,
    max_dets: int,
    seed: int,
    rounds: int,
    out: Path,
    judged: Mapping[str, str],
    extras: Mapping[str, float],
) -> tuple[Evaluation, Interval | None]:
    """Print and write the verdict with `extras` beside it, and return it. What an earlier run has
    left in `out` goes, for it may be about something else.

    judged  what the detections are: of which weights, or saved where
    """
    evaluation = evaluate(dataset, results, protocol, engine, max_dets)
    if beyond := evaluation.extras.get("images_beyond_max_dets"):
        print(
            f"{beyond} of {pluralise(len(dataset), 'image')}: more than {max_dets} objects or"
            f" detections of a class, of which the {max_dets} best detections count"
            + ("; --max-dets sets another number" if max_dets == MAX_DETS else ""),
            file=sys.stderr,
        )
    evaluation = replace(evaluation, extras={**evaluation.extras, **extras})
    interval = None
    if rounds and protocol != "coco":
        interval = bootstrap_interval(dataset, results, protocol, seed, rounds)
    about = {
        "interval": interval and asdict(interval),
        "rounds": 0 if interval is None else rounds,
        "seed": None if interval is None else seed,
        "data": dataset.name,
        "images": len(dataset),
        **judged,
        "command": command_line(),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        (out / name).unlink(missing_ok=True)
    write_atomically(out / "evaluation.json", evaluation.to_json(about))
    plot_precision_recall(evaluation, out / "precision_recall.png")
    show(evaluation, interval)
    print(f"{out}/: evaluation.json, precision_recall.png")
    return evaluation, interval


def command_line() -> str:
    return shlex.join(["inception-rcnn", "evaluate", "detections", *sys.argv[1:]])


def write_report(
    dataset: Dataset,
    results: Mapping[str, Detections],
    evaluation: Evaluation,
    interval: Interval | None,
    operating: float | None,
    out: Path,
    judged: Mapping[str, str],
    seen: Seen | None = None,
) -> None:
    """The diagnosis as diagnosis.json and, with curves and pictures, as one page."""
    diagnosis = diagnose(dataset, results, operating, seen.evidence if seen else None)
    covered = coverage(dataset.subset(seen.regions), seen.regions) if seen else None
    name = next(iter(judged.items()), ("", ""))  # the weights, if there are some
    page = report_html(
        Report(
            dataset, evaluation, diagnosis, command_line(), interval, covered,
            judged=" ".join(name), date=date.today().isoformat(),
        )
    )  # fmt: skip
    write_atomically(out / "diagnosis.json", diagnosis.to_json())
    write_atomically(out / "report.html", page)
    print(f"report {out / 'report.html'}")


def show(evaluation: Evaluation, interval: Interval | None) -> None:
    """A table of the classes, and the mean."""
    table = Table("class", box=None, header_style="bold")
    for name in ("AP", "objects", "detections", "recall"):
        table.add_column(name, justify="right")
    for one in evaluation.per_class:
        ap, recall = (percent(one.ap), percent(one.best_recall)) if one.positives else ("-", "-")
        table.add_row(
            escape_controls(one.name), ap, str(one.positives), str(one.detections), recall
        )
    console = Console(markup=False, highlight=False)
    console.print(table)
    for name, value in evaluation.extras.items():
        counts = isinstance(value, int) or name == "proposals_per_image"
        print(f"{name.replace('_', ' ')} {f'{value:.10g}' if counts else percent(value)}")
    print(f"mAP {percent(evaluation.mean_ap)} ({evaluation.protocol}){bounds(interval)}")


def report_comparison(
    dataset: Dataset,
    first: Mapping[str, Detections],
    second: Mapping[str, Detections],
    protocol: Protocol,
    seed: int,
    rounds: int,
    out: Path,
) -> int:
    """Print and write the difference of two sets of detections, paired over the images."""
    if rounds == 0:
        raise typer.BadParameter("--compare needs --rounds of at least 1")
    result = compare(dataset, first, second, protocol, seed, rounds)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "comparison.json", result.to_json())
    for name, interval in (("first", result.first), ("second", result.second)):
        print(f"{name:10s} mAP {percent(interval.estimate)}{bounds(interval)}")
    print(f"difference     {percent(result.difference.estimate)}{bounds(result.difference)}")
    print(f"the second is not better in {percent(result.p_worse)} % of {rounds} rounds")
    print(f"{out}/: comparison.json")
    return 0


def percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.1f}"


def bounds(interval: Interval | None) -> str:
    if interval is None:
        return ""
    level = f"{100 * interval.confidence:.0f} %"
    return f"  {level} interval {percent(interval.low)} to {percent(interval.high)}"
