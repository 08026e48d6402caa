"""Measure how well proposals cover annotated objects, engines and stored files side by side.

    inception-rcnn propose evaluate --data VOC2012 --split val --seeds 5
    inception-rcnn propose evaluate --data VOC2012 --split val --images 60 \\
        --engine selective-search:superpixel_scale=1 \\
        --engine opencv:superpixel_scale=1,min_side=1 --engine proposals.sqlite

An engine is a name with its settings, or a cache file of propose run. --seeds counts on
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
from detector.errors import ImageError, ProposalError
from detector.files import write_atomically
from detector.progress.interruption import Stop, stop_gently
from detector.progress.messages import escape_controls, pluralise, say_error

if TYPE_CHECKING:
    from rich.table import Table

    from detector.datasets import Dataset, Sample
    from detector.structures import Array, Proposals

DEFAULT_ENGINES = ["selective-search", "opencv"]


@dataclass
class Contestant:
    """A source of proposals for an image, one list a ranking, and its proposals so far.

    find   path, its content hash and pixels -> one Proposals a seed, and the seconds of one
    holds  of a file: True for the content hash of an image that is in it
    """

    name: str
    settings: dict[str, Any]
    find: Callable[[Path, str, Array], tuple[list[Proposals], float]]
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
    from detector.cli.evaluating.data import read_judged

    steps = steps_of(budgets)
    names = engine or DEFAULT_ENGINES
    if len(set(names)) < len(names):
        raise typer.BadParameter("--engine: the same engine is given twice")
    if not any(map(is_engine, names)):
        reject_unused(context, ["seeds", "threads"], "where every --engine is a file")
    contestants = [contestant(text, seeds, threads) for text in names]
    dataset = read_judged(data, split, classes, strict=strict)
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
    """An engine that searches now; without a seed in its settings it has one ranking."""
    from detector.proposals.cache.stored import describe
    from detector.proposals.engines import build_engine, parse_engine, warm_up

    name, given = parse_engine(text) or (text, {})
    options: dict[str, Any] = {"threads": threads, "seed": 0, **given}
    first = build_engine(name, options)
    begin = getattr(first.settings, "seed", None)
    numbers = range(1) if begin is None else range(begin, begin + seeds)
    others = [build_engine(name, {**options, "seed": seed}) for seed in numbers[1:]]
    # Compiled now, so that the seconds of the first image are those of a search.
    warm_up(name, lambda said: print(said, file=sys.stderr))

    def find(path: Path, content: str, pixels: Array) -> tuple[list[Proposals], float]:
        started = time.perf_counter()
        if hasattr(first, "rankings"):  # OpenCV's: one search serves all seeds
            rankings = first.rankings(pixels, numbers)
            return rankings, time.perf_counter() - started
        ranking = first(pixels)
        seconds = time.perf_counter() - started
        return [ranking, *(other(pixels) for other in others)], seconds

    return Contestant(text, describe(first), find, [{} for _ in numbers])


def reader(path: Path) -> Contestant:
    """A cache file, with the one ranking that it has."""
    from detector.proposals.gather import StoredProposals

    stored = StoredProposals(path)

    def find(image: Path, content: str, pixels: Array) -> tuple[list[Proposals], float]:
        proposals = stored.store.get(content, stored.key)
        if proposals is None:
            raise ProposalError(
                f"{path}: the row of {image} is damaged; make it again with"
                " inception-rcnn propose run"
            )
        return [proposals], 0.0

    def holds(content: str) -> bool:
        return (content, stored.key) in stored.store

    return Contestant(str(path), stored.settings, find, [{}], holds=holds)


# A file that lacks an image is refused now, and not after the searches of those before it.
def check_files(dataset: Dataset, contestants: Sequence[Contestant]) -> None:
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
    """Let each propose for each image, in turn, until the last or until `stop`; return the ids of
    the images that could be read.
    """
    from detector.progress.bar import progress

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
        rankings, seconds = one.find(sample.path, content, pixels)
        one.seconds.append(seconds)
        for found, proposals in zip(one.found, rankings, strict=True):
            found[sample.image_id] = proposals


def report(
    dataset: Dataset,
    contestants: Sequence[Contestant],
    steps: Sequence[int | None],
    seeds: int,
    out: Path,
) -> None:
    """Write coverage.json and coverage.png, and print the tables."""
    from detector.evaluation.coverage import coverage, mean_summary
    from detector.evaluation.report.plots import plot_coverage

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


# Engines go by number, since their names with all settings are long.
def show(summaries: dict[str, dict[str, Any]], images: int) -> None:
    from rich.console import Console

    # Names from files may look like rich's markup.
    console = Console(markup=False, highlight=False)
    numbers = [f"[{n}]" for n in range(1, len(summaries) + 1)]
    engines = list(summaries.values())
    first = engines[0]
    print(f"{pluralise(images, 'image')}, {pluralise(first['objects'], 'object')}")
    for number, name in zip(numbers, summaries, strict=True):
        print(f"{number} {escape_controls(name)}")
    # Engines across and budgets down: so it fits a terminal of 80 columns.
    print("\nrecall at IoU 0.5 / MABO, by boxes taken")
    by_budget = [
        ["all" if budget is None else str(budget)]
        + [f"{one['recall_0.5'][row]:.3f}/{one['mabo'][row]:.3f}" for one in engines]
        for row, budget in enumerate(first["budgets"])
    ]
    console.print(table(["boxes", *numbers], by_budget))
    print("\nwith the most boxes")
    measures = ("recall_0.5", "recall_0.7", "average_recall", "mabo")
    titles = ["engine", "boxes", "recall 0.5", "recall 0.7", "average recall", "MABO", "s/image"]
    of_all = [
        [number, f"{one['boxes_per_image'][-1]:.0f}"]
        + [f"{one[measure][-1]:.3f}" for measure in measures]
        + [f"{one['seconds_per_image']:.3f}" if one["seconds_per_image"] else "stored"]
        for number, one in zip(numbers, engines, strict=True)
    ]
    console.print(table(titles, of_all))
    print("\naverage best overlap by class, with the most boxes")
    by_class = [
        [escape_controls(label)] + [f"{one['abo'][label][-1]:.3f}" for one in engines]
        for label in first["abo"]
    ]
    console.print(table(["class", *numbers], by_class))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(titles[0], box=None, header_style="bold")
    for title in titles[1:]:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*row)
    return table
