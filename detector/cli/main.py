"""The command `inception-rcnn`: one table of commands, each a file of this folder.

A command's file is imported when it is called, so that `--help` and a mistyped name answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple, NoReturn

import detector

PROGRAM = "inception-rcnn"


class Command(NamedTuple):
    """Where a command's function (or its app of several commands) stands, and what it is for."""

    module: str
    help: str
    function: str = "main"


COMMANDS: dict[str, Command | dict[str, Command]] = {
    "detect": Command("detect", "objects in pictures, as a table, drawings and JSON"),
    "propose": {
        "run": Command("propose", "regions of many pictures, in one file"),
        "import": Command("propose", "other programs' regions", "import_foreign"),
        "export": Command("propose", "regions in another program's layout", "export_foreign"),
        "verify": Command("propose", "whether a file of regions is whole", "verify"),
        "evaluate": Command("evaluate_proposals", "what regions cover, by their number"),
    },
    "train": {
        "regions": Command("train_regions", "the region classifier, from annotated images"),
        "classifier": Command("train_classifier", "a classifier to start from"),
        "multibox": Command("train_multibox", "a network that proposes regions"),
    },
    "evaluate": {
        "detections": Command("evaluate", "mAP by VOC's, ILSVRC's and COCO's rules; a report"),
        "classifier": Command("evaluate_classifier", "top-1 and top-5 error"),
    },
    "fit": {
        "heads": Command("fit_heads", "a class more from a few boxes; SVMs, box regression"),
        "temperature": Command("fit_temperature", "scores that mean what they say"),
        "int8": Command("calibrate", "the ranges that 8-bit inference needs"),
        "ranking": Command("fit_ranking", "the learned order of selective search"),
        "proposals": Command("calibrate_proposals", "MultiBox's scores beside the search's"),
    },
    "data": {
        "check": Command("lint", "what is wrong with annotated images, and the cure"),
        "split": Command("split", "a data set in balanced parts"),
        "convert": Command("export", "saved detections in another layout"),
    },
    "bundle": {
        "show": Command("show", "what a trained detector holds, and where it comes from"),
        "join": Command("join", "one ensemble of several detectors"),
        "card": Command("card", "its model card, with what an evaluation has measured"),
    },
    "models": Command("models", "the known architectures and their sizes"),
    "doctor": Command("doctor", "what is wrong with this machine"),
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    words: list[str] = []
    found: Command | dict[str, Command] = COMMANDS  # type: ignore[assignment]
    while isinstance(found, dict):
        word = arguments.pop(0) if arguments else "--help"
        if word == "--version":
            print(f"{PROGRAM} {detector.__version__}")
            sys.exit(0)
        if word in ("--help", "-h", "help"):
            print(_overview(words, found))
            sys.exit(0)
        if word not in found:
            _refuse(words, word, found)
        words.append(word)
        found = found[word]
    from detector.cli.app import run_tool

    function = getattr(import_module(f"detector.cli.{found.module}"), found.function)
    run_tool(function, arguments, " ".join([PROGRAM, *words]))


def _overview(words: Sequence[str], commands: dict[str, Command]) -> str:
    """The commands below `words`, a line each."""
    rows = []
    for name, command in commands.items():
        if isinstance(command, dict):
            rows += [(f"{name} {inner}", one.help) for inner, one in command.items()]
        else:
            rows.append((name, command.help))
    width = max(len(name) for name, _ in rows)
    usage = " ".join([PROGRAM, *words])
    lines = [f"  {name:<{width}}  {text}" for name, text in rows]
    return "\n".join(
        [f"Usage: {usage} COMMAND [OPTIONS]", "", *lines, "", "COMMAND --help shows its options."]
    )


def _refuse(words: Sequence[str], word: str, commands: dict[str, Command]) -> NoReturn:
    near = get_close_matches(word, commands, 1)
    usage = " ".join([PROGRAM, *words])
    hint = f"did you mean {usage} {near[0]}?" if near else f"commands: {', '.join(commands)}"
    print(f"error: {usage} has no command {word!r}; {hint}\nsee: {usage} --help", file=sys.stderr)
    sys.exit(2)
