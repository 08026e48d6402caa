"""mAP by the published rules: of a bundle, of saved detections, or of two files side by side.

    python tools/evaluate.py --data VOC2012 --split val --weights runs/voc/bundle
    python tools/evaluate.py --data VOC2012 --split val --detections out/detections.json
    python tools/evaluate.py --data VOC2012 --split val --compare before.json after.json
    python tools/evaluate.py --data VOC2012 --split val --report

Saved detections may be COCO's results, a folder of VOC's files, ILSVRC's lines, or a table (.csv).
With a bundle the scores of all regions are kept under --out: run the same command again to go on
after an interruption, or with another --nms, --threshold or --protocol to try it in seconds.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    from detector.bundle import BundleManifest
    from detector.datasets import Dataset
    from detector.evaluation import Evaluation, Interval, Protocol
    from detector.evaluation.coco_engines import CocoEngine
    from detector.evaluation.diagnosis_misses import RegionEvidence
    from detector.pipeline import Detector
    from detector.proposals.gather import StoredProposals
    from detector.structures import Detections, Proposals


def main(
    data: Annotated[Path, typer.Option(help="Data set: a folder, COCO's .json or YOLO's .yaml.")],
    split: Annotated[str | None, typer.Option(help="Which part, such as val.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Bundle to run. [the one that ships with the package]")
    ] = None,
    detections: Annotated[
        Path | None, typer.Option(help="Saved: .json, .csv, ILSVRC's .txt, or VOC's folder.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two files of detections, side by side.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="voc07, voc12, ilsvrc or coco.")] = "voc12",
    coco_engine: Annotated[
        str, typer.Option(help="Of --protocol coco: pycocotools, or fast (needs hotcoco).")
    ] = "pycocotools",
    classes: Annotated[
        str,
        typer.Option(help="own; voc: VOC's twenty, COCO's names mapped; weights: the bundle's."),
    ] = "own",
    images: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, evenly spaced.")
    ] = None,
    blacklist: Annotated[
        Path | None, typer.Option(help="Images not judged for a class (ILSVRC's FILE).")
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Only the best of a class; R-CNN on ILSVRC: 30000.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds; 0: no interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score.")] = 0.01,
    nms: Annotated[float, typer.Option(min=0, max=1, help="Most IoU within a class.")] = 0.3,
    voting: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="IoU of box voting; 0 is none. [the bundle's]"),
    ] = None,
    max_detections: Annotated[int, typer.Option(min=1, help="Most in one image.")] = 300,
    svm: Annotated[
        bool | None, typer.Option("--svm/--no-svm", help="Scores of SVMs. [the bundle's]")
    ] = None,
    regression: Annotated[
        bool | None,
        typer.Option("--regression/--no-regression", help="Classes move boxes. [the bundle's]"),
    ] = None,
    ensemble: Annotated[str, typer.Option(help="Number of members to use, or all.")] = "1",
    proposals: Annotated[
        str | None,
        typer.Option(
            help="selective-search, multibox, both, opencv, each as NAME or NAME:SETTING=VALUE,...;"
            " or a proposal cache FILE. [the bundle's]"
        ),
    ] = None,
    max_proposals: Annotated[
        int | None,
        typer.Option(min=0, help="Most regions of one image; 0 is all. [the bundle's]"),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where new proposals go. [OUT/proposals.sqlite]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, int8.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads on the CPU. [all cores]")
    ] = None,
    html: Annotated[
        bool, typer.Option("--report", help="Write report.html and diagnosis.json too.")
    ] = False,
    operating: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Score that counts in the report. [that of the best F1]"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    strict: Annotated[bool, typer.Option(help="Stop at the first defective annotation.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the curves.")] = Path("out"),
) -> int:
    """Measure detections against annotations: a table, evaluation.json, precision_recall.png."""
    if sum(one is not None for one in (weights, detections, compare)) > 1:
        raise typer.BadParameter("give only one of --weights, --detections and --compare")
    rules, engine = known_protocol(protocol), known_engine(coco_engine)
    whole = read(data, split, classes, strict, weights, blacklist)
    dataset = whole if images is None else whole.subset(images)
    if operating is not None and not html:
        raise typer.BadParameter("--operating is the score of a --report; give both")
    if compare is not None:
        if html:
            raise typer.BadParameter("--report is of one set of detections, not of --compare")
        first, second = (results_of(path, whole, dataset, per_class) for path in compare)
        return report_comparison(dataset, first, second, rules, seed, rounds, out)
    if detections is not None:
        results = results_of(detections, whole, dataset, per_class)
        judged = report(dataset, results, rules, engine, seed, rounds, out)
        if html:
            write_report(dataset, results, *judged, operating, out)
        return 0
    settings: dict[str, Any] = {
        "score_threshold": threshold,
        "nms_threshold": nms,
        "max_detections": max_detections,
    }
    asked = {"svm": svm, "regression": regression}
    settings |= {name: value for name, value in asked.items() if value is not None}
    zero_is_none = {"max_proposals": max_proposals, "voting_iou": voting}
    settings |= {name: one or None for name, one in zero_is_none.items() if one is not None}
    running = Running(weights, ensemble, proposals, device, precision, threads, settings)
    seen, failed = detect(dataset, running, cache or out / "proposals.sqlite", out, quiet)
    results = results_of(out / "detections.json", whole, dataset, per_class)
    stages = stages_of(dataset.subset(seen.regions), seen.regions)
    judged = report(dataset, results, rules, engine, seed, rounds, out, stages)
    if html:
        write_report(dataset, results, *judged, operating, out, seen)
    return int(failed > 0)


def known_protocol(name: str) -> Protocol:
    from detector.evaluation.protocols import check_protocol

    return check_protocol(name)


def known_engine(name: str) -> CocoEngine:
    from detector.evaluation.coco_engines import check_engine

    return check_engine(name)


def read(
    data: Path,
    split: str | None,
    classes: str,
    strict: bool,
    weights: Path | None,
    blacklist: Path | None,
) -> Dataset:
    """The data set under the class list asked for; what was left out is said on stderr."""
    from detector.build import SHIPPED
    from detector.bundle import read_manifest
    from detector.datasets import COCO_TO_VOC, VOC_CLASSES, read_dataset
    from detector.datasets.blacklist import read_blacklist, without_blacklisted
    from detector.reporting.cli import visible

    if classes not in ("own", "voc", "weights"):
        raise typer.BadParameter(f"--classes is {classes!r}; choose own, voc or weights")
    dataset = read_dataset(data, split, strict=strict)
    if blacklist is not None:
        dataset = without_blacklisted(dataset, read_blacklist(blacklist))
    if dataset.dropped:
        counts = ", ".join(f"{n} x {rule}" for rule, n in dataset.dropped_by_rule().items())
        example = visible(str(dataset.dropped[0]))
        print(f"left out: {counts}; for example {example}", file=sys.stderr)
    if classes == "weights":
        return dataset.with_classes(read_manifest(weights or SHIPPED).classes)
    return dataset.with_classes(VOC_CLASSES, COCO_TO_VOC) if classes == "voc" else dataset


def results_of(
    path: Path, whole: Dataset, part: Dataset, per_class: int | None
) -> dict[str, Detections]:
    """The saved detections of the images that are judged; the file may have more of the set's."""
    from detector.evaluation.caps import cap_per_class
    from detector.export.results import read_results

    wanted = {sample.image_id for sample in part.samples}
    found = {name: one for name, one in read_results(path, whole).items() if name in wanted}
    return found if per_class is None else cap_per_class(found, per_class)


class Running(NamedTuple):
    """How a bundle is run."""

    weights: Path | None
    ensemble: str
    proposals: str | None
    device: str
    precision: str
    threads: int | None
    settings: dict[str, Any]


class Seen(NamedTuple):
    """The regions of each image, and what they said of its objects."""

    regions: dict[str, Proposals]
    evidence: dict[str, RegionEvidence]


def detect(
    dataset: Dataset, running: Running, cache: Path, out: Path, quiet: bool
) -> tuple[Seen, int]:
    """Run the bundle, write detections.json; what its regions were, and how many images failed."""
    from detector.errors import ImageError
    from detector.evaluation.diagnosis_misses import region_evidence
    from detector.export.coco_json import write_results
    from detector.proposals.stored import ProposalStore
    from detector.region_scores import (
        proposing_from,
        proposing_with,
        region_store,
        score_dataset,
    )
    from detector.reporting.cli import say_error, stop_gently
    from detector.reporting.progress import progress

    detector, file, manifest = load(running, quiet)
    check_classes(detector.classes, dataset)
    out.mkdir(parents=True, exist_ok=True)
    store = region_store(out / "regions", detector, manifest, file.key if file else None)
    seen = Seen({}, {})
    results: dict[str, Detections] = {}
    failed = 0
    with ProposalStore(cache, "rw") as stored, stop_gently("the images under way") as stop:
        proposing = proposing_from(file) if file else proposing_with(detector, stored)
        scored = score_dataset(detector, dataset, store, proposing, lambda: bool(stop))
        for sample, found in progress(scored, "score", len(dataset), quiet):
            if isinstance(found, ImageError):
                say_error(found)
                failed += 1
                continue
            truth = sample.annotations
            seen.regions[sample.image_id] = found.proposals
            seen.evidence[sample.image_id] = region_evidence(truth, found.proposals, found.scores)
            results[sample.image_id] = detector.suppress(found.boxes, found.scores)
    if not results:
        raise ImageError(f"{dataset.name}: none of its {failed} images could be read")
    write_results(out / "detections.json", dataset, results)
    return seen, failed


def load(running: Running, quiet: bool) -> tuple[Detector, StoredProposals | None, BundleManifest]:
    """The detector, the file its proposals come from, and what its bundle says of itself."""
    import torch

    from detector.build import SHIPPED, load_detector
    from detector.bundle import read_manifest
    from detector.hardware import choose_device
    from detector.proposals.engines import names_a_file
    from detector.proposals.gather import StoredProposals

    ensemble, proposals = running.ensemble, running.proposals
    if ensemble != "all" and not (ensemble.isdecimal() and int(ensemble) > 0):
        raise typer.BadParameter(f"--ensemble {ensemble}: expected a number of members, or all")
    members = None if ensemble == "all" else int(ensemble)
    file = None
    if proposals is not None and names_a_file(proposals):
        file, proposals = StoredProposals(proposals), None
    threads = running.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    device = choose_device(running.device)
    bundle = running.weights or SHIPPED
    detector = load_detector(
        bundle,
        device=device,
        precision=running.precision,
        members=members,
        proposals=proposals,
        settings=running.settings,
        threads=threads,
        announce=None if quiet else lambda text: print(text, file=sys.stderr),
    )
    return detector, file, read_manifest(bundle)


def check_classes(classes: tuple[str, ...], dataset: Dataset) -> None:
    from detector.errors import EvaluationError

    if classes != dataset.classes:
        missing = sorted(set(classes) - set(dataset.classes)) or ["in another order"]
        raise EvaluationError(
            f"{dataset.name} has {len(dataset.classes)} classes and the weights {len(classes)} "
            f"({', '.join(missing[:3])} ...): the lists must match; --classes voc may help"
        )


def stages_of(dataset: Dataset, regions: Mapping[str, Proposals]) -> dict[str, float]:
    """What the proposals allow: their recall, and the mAP of a perfect classifier on them."""
    from detector.evaluation import evaluate, oracle_detections
    from detector.evaluation.coverage import coverage

    oracle = evaluate(dataset, oracle_detections(dataset, regions), "voc12")
    return {
        "proposals_per_image": sum(map(len, regions.values())) / len(regions),
        "proposal_recall": float(coverage(dataset, regions, [None]).recall(0.5)[0]),
        "oracle_class_map": oracle.mean_ap,
    }


def report(
    dataset: Dataset,
    results: Mapping[str, Detections],
    protocol: Protocol,
    engine: CocoEngine,
    seed: int,
    rounds: int,
    out: Path,
    stages: Mapping[str, float] | None = None,
) -> tuple[Evaluation, Interval | None]:
    """Print and write the verdict, and return it."""
    from detector.evaluation import bootstrap_interval, evaluate
    from detector.files import write_atomically
    from detector.reporting.plots import plot_precision_recall

    evaluation = evaluate(dataset, results, protocol, engine)
    evaluation = replace(evaluation, extras={**evaluation.extras, **(stages or {})})
    interval = None
    if rounds and protocol != "coco":
        interval = bootstrap_interval(dataset, results, protocol, seed, rounds)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "evaluation.json", evaluation.to_json())
    plot_precision_recall(evaluation, out / "precision_recall.png")
    show(evaluation, interval)
    return evaluation, interval


def write_report(
    dataset: Dataset,
    results: Mapping[str, Detections],
    evaluation: Evaluation,
    interval: Interval | None,
    operating: float | None,
    out: Path,
    seen: Seen | None = None,
) -> None:
    """The diagnosis as diagnosis.json and, with curves and pictures, as one page."""
    from detector.evaluation.coverage import coverage
    from detector.evaluation.diagnosis import diagnose
    from detector.files import write_atomically
    from detector.reporting.html import Report, report_html

    diagnosis = diagnose(dataset, results, operating, seen.evidence if seen else None)
    covered = coverage(dataset.subset(seen.regions), seen.regions) if seen else None
    command = shlex.join(["python", "tools/evaluate.py", *sys.argv[1:]])
    page = report_html(Report(dataset, evaluation, diagnosis, command, interval, covered))
    write_atomically(out / "diagnosis.json", diagnosis.to_json())
    write_atomically(out / "report.html", page)
    print(f"report {out / 'report.html'}")


def show(evaluation: Evaluation, interval: Interval | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from detector.reporting.cli import visible

    table = Table("class", box=None, header_style="bold")
    for name in ("AP", "objects", "detections", "recall"):
        table.add_column(name, justify="right")
    for one in evaluation.per_class:
        ap, recall = (percent(one.ap), percent(one.best_recall)) if one.positives else ("-", "-")
        table.add_row(visible(one.name), ap, str(one.positives), str(one.detections), recall)
    console = Console(markup=False, highlight=False)
    console.print(table)
    for name, value in evaluation.extras.items():
        counts = name.startswith("images") or name == "proposals_per_image"
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
    from detector.evaluation import compare
    from detector.files import write_atomically

    if rounds == 0:
        raise typer.BadParameter("--compare needs --rounds of at least 1")
    result = compare(dataset, first, second, protocol, seed, rounds)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "comparison.json", result.to_json())
    for name, interval in (("first", result.first), ("second", result.second)):
        print(f"{name:10s} mAP {percent(interval.estimate)}{bounds(interval)}")
    print(f"difference     {percent(result.difference.estimate)}{bounds(result.difference)}")
    print(f"the second is not better in {percent(result.p_worse)} % of {rounds} rounds")
    return 0


def percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.1f}"


def bounds(interval: Interval | None) -> str:
    if interval is None:
        return ""
    level = f"{100 * interval.confidence:.0f} %"
    return f"  {level} interval {percent(interval.low)} to {percent(interval.high)}"


if __name__ == "__main__":
    run_tool(main)
