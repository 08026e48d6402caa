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

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out, reject_unused

if TYPE_CHECKING:
    from detector.datasets import Dataset
    from detector.evaluation import Protocol
    from detector.evaluation.protocols.coco_engines import CocoEngine
    from detector.structures import Detections


def two_files(compare: tuple[Path, Path] | None) -> tuple[Path, Path] | None:
    """Refuses the next option in the place of the second file."""
    if compare is not None and str(compare[1]).startswith("--"):
        raise typer.BadParameter(f"takes two files, and {compare[0]} is only one")
    return compare


@exclusive_out
def main(
    context: typer.Context,
    data: option.Data,
    split: option.Split = None,
    weights: option.Weights = None,
    detections: Annotated[
        Path | None,
        typer.Option(help="Saved: .json or its folder, .csv, ILSVRC's .txt, VOC's folder."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="Two files of detections, side by side.", callback=two_files, is_eager=True
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(help="voc07, voc12, ilsvrc or coco.")] = "voc12",
    coco_engine: Annotated[
        str, typer.Option(help="Of --protocol coco: pycocotools, or fast (needs hotcoco).")
    ] = "pycocotools",
    max_dets: Annotated[
        int,
        typer.Option(
            min=1, help="Of --protocol coco: detections of a class that count in an image."
        ),
    ] = 100,
    classes: Annotated[
        str,
        typer.Option(help="own; voc: VOC's twenty, COCO's names mapped; weights: the bundle's."),
    ] = "own",
    images: option.SomeImages = None,
    blacklist: Annotated[
        Path | None, typer.Option(help="Images not judged for a class (ILSVRC's FILE).")
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Only the best of a class; R-CNN on ILSVRC: 30000.")
    ] = None,
    rounds: option.Rounds = 1000,
    seed: option.BootstrapSeed = 0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score.")] = 0.01,
    nms: Annotated[float, typer.Option(min=0, max=1, help="Most IoU within a class.")] = 0.3,
    class_agnostic_nms: option.ClassAgnosticNms = None,
    voting: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="IoU of box voting; 0 is none. [the bundle's]"),
    ] = None,
    max_detections: Annotated[int, typer.Option(min=1, help="Most in one image.")] = 300,
    svm: option.Svm = None,
    regression: option.Regression = None,
    ensemble: option.Ensemble = "1",
    proposals: option.Proposals = None,
    max_proposals: option.MaxProposals = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where new proposals go. [OUT/proposals.sqlite]")
    ] = None,
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    threads: option.Threads = None,
    html: Annotated[
        bool, typer.Option("--report", help="Write report.html and diagnosis.json too.")
    ] = False,
    operating: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Score that counts in the report. [that of the best F1]"),
    ] = None,
    quiet: option.Quiet = False,
    strict: option.Strict = False,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the curves.")] = Path("out"),
) -> int:
    """Measure detections against annotations: a table, evaluation.json, precision_recall.png."""
    from detector.cli.detecting.loading import Running, settings_given
    from detector.cli.evaluating.running import detect, stages_of
    from detector.cli.evaluating.verdict import report, report_comparison, write_report
    from detector.detection.load import SHIPPED
    from detector.evaluation.protocols.rules import check_objects

    rules, engine = known_protocol(protocol), known_engine(coco_engine)
    check_options(context, protocol, html, proposals)
    whole = read(data, split, classes, strict, weights, blacklist)
    dataset = whole if images is None else whole.subset(images)
    check_objects(dataset)
    if compare is not None:
        first, second = (
            results_of(path, whole, dataset, per_class, classes)[0] for path in compare
        )
        return report_comparison(dataset, first, second, rules, seed, rounds, out)
    seen, stages, failed = None, None, 0
    if detections is None:
        settings = settings_given(
            max_proposals, voting, svm=svm, regression=regression,
            score_threshold=threshold, nms_threshold=nms, max_detections=max_detections,
            class_agnostic_nms=class_agnostic_nms,
        )  # fmt: skip
        running = Running(weights, ensemble, proposals, device, precision, threads, settings)
        seen, failed = detect(dataset, running, cache or out / "proposals.sqlite", out, quiet)
        stages = stages_of(dataset.subset(seen.regions), seen.regions)
        detections = out / "detections.json"
        judged = {"weights": str(weights or SHIPPED), "detections": str(detections)}
    else:
        judged = {"detections": str(detections)}
    results, others = results_of(detections, whole, dataset, per_class, classes)
    extras = {**(stages or {}), **others}
    verdict = report(dataset, results, rules, engine, max_dets, seed, rounds, out, judged, extras)
    if html:
        write_report(dataset, results, *verdict, operating, out, judged, seen)
    return int(failed > 0)


RUNNING = (
    "threshold", "nms", "class_agnostic_nms", "voting", "max_detections", "svm", "regression",
    "ensemble", "proposals", "max_proposals", "cache", "device", "precision", "threads",
)  # fmt: skip
"""Options of a bundle that is run: saved detections are what they are."""


def check_options(context: typer.Context, protocol: str, html: bool, proposals: str | None) -> None:
    """One thing is judged, and every option that is given has something to do with it."""
    from detector.proposals.engines import names_a_file

    given = [name for name in ("weights", "detections", "compare") if context.params[name]]
    if len(given) > 1:
        raise typer.BadParameter("give only one of --weights, --detections and --compare")
    if given == ["detections"]:
        reject_unused(context, RUNNING, "with --detections")
    if given == ["compare"]:
        reject_unused(
            context, (*RUNNING, "html", "operating", "coco_engine", "max_dets"), "with --compare"
        )
    if not html:
        reject_unused(context, ["operating"], "without --report")
    if protocol != "coco":
        reject_unused(context, ["coco_engine", "max_dets"], "without --protocol coco")
    elif given != ["compare"] and context.params["rounds"]:
        reject_unused(context, ["rounds", "seed"], "with --protocol coco, which has no interval")
    if not context.params["rounds"]:
        reject_unused(context, ["seed"], "with --rounds 0")
    if proposals is not None and names_a_file(proposals):
        reject_unused(context, ["cache"], "with a proposal cache's FILE as --proposals")


def known_protocol(name: str) -> Protocol:
    from detector.evaluation.protocols.rules import check_protocol

    return check_protocol(name)


def known_engine(name: str) -> CocoEngine:
    from detector.evaluation.protocols.coco_engines import check_engine

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
    from detector.datasets import COCO_TO_VOC, VOC_CLASSES, read_dataset
    from detector.datasets.blacklist import read_blacklist, without_blacklisted
    from detector.detection.bundle import read_manifest
    from detector.detection.load import SHIPPED
    from detector.progress.messages import escape_controls

    if classes not in ("own", "voc", "weights"):
        raise typer.BadParameter(f"--classes is {classes!r}; choose own, voc or weights")
    dataset = read_dataset(data, split, strict=strict)
    if blacklist is not None:
        dataset = without_blacklisted(dataset, read_blacklist(blacklist))
    for note in dataset.notes():
        print(f"note: {note}", file=sys.stderr)
    if dataset.dropped:
        counts = ", ".join(f"{n} x {rule}" for rule, n in dataset.dropped_by_rule().items())
        example = escape_controls(str(dataset.dropped[0]))
        print(f"left out: {counts}; for example {example}", file=sys.stderr)
    if classes == "weights":
        return dataset.with_classes(read_manifest(weights or SHIPPED).classes)
    return dataset.with_classes(VOC_CLASSES, COCO_TO_VOC) if classes == "voc" else dataset


def results_of(
    path: Path, whole: Dataset, part: Dataset, per_class: int | None, classes: str
) -> tuple[dict[str, Detections], dict[str, int]]:
    """The saved detections of the images that are judged, and how many of the file's are of other
    images or classes than the set's, which is said on stderr.
    """
    from detector.datasets import COCO_TO_VOC
    from detector.errors import EvaluationError
    from detector.evaluation.protocols.caps import cap_per_class
    from detector.progress.messages import escape_controls
    from detector.results.results import read_results
    from detector.results.unmatched import Unmatched

    wanted, unmatched = {sample.image_id for sample in part.samples}, Unmatched()

    def cure() -> str:
        renamed = {COCO_TO_VOC.get(name) for name in whole.classes} & unmatched.classes.keys()
        return "; --classes voc maps COCO's names to VOC's" if renamed and classes == "own" else ""

    try:
        read = read_results(path, whole, unmatched)
    except EvaluationError as error:
        raise EvaluationError(f"{error}{cure()}") from error
    if len(unmatched):
        line = f"not judged: {path}: {unmatched.sentence(whole)}{cure()}"
        print(escape_controls(line), file=sys.stderr)
    found = {name: one for name, one in read.items() if name in wanted}
    if per_class is not None:
        found = cap_per_class(found, per_class)
    return found, unmatched.counts()
