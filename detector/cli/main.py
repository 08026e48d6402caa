"""The command `inception-rcnn`: one table of commands, each a file of this folder.

A command's file is imported when it is called, so that `--help` and a mistyped name answer at once.
"""

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
    "detect": Command("detect", "find objects in pictures: a table, drawings and JSON"),
    "propose": {
        "run": Command("propose", "propose regions of many pictures, stored in one file"),
        "import": Command("propose", "import the regions of another program", "import_foreign"),
        "export": Command("propose", "export regions in another layout", "export_foreign"),
        "verify": Command("propose", "check that a file of regions is undamaged", "verify"),
        "evaluate": Command("propose_evaluate", "measure how regions cover objects"),
    },
    "train": {
        "regions": Command("train_regions", "train the region classifier on annotated images"),
        "classifier": Command("train_classifier", "train a classifier to start from"),
        "multibox": Command("train_multibox", "train a network that proposes regions"),
    },
    "evaluate": {
        "detections": Command(
            "evaluate_detections", "mAP by VOC's, ILSVRC's and COCO's rules; a report"
        ),
        "classifier": Command("evaluate_classifier", "top-1 and top-5 error of classifiers"),
    },
    "fit": {
        "classes": Command("fit_classes", "learn classes from a few boxes; also: fit --add NAME"),
        "heads": Command("fit_heads", "fit R-CNN's SVMs and box regression"),
        "prescorer": Command("fit_prescorer", "learn which regions the networks need to see"),
        "temperature": Command("fit_temperature", "calibrate scores as probabilities"),
        "int8": Command("fit_int8", "measure the ranges that 8-bit inference needs"),
        "ranking": Command("fit_ranking", "learn the order of selective search's regions"),
        "proposals": Command("fit_proposals", "put MultiBox's scores on the search's scale"),
    },
    "suggest": Command("suggest", "choose which photographs to label next"),
    "data": {
        "check": Command("data_check", "find defects and wrong labels in annotated images"),
        "split": Command("data_split", "split a data set into balanced parts"),
        "convert": Command(
            "data_convert", "convert saved detections to another layout, or to label files"
        ),
    },
    "bundle": {
        "show": Command("bundle_show", "show the contents and the origin of a trained detector"),
        "join": Command("bundle_join", "join detectors into one ensemble"),
        "export": Command("bundle_export", "write the networks as ONNX or OpenVINO files"),
        "card": Command("bundle_card", "write the model card, with what an evaluation measured"),
    },
    "label-studio": Command("label_studio", "propose boxes and learn inside Label Studio"),
    "demo": Command("demo", "try the detector, and teach it a class, in the browser"),
    "models": Command("models", "list the known architectures and their sizes"),
    "doctor": Command("doctor", "check this machine; each fault comes with its cure"),
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    arguments = _in_full(list(sys.argv[1:] if argv is None else argv))
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


def _in_full(arguments: list[str]) -> list[str]:
    """The arguments with `fit --add`, and the former `fit heads --add`, as `fit classes`."""
    match arguments:
        case ["fit", option, *rest] if option[:1] == "-" and option not in (
            "--help",
            "-h",
            "--version",
        ):
            return ["fit", "classes", option, *rest]
        case ["fit", "heads", *rest] if any(word.split("=")[0] == "--add" for word in rest):
            return ["fit", "classes", *rest]
    return arguments


def _overview(words: Sequence[str], commands: dict[str, Command]) -> str:
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
