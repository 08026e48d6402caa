"""Measure speed: each command prints a table and writes its figures to benchmarks/NAME.json.

python benchmarks/bench.py classifier
python benchmarks/bench.py selective-search --photographs VOC2012/JPEGImages --large
python benchmarks/bench.py evaluation
python benchmarks/bench.py multibox
python benchmarks/bench.py cold-start
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from detector.cli.app import new_app, run_tool

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))  # MultiBox's step is there

app = new_app()


@app.callback()
def main() -> None:
    """Measure speed; figures go to benchmarks/NAME.json."""


@app.command()
def classifier(
    weights: Annotated[
        Path | None, typer.Option(help="Bundle folder. [the shipped one, or random weights]")
    ] = None,
    photographs: Annotated[
        Path, typer.Option(help="Folder of .jpg files to take crops from.")
    ] = Path("examples"),
    crops: Annotated[int, typer.Option(min=8, help="Crops in one round.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, both ways in turn.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="[all cores]")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("benchmarks"),
) -> None:
    """Crops a second of one member: the framework as it comes against our inference path."""
    from benches.classifier import measure

    from detector.detection.load import SHIPPED
    from detector.hardware import usable_cores

    bundle = weights or (SHIPPED if (SHIPPED / "bundle.json").is_file() else None)
    found = measure(
        bundle, photographs, crops=crops, rounds=rounds, threads=threads or usable_cores()
    )
    _report(found, out / "classifier.json")


@app.command()
def training(
    architecture: Annotated[str, typer.Option(help="A network of detector.models.")] = "googlenet",
    crops: Annotated[int, typer.Option(min=1, help="Crops in a step.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Steps, a matrix product before each.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="[all cores]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("benchmarks"),
) -> None:
    """A training step of the region classifier against the device's rate of matrix products."""
    from benches.training import measure

    from detector.files import write_atomically
    from detector.hardware import choose_precision, usable_cores, use_device

    where = use_device(device)
    found = measure(
        architecture, crops=crops, rounds=rounds, threads=threads or usable_cores(),
        device=where, precision=choose_precision(precision, where), compiled=compiled,
    )  # fmt: skip
    for name, value in found.items():
        typer.echo(f"{name.replace('_', ' '):22s} {value}")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "training.json", json.dumps(found, indent=2) + "\n")


@app.command()
def multibox(
    weights: Annotated[
        Path | None, typer.Option(help="A file of tools/train_multibox.py. [the shipped one]")
    ] = None,
    member: Annotated[
        Path | None, typer.Option(help="Bundle whose crops it is to save. [the shipped one]")
    ] = None,
    photographs: Annotated[Path, typer.Option(help="Folder of .jpg files.")] = Path("examples"),
    crops: Annotated[int, typer.Option(min=8, help="Crops in one round.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, all ways in turn.")] = 15,
    threads: Annotated[int, typer.Option(min=1, help="Threads of crops and proposer.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("benchmarks"),
) -> None:
    """A pass of MultiBox against a crop of the classifier, and the share of the matching."""
    from benches.multibox import measure

    from detector.detection.load import SHIPPED

    bundle = member or (SHIPPED if (SHIPPED / "bundle.json").is_file() else None)
    found = measure(weights, bundle, photographs, crops=crops, rounds=rounds, threads=threads)
    _report(found, out / "multibox.json")


@app.command("selective-search")
def selective_search(
    photographs: Annotated[Path, typer.Option(help="Folder of photographs.")] = Path("examples"),
    images: Annotated[int, typer.Option(min=1, help="How many of them.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, both engines in turn.")] = 3,
    large: Annotated[bool, typer.Option(help="Also 2 and 12 megapixels; minutes.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Only print the table of the last run.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("benchmarks"),
) -> None:
    """Our selective search against OpenCV's: time, threads, growth with size, memory."""
    from benches import selective_search as bench

    from detector.files import write_atomically

    path = out / "selective_search.json"
    if not markdown:
        found = bench.measure(photographs, images=images, rounds=rounds, large=large)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(found, indent=2) + "\n")
    typer.echo(bench.markdown(path))


@app.command()
def evaluation(
    images: Annotated[int, typer.Option(min=1, help="Synthetic images.")] = 5000,
    detections: Annotated[int, typer.Option(min=1, help="Results over all images.")] = 100_000,
    classes: Annotated[int, typer.Option(min=1, help="Classes.")] = 80,
    rounds: Annotated[int, typer.Option(min=1, help="Times each; the median counts.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("benchmarks"),
) -> None:
    """Seconds that each protocol takes, COCO's by each engine."""
    from benches.evaluation import measure

    found = measure(images=images, detections=detections, classes=classes, rounds=rounds)
    _report(found, out / "evaluation.json")


@app.command("lint")
def linter(
    images: Annotated[int, typer.Option(min=1, help="Images of the made-up index.")] = 118_287,
    objects: Annotated[int, typer.Option(min=100, help="Objects of it.")] = 860_001,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("benchmarks"),
) -> None:
    """The linter's --fast pass over an index as large as COCO's."""
    from benches.lint import measure

    from detector.files import write_atomically

    found = measure(images, objects)
    for name, value in found.items():
        typer.echo(f"{name.replace('_', ' '):18s} {value}")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "lint.json", json.dumps(found, indent=2) + "\n")


@app.command("cold-start")
def cold_start(
    picture: Annotated[Path, typer.Option(help="What is detected in.")] = Path("examples/cat.jpg"),
    rounds: Annotated[int, typer.Option(min=1, help="Times each; the median counts.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("benchmarks"),
) -> None:
    """Processor seconds of a new process: import torch, load a detector, detect in one picture."""
    from benches.cold_start import measure

    if not picture.is_file():
        raise typer.BadParameter(f"{picture} is no file; give --picture")
    _report(measure(picture, rounds), out / "cold_start.json")


def _report(found: dict[str, Any], path: Path) -> None:
    from detector.files import write_atomically

    for name, value in found.items():
        if not isinstance(value, dict):
            typer.echo(f"{name.replace('_', ' '):16s} {value}")
    widest = max(10, *map(len, found["ways"]))
    for way, figures in found["ways"].items():
        row = "   ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
        typer.echo(f"{way:{widest}s} {row}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(found, indent=2) + "\n")
    typer.echo(f"wrote {path}")


if __name__ == "__main__":
    run_tool(app)
