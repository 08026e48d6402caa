"""Print what every architecture costs, beside the published figures.

python tools/models.py
python tools/models.py googlenet inception_v3 --markdown
python tools/models.py --modules
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    from detector.models.costs import Cost, Published

HEADER = ("", "input", "parameters", "published", "multiply-adds", "published", "source, note")

OUTPUTS = 1000


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Architectures. [all]")] = None,
    outputs: Annotated[int, typer.Option(min=1, help="Size of the last layer.")] = OUTPUTS,
    modules: Annotated[
        bool, typer.Option("--modules", help="Single modules and steps instead of networks.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for a README.")] = False,
) -> None:
    """Parameters and multiply-adds of each architecture, or of the modules they are made of."""
    if modules and (names or outputs != OUTPUTS):
        raise typer.BadParameter("--modules goes with neither names nor --outputs")
    if modules:
        print_modules(markdown)
    else:
        print_networks(names, outputs, markdown)


def print_networks(names: list[str] | None, outputs: int, markdown: bool) -> None:
    """One row an architecture, or a variant of one."""
    from detector.errors import SettingsError
    from detector.models import ARCHITECTURES
    from detector.models.costs import cost
    from detector.models.published_costs import NETWORKS

    for name in names or ():
        if name not in ARCHITECTURES:
            known = ", ".join(sorted(ARCHITECTURES))
            raise SettingsError(f"architecture {name!r} is not known; known are {known}")
    header("network", markdown)
    for one in NETWORKS:
        if not names or one.architecture in names:
            counted, published = cost(one.build(outputs), one.shape), one.published
            if outputs != OUTPUTS:  # another network than the published one
                published = published._replace(parameters=None, multiply_adds=None)
            row(one.name, str(one.input_size), counted, published, markdown)


def print_modules(markdown: bool) -> None:
    """One table for each comparison."""
    from detector.models.costs import cost
    from detector.models.module_costs import MODULE_TABLES

    for table in MODULE_TABLES:
        header(table.title, markdown)
        above: Cost | None = None
        for one in table.rows():
            channels, height, width = one.shape
            counted, published = cost(one.build(), one.shape), one.published
            if table.steps and above is not None:
                published = published._replace(note=step(above, counted) + published.note)
            row(one.name, f"{height}x{width}x{channels}", counted, published, markdown)
            above = counted
        typer.echo()


def step(above: Cost, counted: Cost) -> str:
    """What a row costs more than the row above it."""
    parameters = counted.parameters - above.parameters
    multiply_adds = (counted.multiply_adds - above.multiply_adds) / 1e9
    return f"{parameters:+,} parameters, {multiply_adds:+.3f}G; "


def header(title: str, markdown: bool) -> None:
    """The first lines of a table."""
    echo([title, *HEADER[1:]], markdown)
    if markdown:
        typer.echo("|---" * len(HEADER) + "|")


def row(name: str, shape: str, counted: Cost, published: Published, markdown: bool) -> None:
    """What was counted beside what is published."""
    cells = [
        name,
        shape,
        short(counted.parameters),
        beside(counted.parameters, published.parameters),
        short(counted.multiply_adds),
        beside(counted.multiply_adds, published.multiply_adds),
        published.explained().removesuffix("; "),
    ]
    echo(cells, markdown)


def echo(cells: list[str], markdown: bool) -> None:
    """One line of a table."""
    if markdown:
        typer.echo("| " + " | ".join(cells) + " |")
        return
    widths = (38, 11, 10, 18, 13, 18, 0)
    line = " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    typer.echo(line.rstrip())


def short(number: float) -> str:
    """With four digits: 112.9M, 1.583G."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.4g}{letter}"
    return f"{number:.4g}"


def beside(counted: int, published: float | None) -> str:
    """The published figure and how far ours is from it."""
    if published is None:
        return "-"
    away = round(counted / published - 1, 3) + 0.0  # no "-0.0%"
    return f"{short(published)} ({away:+.1%})"


if __name__ == "__main__":
    run_tool(main)
