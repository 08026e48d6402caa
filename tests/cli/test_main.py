"""The command inception-rcnn: its table, its help, and what reaches the command that it runs."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import detector
from detector.cli import main as program
from detector.cli.main import COMMANDS, Command, main

ROOT = Path(__file__).resolve().parents[2]
NOT_COMMANDS = {
    "__init__",
    "app",
    "main",
    "options",
    "run_settings",
    "settings_table",
    "training_session",
}


def _leaves() -> Iterator[tuple[str, Command]]:
    for name, entry in COMMANDS.items():
        if isinstance(entry, Command):
            yield name, entry
        else:
            yield from ((f"{name} {inner}", command) for inner, command in entry.items())


LEAVES = dict(_leaves())


def run(*words: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return stopped.value.code


def test_the_table_names_every_module_of_commands() -> None:
    """A file that the table lacks could not be called."""
    files = {path.stem for path in (ROOT / "detector" / "cli").glob("*.py")} - NOT_COMMANDS
    assert {command.module for command in LEAVES.values()} == files


def test_every_tool_of_a_clone_is_a_command() -> None:
    for path in (ROOT / "tools").glob("*.py"):
        called = re.search(r"main\(\[(.*), \*sys.argv\[1:\]\]\)", path.read_text())
        assert called, path
        words = re.findall(r'"(\w+)"', called[1])
        assert " ".join(words) in LEAVES or words == ["propose"]  # with the next word: run, ...


def test_fit_alone_learns_classes(capsys: pytest.CaptureFixture[str]) -> None:
    """And so does the command that had --add before."""
    for words in (["fit"], ["fit", "heads"]):
        assert run(*words, "--add", "mug", "--out", "new") == 2
        assert "give --data DATA, with boxes of the classes" in capsys.readouterr().err


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[int, list[str], str]]:
    """Of each command the exit code of --help, the heavy modules it loaded, and what it printed.

    One process for all: a heavy module is counted against the first command that loads it.
    """
    source = (
        "import contextlib, io, json, sys\n"
        "from detector.cli.main import main\n"
        "heavy = {'torch', 'numba', 'cv2', 'matplotlib', 'scipy', 'sklearn', 'pydantic', 'numpy',\n"
        "         'rich'}\n"
        "found, before = {}, set()\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    text = io.StringIO()\n"
        "    with contextlib.redirect_stdout(text):\n"
        "        try: main([*words.split(), '--help'])\n"
        "        except SystemExit as end: code = end.code\n"
        "    loaded = heavy & set(sys.modules)\n"
        "    found[words], before = (code, sorted(loaded - before), text.getvalue()), loaded\n"
        "print(json.dumps(found))\n"
    )
    words = ["", *(name for name in COMMANDS if name not in LEAVES), *LEAVES]
    done = subprocess.run(
        [sys.executable, "-c", source, json.dumps(words)], capture_output=True, text=True,
        cwd=ROOT, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words", LEAVES)
def test_help_answers_at_once(words: str, helps: dict[str, tuple[int, list[str], str]]) -> None:
    code, heavy, text = helps[words]
    assert (code, heavy) == (0, [])
    assert text.startswith(f"Usage: inception-rcnn {words} [OPTIONS]")


@pytest.mark.parametrize("group", ["", *(name for name in COMMANDS if name not in LEAVES)])
def test_help_of_a_group_lists_its_commands(
    group: str, helps: dict[str, tuple[int, list[str], str]]
) -> None:
    code, heavy, text = helps[group]
    assert (code, heavy) == (0, [])
    below = [name.removeprefix(group).strip() for name in LEAVES if name.startswith(group)]
    listed = [line.split("  ")[1] for line in text.splitlines() if line.startswith("  ")]
    assert listed == below


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    alone = capsys.readouterr().out
    assert run("--help") == 0
    assert capsys.readouterr().out == alone


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("detekt",),
            "inception-rcnn has no command 'detekt'; did you mean inception-rcnn detect?",
        ),
        (("train", "region"), "no command 'region'; did you mean inception-rcnn train regions?"),
        (("propose", "xyz"), "commands: run, import, export, verify, evaluate"),
        (("a\x1b[31mb\nc",), "has no command 'a\\x1b[31mb\\nc'"),
        (("--threshold", "0.5"), "has no command '--threshold'"),
    ],
)
def test_an_unknown_command_gets_the_nearest_one(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 2
    assert error.splitlines()[1].endswith(" --help")


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("detect", "--version"),
        ("train", "--version"),
        ("fit", "heads", "--version"),
    ],
)
def test_the_version_is_the_packages(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 0
    assert capsys.readouterr().out == f"inception-rcnn {detector.__version__}\n"


def test_a_command_gets_its_arguments_and_its_name_and_its_exit_code_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from detector.cli import data_split as split

    seen = []

    def command(context: typer.Context, name: str, count: int = 1) -> int:
        seen.append((name, count, context.obj))
        return 1

    command.__annotations__["context"] = typer.Context
    monkeypatch.setattr(split, "main", command)
    assert run("data", "split", "photos here", "--count", "3") == 1
    assert seen == [("photos here", 3, "inception-rcnn data split 'photos here' --count 3")]
    assert run("data", "split", "photos", "--cuont", "3") == 2
    assert "see: inception-rcnn data split --help" in capsys.readouterr().err


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """From a folder elsewhere, as after an installation."""
    done = subprocess.run(
        [sys.executable, "-m", "detector", "detect", str(ROOT / "examples" / "cat.jpg"), "--device",
         "cpu", "--set", "max_proposals=20"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert "cat" in {row["category_name"] for row in rows}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["weights"].endswith("default")


def test_the_script_that_an_installation_makes_is_this_function() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {program.PROGRAM: f"{program.__name__}:{main.__name__}"}
