"""Options that several commands have: one name, one limit and the same words everywhere.

A command has at most twelve of its own. The rest are settings, `--set NAME=VALUE`, of one class
that pydantic validates; `--set help` lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from detector.seeds import LARGEST

if TYPE_CHECKING:
    from detector.settings import Settings

Chosen = TypeVar("Chosen", bound="Settings")


def settings_of(kind: str, **rooms: str) -> Any:
    """The option --set of a command.

    kind   dotted name of the settings class, which --help does not import
    rooms  those of further rooms
    """

    def list_them(changes: list[str]) -> list[str]:
        if "help" in changes:
            from detector.cli.settings_table import settings_table

            typer.echo(settings_table(kind, rooms))
            raise typer.Exit
        return changes

    # Eager: the settings are listed where arguments are missing, too.
    return typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another setting, also as --NAME VALUE; may repeat. --set help lists them.",
        callback=list_them,
        is_eager=True,
    )


def chosen(kind: type[Chosen], changes: Sequence[str]) -> Chosen:
    """The settings with changes, each NAME=VALUE. Raises SettingsError."""
    from detector.settings import load_config, validate

    return validate(kind, load_config(None, changes), "--set")


Data = Annotated[Path, typer.Option(help="Data set: folder or annotation file.")]
Split = Annotated[str | None, typer.Option(help="Which part, such as train or val.")]
SomeImages = Annotated[int | None, typer.Option(min=1, help="Only so many images, evenly spaced.")]
Classes = Annotated[str, typer.Option(help="own, or voc: VOC's twenty, COCO's names mapped.")]
Strict = Annotated[bool, typer.Option(help="Stop at the first defective annotation.")]
# For commands that make one thing of many images; the others exit with 1 by themselves.
AllImages = Annotated[
    bool, typer.Option("--strict", help="Exit code 1 if an image cannot be read. [a warning]")
]

Weights = Annotated[Path | None, typer.Option(help="Bundle folder. [the shipped one]")]
NewBundle = Annotated[Path, typer.Option(help="Folder of the new bundle.")]
Ensemble = Annotated[str, typer.Option(help="Number of members, or all.")]
Proposals = Annotated[
    str | None,
    typer.Option(
        help="selective-search, multibox, both, opencv, each as NAME or NAME:SETTING=VALUE,..."
        " (of the bundle's own engine, the rest stays); or a proposal cache FILE. [the bundle's]"
    ),
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16, int8.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. [all cores]")]
SearchThreads = Annotated[int, typer.Option(min=1, help="Threads of one search.")]

Rounds = Annotated[int, typer.Option(min=0, help="Bootstrap rounds; 0: no interval.")]
BootstrapSeed = Annotated[int, typer.Option(min=0, max=LARGEST, help="Seed of the bootstrap.")]

Config = Annotated[Path | None, typer.Option(help="YAML of settings (configs/).")]
DataSets = Annotated[list[str], typer.Option(help="Data set folder or file; may repeat.")]
SplitOfAll = Annotated[str | None, typer.Option(help="Split of every --data, such as train.")]
DataRoot = Annotated[Path, typer.Option(help="Where relative data paths begin.")]
TrainingDevice = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
TrainingThreads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads that make batches, and as many that compute. [2; all cores]"),
]
Compiled = Annotated[bool, typer.Option("--compile", help="Use torch.compile.")]

Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
