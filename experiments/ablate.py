"""The paper's comparisons as tables, on any data set.

    python experiments/ablate.py proposals --data VOC2012 --multibox multibox.safetensors
    python experiments/ablate.py detection --data VOC2012 --split val --weights runs/six/bundle
    python experiments/ablate.py inception-v3 --data ILSVRC --seeds 0,1,2

`proposals` is section 8 of arXiv 1409.4842: selective search, superpixels doubled, 200 regions of
MultiBox added back. `detection` is its detection table, one network and all of them; or the rows of
another --table, such as the mAP of those proposals (configs/ablation/proposals.yaml).
`inception-v3` trains the rows of Table 3 of arXiv 1512.00567, from Inception-v2 to Inception-v3.
Interrupted, the same command goes on where it stopped; only `proposals` proposes anew.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out, new_app, reject_unused, run_tool
from detector.cli.training_session import training_session
from detector.seeds import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ablations.detection import Measured
    from ablations.inception_rows import Row as TrainingRow
    from ablations.inception_runs import Result, Run

    from detector.datasets.labelled.images import LabelledImages
    from detector.training.engine.context import RunContext

TABLES = Path(__file__).resolve().parents[1] / "configs" / "ablation"


@exclusive_out
def proposals(
    context: typer.Context,
    data: option.Data,
    split: option.Split = None,
    multibox: Annotated[
        Path | None, typer.Option(help="MultiBox weights. [those of the package, if any]")
    ] = None,
    images: option.SomeImages = None,
    budgets: Annotated[
        str, typer.Option(help="Rows of the best so many regions of --proposals.")
    ] = "100,300",
    engines: Annotated[
        list[str],
        typer.Option("--proposals", help="More rows: NAME or NAME:SETTING=VALUE,...; may repeat."),
    ] = [],  # noqa: B006
    rounds: option.Rounds = 1000,
    seed: option.BootstrapSeed = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    quiet: option.Quiet = False,
    out: Annotated[Path, typer.Option(help="Folder for ablation.json.")] = Path("out"),
) -> int:
    """Boxes, coverage and MABO with and without doubled superpixels and MultiBox."""
    from ablations.proposals import measure_all, propose_all, rows_of, rows_of_budgets
    from ablations.tables import show_proposals, write_table

    from detector.datasets import read_dataset
    from detector.errors import ImageError
    from detector.progress.bar import progress
    from detector.proposals.engines import warm_up
    from detector.proposals.multibox.predict import SHIPPED

    if not engines:
        reject_unused(context, ["budgets"], "without --proposals")
    if not rounds:
        reject_unused(context, ["seed"], "with --rounds 0")
    numbers = numbers_of("--budgets", budgets, 1) if budgets else []
    dataset = read_dataset(data, split)
    dataset = dataset if images is None else dataset.subset(images)
    if multibox is None and not SHIPPED.is_file():
        print("no MultiBox weights: its rows are left out; give --multibox FILE", file=sys.stderr)
    rows = rows_of(multibox or (SHIPPED if SHIPPED.is_file() else None), threads)
    for name in engines:
        rows += rows_of_budgets(name, engine_of(name, threads), numbers)
    out.mkdir(parents=True, exist_ok=True)
    warm_up("selective-search", lambda said: print(said, file=sys.stderr))
    read = list(progress(propose_all(dataset, rows), "propose", len(dataset), quiet))
    if not any(read):
        raise ImageError(f"{dataset.name}: none of its images could be read")
    judged = dataset.subset(rows[0].found)  # an unreadable image has no regions in any row
    results = measure_all(judged, rows, seed, rounds)
    whole = {"data": dataset.name, "images": len(judged), "rows": results}
    write_table(out, whole)
    show_proposals(whole)
    return int(not all(read))  # 1: some images failed


def engine_of(text: str, threads: int) -> Any:
    """Build the proposer of NAME or NAME:SETTING=VALUE,... ."""
    from detector.proposals.engines import ENGINES, build_engine, parse_engine

    parsed = parse_engine(text)
    if parsed is None:
        raise typer.BadParameter(f"--proposals {text}: choose {', '.join(ENGINES)}")
    name, options = parsed
    return build_engine(name, {"threads": threads, **options})


@exclusive_out
def detection(
    context: typer.Context,
    data: option.Data,
    split: option.Split = None,
    weights: option.Weights = None,
    table: Annotated[Path, typer.Option(help="YAML file of the rows.")] = TABLES / "detection.yaml",
    images: option.SomeImages = None,
    rounds: option.Rounds = 1000,
    seed: option.BootstrapSeed = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 2,
    quiet: option.Quiet = False,
    out: Annotated[Path, typer.Option(help="Folder for ablation.json and what is kept.")] = Path(
        "out/ablation"
    ),
) -> int:
    """MAP of a bundle by rows: proposals, number of networks, rules."""
    import torch
    from ablations.detection import judged, measure, read_rows
    from ablations.tables import show_detection, write_table

    from detector.datasets import read_dataset
    from detector.detection.load import SHIPPED
    from detector.progress.bar import progress

    if not rounds:
        reject_unused(context, ["seed"], "with --rounds 0")
    rows = read_rows(table)
    dataset = read_dataset(data, split)
    dataset = readable = dataset if images is None else dataset.subset(images)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    found: list[Measured] = []

    def watched(scored: Iterator[Any]) -> Iterator[Any]:
        label = f"{len(found) + 1}/{len(rows)}"
        return progress(scored, label, len(readable), quiet)

    for row in rows:
        # What the first row could not read is left out of all, so that they are comparable.
        found.append(measure(readable, row, weights or SHIPPED, threads, out, watched))
        readable = dataset.subset(found[0].results)
    results = judged(readable, found, seed, rounds)
    whole = {"data": dataset.name, "images": len(readable), "rows": results}
    write_table(out, whole)
    show_detection(whole)
    return int(len(readable) < len(dataset))


def inception_v3(
    data: Annotated[
        Path, typer.Option(help="ILSVRC, a folder of class folders, or a folder of tar files.")
    ],
    val: Annotated[Path | None, typer.Option(help="Validation images. [the val of --data]")] = None,
    table: Annotated[Path, typer.Option(help="YAML file of the rows.")] = TABLES
    / "inception_v3.yaml",
    seeds: Annotated[str, typer.Option(help="Each row is trained with each, as 0,1,2.")] = "0",
    epochs: Annotated[float | None, typer.Option(help="Length of each training. [100]")] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Side of the crops, 75 or more. [299]")
    ] = None,
    change: Annotated[
        list[str], typer.Option("--set", help="room.setting=value of all rows; may repeat.")
    ] = [],  # noqa: B006
    device: option.TrainingDevice = "auto",
    threads: option.TrainingThreads = None,
    compiled: option.Compiled = False,
    quiet: option.Quiet = False,
    out: Annotated[Path, typer.Option(help="Folder for ablation.json and the runs.")] = Path(
        "out/inception_v3"
    ),
) -> int:
    """Top-1 and top-5 errors from Inception-v2 to v3, each row trained from nothing."""
    from ablations.inception_rows import read_rows

    from detector.cli.run_settings import RunSettings
    from detector.errors import DatasetError
    from detector.training.classifier.inputs import load_images

    chosen = numbers_of("--seeds", seeds)
    given = {
        "data.path": str(data.resolve()),
        "data.validate_on": val and str(val.resolve()),
        "optimiser.epochs": epochs,
        "network.input_size": input_size,
    }
    rows = read_rows(table, change, {k: v for k, v in given.items() if v is not None})
    images, judged = load_images(rows[0].settings, Path("."))
    if judged is None:
        raise DatasetError(f"{data}: no validation images beside the others; give --val IMAGES")
    settings = RunSettings(threads=threads, compile=compiled)
    with training_session(
        out, Path("."), settings, device=device, quiet=quiet, within="runs/*"
    ) as run_context:
        return int(not train_rows(rows, chosen, images, judged, run_context))


def train_rows(
    rows: Sequence[TrainingRow],
    seeds: Sequence[int],
    images: LabelledImages,
    judged: LabelledImages,
    context: RunContext,
) -> bool:
    """Train and judge each row with each seed; ablation.json says after each run how it stands.

    Returns False where an image could not be read.
    """
    from ablations.inception_runs import announced, measure_all, runs_of
    from ablations.inception_table import summary
    from ablations.tables import show_inception, write_table

    from detector.progress.interruption import stop_gently

    runs = runs_of(rows, seeds, images, context.out)
    found: list[tuple[Run, Result]] = []
    with stop_gently("this step, then saving") as stop:
        context = replace(context, stop=stop)
        if not context.quiet:
            print(*announced(rows, runs, judged), sep="\n", file=sys.stderr)
        for one in measure_all(runs, images, judged, context):
            found.append(one)
            if context.group.is_main:
                write_table(context.out, summary(rows, found, seeds, images, judged))
        if context.group.is_main and found:
            show_inception(summary(rows, found, seeds, images, judged))
    return all(result.readable for _, result in found)


def numbers_of(option: str, text: str, least: int = 0) -> list[int]:
    """The numbers of `0,1,2`."""
    parts = [part.strip() for part in text.split(",")]
    # isdigit alone takes superscripts, which int refuses.
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 11]
    repeated = len(set(numbers)) < len(numbers)
    if len(numbers) < len(parts) or repeated or min(numbers) < least or max(numbers) > LARGEST:
        some = ",".join(str(least + more) for more in range(3))
        raise typer.BadParameter(
            f"{option} {text}: expected whole numbers from {least} to {LARGEST}, each once, such as"
            f" {some}"
        )
    return numbers


def command_line() -> typer.Typer:
    app = new_app("The paper's comparisons as tables.")
    app.callback()(lambda: None)
    app.command("proposals")(proposals)
    app.command("detection")(detection)
    app.command("inception-v3")(inception_v3)
    return app


if __name__ == "__main__":
    run_tool(command_line())
