"""Measure speed: each command prints its figures and writes them to benchmarks/NAME.json.

python benchmarks/bench.py classifier
python benchmarks/bench.py selective-search --photographs VOC2012/JPEGImages --large
python benchmarks/bench.py page                     # docs/speed.md, from the figures of all

A benchmark is imported when it is called: each has other libraries.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from detector.cli.app import new_app, run_tool

FIGURES = Path(__file__).parent
PAGE = FIGURES.parent / "docs" / "speed.md"
# Sections of the page, by command.
TITLES = {
    "detection": "Where the time of a detection goes",
    "selective-search": "Selective search beside OpenCV's",
    "classifier": "Inference beside torch as it comes",
    "engines": "Other engines beside torch",
    "multibox": "MultiBox in crops of the classifier",
    "training": "A training step beside a matrix product",
    "cold-start": "A new process",
    "evaluation": "Evaluation",
    "lint": "The annotation check on an index as large as COCO's",
}

Bundle = Annotated[Path | None, typer.Option(help="Bundle folder. [the shipped one]")]
Photographs = Annotated[Path, typer.Option(help="Folder of photographs.")]
Rounds = Annotated[int, typer.Option(min=1, help="Times each, by turns; the median counts.")]
Threads = Annotated[int | None, typer.Option(min=1, help="[all cores]")]
Out = Annotated[Path, typer.Option(help="Folder of the figures.")]
EXAMPLES = Path("examples")

app = new_app()


@app.callback()
def main() -> None:
    """Measure speed; figures go to benchmarks/NAME.json."""


@app.command()
def classifier(
    weights: Bundle = None,
    photographs: Photographs = EXAMPLES,
    crops: Annotated[int, typer.Option(min=8, help="Crops in one round.")] = 64,
    rounds: Rounds = 5,
    threads: Threads = None,
    out: Out = FIGURES,
) -> None:
    """Crops a second of one member: the framework as it comes against our inference path."""
    from benches.classifier import measure

    from detector.hardware import usable_cores

    report(
        "classifier", out,
        measure(bundle_of(weights), photographs, crops=crops, rounds=rounds,
                threads=threads or usable_cores()),
    )  # fmt: skip


@app.command()
def detection(
    weights: Bundle = None,
    photographs: Photographs = EXAMPLES,
    images: Annotated[int, typer.Option(min=1, help="Number of them.")] = 20,
    rounds: Rounds = 3,
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    out: Out = FIGURES,
) -> None:
    """Stages of a photograph against their floors, growth, and a folder's images a second."""
    from benches.detection import measure

    from detector.hardware import usable_cores, use_device

    found = measure(
        weights, photographs, images=images, rounds=rounds, threads=threads or usable_cores(),
        device=use_device(device),
    )  # fmt: skip
    report("detection", out, found)


@app.command()
def engines(
    weights: Bundle = None,
    photographs: Photographs = EXAMPLES,
    crops: Annotated[int, typer.Option(min=8, help="Crops in one round.")] = 32,
    rounds: Rounds = 9,
    threads: Threads = None,
    out: Out = FIGURES,
) -> None:
    """Crops a second of one member on each engine that is installed."""
    from tempfile import TemporaryDirectory

    from benches.engines import measure

    from detector.hardware import usable_cores

    with TemporaryDirectory() as folder:
        found = measure(bundle_of(weights), photographs, Path(folder), crops=crops, rounds=rounds,
                        threads=threads or usable_cores())  # fmt: skip
    report("engines", out, found)


@app.command()
def training(
    architecture: Annotated[str, typer.Option(help="A network of detector.models.")] = "googlenet",
    crops: Annotated[int, typer.Option(min=1, help="Crops in a step.")] = 32,
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    out: Out = FIGURES,
) -> None:
    """A training step of the region classifier against the device's rate of matrix products."""
    from benches.training import measure

    from detector.hardware import choose_precision, usable_cores, use_device

    where = use_device(device)
    found = measure(
        architecture, crops=crops, rounds=rounds, threads=threads or usable_cores(),
        device=where, precision=choose_precision(precision, where), compiled=compiled,
    )  # fmt: skip
    report("training", out, found)


@app.command()
def multibox(
    weights: Annotated[
        Path | None, typer.Option(help="A file of inception-rcnn train multibox. [the shipped one]")
    ] = None,
    member: Bundle = None,
    photographs: Photographs = EXAMPLES,
    crops: Annotated[int, typer.Option(min=8, help="Crops in one round.")] = 32,
    rounds: Rounds = 15,
    threads: Annotated[int, typer.Option(min=1, help="Threads of crops and proposer.")] = 1,
    out: Out = FIGURES,
) -> None:
    """A pass of MultiBox against a crop of the classifier, and the share of the matching."""
    from benches.multibox import measure

    report(
        "multibox", out,
        measure(weights, bundle_of(member), photographs, crops=crops, rounds=rounds,
                threads=threads),
    )  # fmt: skip


@app.command("selective-search")
def selective_search(
    photographs: Photographs = EXAMPLES,
    images: Annotated[int, typer.Option(min=1, help="Number of them.")] = 20,
    rounds: Rounds = 3,
    large: Annotated[bool, typer.Option(help="Also 2 and 12 megapixels; minutes.")] = False,
    out: Out = FIGURES,
) -> None:
    """Our selective search against OpenCV's: time, threads, growth with size, memory."""
    from benches.selective_search import measure

    found = measure(photographs, images=images, rounds=rounds, large=large)
    report("selective-search", out, found)


@app.command()
def evaluation(
    images: Annotated[int, typer.Option(min=1, help="Synthetic images.")] = 5000,
    detections: Annotated[int, typer.Option(min=1, help="Results over all images.")] = 100_000,
    classes: Annotated[int, typer.Option(min=1, help="Classes.")] = 80,
    rounds: Rounds = 3,
    out: Out = FIGURES,
) -> None:
    """Seconds that each protocol takes, COCO's by each engine."""
    from benches.evaluation import measure

    found = measure(images=images, detections=detections, classes=classes, rounds=rounds)
    report("evaluation", out, found)


@app.command("lint")
def linter(
    images: Annotated[int, typer.Option(min=1, help="Images of the made-up index.")] = 118_287,
    objects: Annotated[int, typer.Option(min=100, help="Objects of it.")] = 860_001,
    out: Out = FIGURES,
) -> None:
    """The linter's --fast pass over an index as large as COCO's."""
    from benches.lint import measure

    report("lint", out, measure(images, objects))


@app.command("cold-start")
def cold_start(
    picture: Annotated[Path, typer.Option(help="Picture to detect in.")] = EXAMPLES / "cat.jpg",
    rounds: Rounds = 3,
    out: Out = FIGURES,
) -> None:
    """Processor seconds of a new process: import torch, load a detector, detect in one picture."""
    from benches.cold_start import measure

    if not picture.is_file():
        raise typer.BadParameter(f"{picture} is no file; give --picture")
    report("cold-start", out, measure(picture, rounds))


@app.command()
def page(
    figures: Out = FIGURES, out: Annotated[Path, typer.Option(help="The page.")] = PAGE
) -> None:
    """Write the page of speeds from the figures that are there."""
    from benches.timing import markdown

    from detector.files import write_atomically

    sections = [
        "# Speed\n\nWritten by `python benchmarks/bench.py page` from the figures of the other"
        " commands, each measured by turns in one run:\nquote ratios, since seconds are those of"
        " one machine."
    ]
    for command, title in TITLES.items():
        path = file_of(command, figures)
        if path.is_file():
            text = markdown(json.loads(path.read_text()))
            sections.append(f"## {title}\n\n`python benchmarks/bench.py {command}`\n\n{text}")
    write_atomically(out, "\n\n".join(sections) + "\n")
    typer.echo(f"wrote {out}")


def bundle_of(given: Path | None) -> Path | None:
    """The shipped bundle by default; None, for random weights, where there is none."""
    from detector.detection.load import SHIPPED

    return given or (SHIPPED if (SHIPPED / "bundle.json").is_file() else None)


def file_of(command: str, folder: Path) -> Path:
    return folder / f"{command.replace('-', '_')}.json"


def report(command: str, folder: Path, found: dict[str, Any]) -> None:
    from benches.timing import markdown

    from detector.files import write_atomically

    typer.echo(markdown(found))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file_of(command, folder), json.dumps(found, indent=2) + "\n")
    typer.echo(f"wrote {file_of(command, folder)}")


if __name__ == "__main__":
    run_tool(app)
