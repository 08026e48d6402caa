"""How well proposals cover annotated objects, engines and stored files side by side.

    python tools/evaluate_proposals.py --data VOC2012 --split val --seeds 5
    python tools/evaluate_proposals.py --data VOC2012 --split val --images 60 \\
        --engine selective-search:superpixel_scale=1 \\
        --engine opencv:superpixel_scale=1,min_side=1 --engine proposals.sqlite

An engine is a name with its settings, or a cache file that tools/propose.py made. --seeds counts on
from the `seed` of an engine's settings, or from 0. Prints tables and writes coverage.json and
coverage.png.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out, reject_unused
from detector.progress.interruption import Stop, stop_gently
from detector.progress.messages import pluralise

if TYPE_CHECKING:
    from detector.datasets import Dataset, Sample
    from detector.structures import Array, Proposals

DEFAULT_ENGINES = ["selective-search", "opencv"]


@dataclass
class Contestant:
    """Something that has proposals for an image, once for each ranking; and what it found so far.

    find      path, its content hash and pixels -> one Proposals a seed, and the seconds of one
    holds     of a file: whether it has the image of this content hash
    """

    name: str
    settings: dict[str, Any]
    find: Callable[[str, str, Array], tuple[list[Proposals], float]]
    found: list[dict[str, Proposals]]
    seconds: list[float] = field(default_factory=list)
    holds: Callable[[str], bool] | None = None


@exclusive_out
def main(
    context: typer.Context,
    data: option.Data,
    split: option.Split = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="NAME, NAME:SETTING=VALUE,... or a cache file; repeat to compare."),
    ] = None,
    images: option.SomeImages = None,
    budgets: Annotated[
        str, typer.Option(help="Numbers of boxes, and all.")
    ] = "50,100,200,500,1000,2000,all",
    seeds: Annotated[int, typer.Option(min=1, help="Rankings to average over.")] = 1,
    classes: option.Classes = "own",
    threads: option.SearchThreads = 1,
    quiet: option.Quiet = False,
    strict: option.Strict = False,
    out: Annotated[Path, typer.Option(help="Folder for coverage.json and coverage.png.")] = Path(
        "out"
    ),
) -> int:
    """Measure proposals against annotations: recall, ABO, MABO, average recall; time an image."""
    steps = steps_of(budgets)
    names = engine or DEFAULT_ENGINES
    if len(set(names)) < len(names):
        raise typer.BadParameter("--engine: the same engine is given twice")
    if not any(map(is_engine, names)):
        reject_unused(context, ["seeds", "threads"], "where every --engine is a file")
    contestants = [contestant(text, seeds, threads) for text in names]
    dataset = read(data, split, classes, strict)
    if images is not None:
        dataset = dataset.subset(images)
    check_files(dataset, contestants)
    out.mkdir(parents=True, exist_ok=True)
    with stop_gently() as stop:
        done = gather(dataset, contestants, stop, quiet)
        judged = dataset.subset(done) if len(done) < len(dataset) else dataset
        report(judged, contestants, steps, seeds, out)
    return int(len(done) < len(dataset))


def steps_of(budgets: str) -> list[int | None]:
    try:
        steps = [None if one == "all" else int(one) for one in budgets.replace(" ", "").split(",")]
    except ValueError:
        raise typer.BadParameter(f"--budgets {budgets}: expected numbers and `all`") from None
    if any(step is not None and step < 1 for step in steps):
        raise typer.BadParameter(f"--budgets {budgets}: numbers of boxes are at least 1")
    return steps


def read(data: Path, split: str | None, classes: str, strict: bool) -> Dataset:
    from detector.datasets import COCO_TO_VOC, VOC_CLASSES, read_dataset

    if classes not in ("own", "voc"):
        raise typer.BadParameter(f"--classes is {classes!r}; choose own or voc")
    dataset = read_dataset(data, split, strict=strict)
    for note in dataset.notes():
        print(f"note: {note}", file=sys.stderr)
    if dataset.dropped:
        counts = ", ".join(f"{n} x {rule}" for rule, n in dataset.dropped_by_rule().items())
        print(f"left out: {counts}; for example {dataset.dropped[0]}", file=sys.stderr)
    return dataset.with_classes(VOC_CLASSES, COCO_TO_VOC) if classes == "voc" else dataset


def is_engine(text: str) -> bool:
    from detector.proposals.engines import ENGINES

    return text.partition(":")[0] in ENGINES


def contestant(text: str, seeds: int, threads: int) -> Contestant:
    from detector.proposals.engines import ENGINES

    if is_engine(text):
        return searcher(text, seeds, threads)
    if not Path(text).is_file():
        known = ", ".join(ENGINES)
        raise typer.BadParameter(f"--engine {text}: neither one of {known}, nor a cache file")
    return reader(Path(text))


def searcher(text: str, seeds: int, threads: int) -> Contestant:
    """An engine that searches now. One search serves all seeds where the engine can do that, or
    has no chance in it.
    """
    from detector.proposals.cache.stored import describe
    from detector.proposals.engines import build_engine, parse_engine, warm_up

    name, given = parse_engine(text) or (text, {})
    options: dict[str, Any] = {"threads": threads, "seed": 0, **given}
    first = build_engine(name, options)
    begin = getattr(first.settings, "seed", None)
    numbers = range(1) if begin is None else range(begin, begin + seeds)
    engines = [first, *(build_engine(name, {**options, "seed": seed}) for seed in numbers[1:])]
    warm_up(name, lambda said: print(said, file=sys.stderr))

    def find(path: str, content: str, pixels: Array) -> tuple[list[Proposals], float]:
        started = time.perf_counter()
        if hasattr(engines[0], "rankings"):
            found = engines[0].rankings(pixels, numbers)
            return found, time.perf_counter() - started
        ranking = first(pixels)
        seconds = time.perf_counter() - started
        return [ranking, *(other(pixels) for other in engines[1:])], seconds

    return Contestant(text, describe(first), find, [{} for _ in numbers])


def reader(path: Path) -> Contestant:
    """A cache file; its ranking is the one that it has."""
    from detector.errors import ProposalError
    from detector.proposals.cache.stored import ProposalStore

    store = ProposalStore(path)
    key = store.only_settings()

    def find(path_of_image: str, content: str, pixels: Array) -> tuple[list[Proposals], float]:
        found = store.get(content, key)
        if found is None:
            raise ProposalError(
                f"{path}: the row of {path_of_image} is damaged; make it again with"
                " inception-rcnn propose run"
            )
        return [found], 0.0

    def holds(content: str) -> bool:
        return (content, key) in store

    return Contestant(str(path), store.settings()[key], find, [{}], holds=holds)


def check_files(dataset: Dataset, contestants: Sequence[Contestant]) -> None:
    """Refuse a file that lacks an image now, and not after the searches of those before it."""
    from detector.errors import ImageError, ProposalError
    from detector.images.decoding import content_hash, decode, read_bytes

    files = {one.name: one.holds for one in contestants if one.holds is not None}
    for sample in dataset.samples if files else ():
        try:
            data = read_bytes(sample.path)
            content = content_hash(data)
            lacking = [name for name, holds in files.items() if not holds(content)]
            if lacking:
                decode(data, str(sample.path))
        except ImageError:
            continue  # said when its turn comes
        if lacking:
            raise ProposalError(
                f"{lacking[0]}: no proposals for {sample.path}; make them with"
                " inception-rcnn propose run"
            )


def gather(
    dataset: Dataset, contestants: Sequence[Contestant], stop: Stop, quiet: bool
) -> list[str]:
    """Let each propose for each image, in turn, until the last or until `stop`; the ids of the
    images that could be read.
    """
    from detector.errors import ImageError
    from detector.progress.bar import progress
    from detector.progress.messages import say_error

    done = []
    for sample in progress(dataset.samples, "propose", len(dataset), quiet):
        try:
            propose_all(sample, contestants)
            done.append(sample.image_id)
        except ImageError as error:
            say_error(error)
        if stop:
            break
    if not done:
        raise ImageError(f"{dataset.name}: none of its images could be read")
    return done


def propose_all(sample: Sample, contestants: Sequence[Contestant]) -> None:
    from detector.images.decoding import content_hash, decode, read_bytes

    data = read_bytes(sample.path)
    content, pixels = content_hash(data), decode(data, str(sample.path)).pixels
    for one in contestants:
        found, seconds = one.find(str(sample.path), content, pixels)
        one.seconds.append(seconds)
        for ranking, proposals in zip(one.found, found, strict=True):
            ranking[sample.image_id] = proposals


def report(
    dataset: Dataset,
    contestants: Sequence[Contestant],
    steps: Sequence[int | None],
    seeds: int,
    out: Path,
) -> None:
    from detector.evaluation.coverage import coverage, mean_summary
    from detector.evaluation.report.coverage_plot import plot_coverage
    from detector.files import write_atomically

    summaries = {
        one.name: {
            "settings": one.settings,
            "seconds_per_image": sum(one.seconds) / len(one.seconds),
            **mean_summary([coverage(dataset, found, steps) for found in one.found]),
        }
        for one in contestants
    }
    whole = {"data": dataset.name, "images": len(dataset), "seeds": seeds, "engines": summaries}
    write_atomically(out / "coverage.json", json.dumps(whole, indent=1) + "\n")
    plot_coverage(summaries, out / "coverage.png")
    show(summaries, len(dataset))


def show(summaries: dict[str, dict[str, Any]], images: int) -> None:
    """Tables in which engines go by number, since their names with all settings are long."""
    from rich.console import Console

    from detector.progress.messages import escape_controls

    console = Console(markup=False, highlight=False)
    numbered = {f"[{n}]": one for n, one in enumerate(summaries.values(), start=1)}
    first = next(iter(summaries.values()))
    print(f"{pluralise(images, 'image')}, {pluralise(first['objects'], 'object')}")
    for number, name in zip(numbered, summaries, strict=True):
        print(f"{number} {escape_controls(name)}")
    print("\nrecall at IoU 0.5 / MABO, by boxes taken")
    console.print(table_by_budget(numbered))
    print("\nwith the most boxes")
    console.print(table_of_all(numbered))
    print("\naverage best overlap by class, with the most boxes")
    console.print(table_by_class(numbered))


def table_by_budget(summaries: dict[str, dict[str, Any]]) -> Any:
    """Engines across and budgets down: so it fits a terminal of 80 columns."""
    from rich.table import Table

    table = Table("boxes", box=None, header_style="bold")
    for name in summaries:
        table.add_column(name, justify="right")
    for row, budget in enumerate(next(iter(summaries.values()))["budgets"]):
        cells = [
            f"{one['recall_0.5'][row]:.3f}/{one['mabo'][row]:.3f}" for one in summaries.values()
        ]
        table.add_row("all" if budget is None else str(budget), *cells)
    return table


def table_of_all(summaries: dict[str, dict[str, Any]]) -> Any:
    """The most boxes that were asked for: every measure, and what they cost."""
    from rich.table import Table

    table = Table("engine", box=None, header_style="bold")
    for title in ("boxes", "recall 0.5", "recall 0.7", "average recall", "MABO", "s/image"):
        table.add_column(title, justify="right")
    for name, one in summaries.items():
        values = [one[key][-1] for key in ("recall_0.5", "recall_0.7", "average_recall", "mabo")]
        seconds = one["seconds_per_image"]
        table.add_row(
            name,
            f"{one['boxes_per_image'][-1]:.0f}",
            *(f"{value:.3f}" for value in values),
            f"{seconds:.3f}" if seconds else "stored",
        )
    return table


def table_by_class(summaries: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table

    from detector.progress.messages import escape_controls

    table = Table("class", box=None, header_style="bold")
    for name in summaries:
        table.add_column(name, justify="right")
    for label in next(iter(summaries.values()))["abo"]:
        table.add_row(
            escape_controls(label), *(f"{one['abo'][label][-1]:.3f}" for one in summaries.values())
        )
    return table
