"""mAP by the published rules: of a bundle, of saved detections, or of two files side by side.

    inception-rcnn evaluate detections --data VOC2012 --split val --weights runs/voc/bundle
    inception-rcnn evaluate detections --data VOC2012 --split val --detections out/detections.json
    inception-rcnn evaluate detections --data VOC2012 --split val --compare before.json after.json
    inception-rcnn evaluate detections --data VOC2012 --split val --boxes yolo.json
    inception-rcnn evaluate detections --data VOC2012 --split val --report

Saved detections may be COCO's results, a folder of VOC's files, ILSVRC's lines, or a table (.csv).
With a bundle the scores of all regions are kept under --out: run the same command again to go on
after an interruption, or with another --protocol or `--set nms_threshold=0.4` to try it in seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out, reject_unused

if TYPE_CHECKING:
    from detector.cli.evaluating.settings import EvaluateSettings

SETTINGS = "detector.cli.evaluating.settings.EvaluateSettings"


def two_files(compare: tuple[Path, Path] | None) -> tuple[Path, Path] | None:
    """Refuse an option in the place of the second file."""
    if compare is not None and str(compare[1]).startswith("--"):
        raise typer.BadParameter(f"takes two files, and {compare[0]} is only one")
    return compare


Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(help="Two files of detections, side by side.", callback=two_files, is_eager=True),
]


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
    compare: Compare = None,
    protocol: Annotated[str, typer.Option(help="voc07, voc12, ilsvrc or coco.")] = "voc12",
    classes: Annotated[
        str,
        typer.Option(help="own; voc: VOC's twenty, COCO's names mapped; weights: the bundle's."),
    ] = "own",
    html: Annotated[
        bool, typer.Option("--report", help="Write report.html and diagnosis.json too.")
    ] = False,
    device: option.Device = "auto",
    change: Annotated[list[str], option.settings_of(SETTINGS)] = [],  # noqa: B006
    quiet: option.Quiet = False,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the curves.")] = Path("out"),
) -> int:
    """Measure detections against annotations: a table, evaluation.json, precision_recall.png."""
    from detector.cli.evaluating.data import read_detections, read_judged
    from detector.cli.evaluating.running import detect, stages_of
    from detector.cli.evaluating.second import rescore
    from detector.cli.evaluating.settings import EvaluateSettings
    from detector.cli.evaluating.verdict import Verdict
    from detector.detection.load import SHIPPED
    from detector.evaluation.evaluating import check_objects
    from detector.evaluation.protocols.rules import check_protocol
    from detector.results.coco_json import as_saved

    rules, chosen = check_protocol(protocol), option.chosen(EvaluateSettings, change)
    check_options(context, chosen)
    bundle = weights or SHIPPED
    # Saved detections are looked up in the whole set: those outside of images=N are no strangers.
    whole = read_judged(
        data, split, classes, strict=chosen.strict, bundle=bundle, blacklist=chosen.blacklist
    )
    dataset = whole if chosen.images is None else whole.subset(chosen.images)
    check_objects(dataset)
    verdict = Verdict(dataset, rules, chosen, out, context.obj)
    if compare is not None:
        verdict.compare(*(read_detections(path, whole, classes)[0] for path in compare))
        return 0
    if chosen.boxes is not None:
        before, others = read_detections(chosen.boxes, whole, classes)
        rescored = rescore(dataset, before, bundle, chosen, device, out, quiet)
        fused = as_saved(dataset, rescored.fused)
        verdict.report(fused, rescored.about, others, html, None)
        verdict.second_opinion(before, rescored.alone, fused)
        return int(rescored.failed > 0)
    seen, stages, failed, judged = None, {}, 0, {}
    if detections is None:
        seen, failed = detect(dataset, bundle, chosen, device, out, quiet)
        stages = stages_of(dataset.subset(seen.regions), seen.regions)
        detections, judged = out / "detections.json", seen.weights
    results, others = read_detections(detections, whole, classes)
    verdict.report(
        results, {**judged, "detections": str(detections)}, {**stages, **others}, html, seen
    )
    return int(failed > 0)


def check_options(context: typer.Context, chosen: EvaluateSettings) -> None:
    """Refuse a second thing to evaluate, and options that would change nothing."""
    from detector.cli.detecting.settings import OF_PROPOSALS
    from detector.cli.evaluating.settings import RUNNING
    from detector.proposals.engines import names_a_file

    given = [name for name in ("weights", "detections", "compare") if context.params[name]]
    if len(given) > 1:
        raise typer.BadParameter("give only one of --weights, --detections and --compare")
    if given == ["detections"]:
        reject_unused(context, (*RUNNING, "device"), "with --detections")
    if given == ["compare"]:
        unused = (*RUNNING, "device", "html", "operating", "coco_engine", "max_dets")
        reject_unused(context, unused, "with --compare")
        if chosen.rounds == 0:
            raise typer.BadParameter("--compare needs --set rounds=1 or more")
    if chosen.boxes is None:
        reject_unused(context, ["region_weight"], "without boxes")
    else:
        reject_unused(context, [*OF_PROPOSALS, "cache"], "with boxes, which another detector found")
    if not context.params["html"]:
        reject_unused(context, ["operating"], "without --report")
    if context.params["protocol"] != "coco":
        reject_unused(context, ["coco_engine", "max_dets"], "without --protocol coco")
    elif given != ["compare"] and chosen.rounds:
        reject_unused(context, ["rounds", "seed"], "with --protocol coco, which has no interval")
    if not chosen.rounds:
        reject_unused(context, ["seed"], "with rounds=0")
    if chosen.proposals is not None and names_a_file(chosen.proposals):
        reject_unused(context, ["cache"], "with a proposal cache's FILE as proposals")
