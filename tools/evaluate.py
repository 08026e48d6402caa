"""mAP by the published rules: of saved detections, or of two files side by side.

python tools/evaluate.py --data VOC2012 --split val --detections out/detections.json
python tools/evaluate.py --data VOC2012 --split val --compare before.json after.json
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    from detector.datasets import Dataset
    from detector.evaluation import Evaluation, Interval, Protocol
    from detector.structures import Detections


def main(
    data: Annotated[Path, typer.Option(help="Data set: folder, COCO .json or YOLO .yaml.")],
    split: Annotated[str | None, typer.Option(help="Which part, such as val.")] = None,
    detections: Annotated[
        Path | None, typer.Option(help="Saved detections in COCO's results layout.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two files of detections, side by side.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="voc07, voc12, ilsvrc or coco.")] = "voc12",
    classes: Annotated[
        str, typer.Option(help="own, or voc: VOC's twenty, COCO's names mapped.")
    ] = "own",
    images: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, evenly spaced.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds; 0: no interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    strict: Annotated[bool, typer.Option(help="Stop at the first defective annotation.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the curves.")] = Path("out"),
) -> int:
    """Measure detections against annotations: a table, evaluation.json, precision_recall.png."""
    if (detections is None) == (compare is None):
        raise typer.BadParameter("give either --detections FILE or --compare A.json B.json")
    rules = known_protocol(protocol)
    whole = read(data, split, classes, strict)
    dataset = whole if images is None else whole.subset(images)
    if compare is not None:
        first, second = (results_of(path, whole, dataset) for path in compare)
        return report_comparison(dataset, first, second, rules, seed, rounds, out)
    assert detections is not None
    results = results_of(detections, whole, dataset)
    return report(dataset, results, rules, seed, rounds, out)


def known_protocol(name: str) -> Protocol:
    from detector.evaluation.protocols import check_protocol

    return check_protocol(name)


def read(data: Path, split: str | None, classes: str, strict: bool) -> Dataset:
    """The data set under the class list asked for; what was left out is said on stderr."""
    from detector.datasets import COCO_TO_VOC, VOC_CLASSES, read_dataset

    if classes not in ("own", "voc"):
        raise typer.BadParameter(f"--classes is {classes!r}; choose own or voc")
    dataset = read_dataset(data, split, strict=strict)
    if dataset.dropped:
        counts = ", ".join(f"{n} x {rule}" for rule, n in dataset.dropped_by_rule().items())
        print(f"left out: {counts}; for example {dataset.dropped[0]}", file=sys.stderr)
    return dataset.with_classes(VOC_CLASSES, COCO_TO_VOC) if classes == "voc" else dataset


def results_of(path: Path, whole: Dataset, part: Dataset) -> dict[str, Detections]:
    """The saved detections of the images that are judged; the file may have more of the set's."""
    from detector.export.coco_json import read_detections

    wanted = {sample.image_id for sample in part.samples}
    return {name: one for name, one in read_detections(path, whole).items() if name in wanted}


def report(
    dataset: Dataset,
    results: Mapping[str, Detections],
    protocol: Protocol,
    seed: int,
    rounds: int,
    out: Path,
) -> int:
    from detector.evaluation import bootstrap_interval, evaluate
    from detector.files import write_atomically
    from detector.reporting.plots import plot_precision_recall

    evaluation = evaluate(dataset, results, protocol)
    interval = None
    if rounds and protocol != "coco":
        interval = bootstrap_interval(dataset, results, protocol, seed, rounds)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "evaluation.json", evaluation.to_json())
    plot_precision_recall(evaluation, out / "precision_recall.png")
    show(evaluation, interval)
    return 0


def show(evaluation: Evaluation, interval: Interval | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("class", box=None, header_style="bold")
    for name in ("AP", "objects", "detections", "recall"):
        table.add_column(name, justify="right")
    for one in evaluation.per_class:
        ap, recall = (percent(one.ap), percent(one.best_recall)) if one.positives else ("-", "-")
        table.add_row(one.name, ap, str(one.positives), str(one.detections), recall)
    console = Console(markup=False, highlight=False)
    console.print(table)
    for name, value in evaluation.extras.items():
        if evaluation.protocol == "coco" and not name.startswith("images"):
            console.print(f"{name:6s} {percent(value)}")
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
