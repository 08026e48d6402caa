"""Print what every architecture costs, beside the published figures.

python tools/models.py
python tools/models.py googlenet inception_v3 --markdown
"""

from __future__ import annotations

from typing import Annotated

import typer

from detector.reporting.cli import run_tool


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Architectures. [all]")] = None,
    outputs: Annotated[int, typer.Option(min=1, help="Size of the last layer.")] = 1000,
    markdown: Annotated[bool, typer.Option(help="A table for a README.")] = False,
) -> None:
    """Parameters and multiply-adds of each architecture."""
    from detector.models import ARCHITECTURES, build_model
    from detector.models.costs import INPUT_SIZES, PUBLISHED, cost

    if markdown:
        typer.echo(
            "| network | input | parameters | published | multiply-adds | published | note |"
        )
        typer.echo("|---|---|---|---|---|---|---|")
    for name in names or ARCHITECTURES:
        size = INPUT_SIZES.get(name, 224)
        counted = cost(build_model(name, outputs), size)
        known = PUBLISHED[name]
        note = "; ".join(part for part in (known.source, known.note) if part)
        cells = [
            name,
            str(size),
            f"{counted.parameters / 1e6:.2f}M",
            _beside(counted.parameters, known.parameters, 1e6, "M"),
            f"{counted.multiply_adds / 1e9:.3f}G",
            _beside(counted.multiply_adds, known.multiply_adds, 1e9, "G"),
            note,
        ]
        if markdown:
            typer.echo("| " + " | ".join(cells) + " |")
        else:
            widths = (22, 4, 9, 18, 9, 18, 0)
            row = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
            typer.echo(" ".join(row))


def _beside(counted: int, published: float | None, unit: float, letter: str) -> str:
    """The published figure and how far ours is from it."""
    if published is None:
        return "-"
    return f"{published / unit:.4g}{letter} ({counted / published - 1:+.1%})"


if __name__ == "__main__":
    run_tool(main)
