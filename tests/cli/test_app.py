"""The shared command-line behaviour: what is printed, and with which code a tool exits."""

import io
import os
import signal
import subprocess
import sys
import threading
from typing import Annotated

import pytest
import typer
from pydantic import Field

from detector import __version__
from detector.cli.app import new_app, reject_unused, run_tool
from detector.cli.options import chosen, settings_of
from detector.errors import ImageError, SettingsError
from detector.progress.interruption import stop_gently
from detector.progress.messages import pluralise, say_error
from detector.seeds import LARGEST, Seed
from detector.settings import Settings


def tool(
    action: str, count: Annotated[int, typer.Option(min=1, help="how many")] = 1
) -> int | None:
    """Do one of several things."""
    if action == "some":
        return 1
    if action == "image":
        raise ImageError("a.jpg: not an image\nsecond line\nthird line\nfourth line")
    if action == "setting":
        raise SettingsError("--threshold is 2; choose 0 to 1")
    if action == "bug":
        raise ZeroDivisionError("division by zero")
    if action == "disk":
        raise OSError(28, "No space left on device", "out/detections.json")
    if action == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal should have ended the tool")
    if action == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    if action == "memory":
        raise MemoryError
    if action == "no memory to import":
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")
    if action == "no memory for a thread":
        raise RuntimeError("can't start new thread")
    if action == "abort":
        raise typer.Abort
    if action == "escape":
        raise ImageError("\x1b[31mred.jpg: not an image")
    return None


def exit_code(*argv: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        run_tool(tool, argv)
    return stopped.value.code


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["well"], 0),
        (["--help"], 0),
        (["some"], 1),
        ([], 2),
        (["well", "--cuont", "2"], 2),
        (["well", "--count", "0"], 2),
        (["setting"], 2),
        (["image"], 3),
        (["bug"], 3),
        (["disk"], 3),
        (["memory"], 3),
        (["interrupt"], 130),
        (["abort"], 130),
        (["terminate"], 143),
    ],
)
def test_each_ending_has_its_exit_code(argv: list[str], code: int) -> None:
    assert exit_code(*argv) == code


@pytest.mark.parametrize("action", ["memory", "no memory to import", "no memory for a thread"])
def test_a_lack_of_memory_is_one_sentence_whoever_says_it(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(action) == 3
    assert capsys.readouterr().err.startswith("error: out of memory; ")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["image"], "error: a.jpg: not an image\nsecond line\nthird line\n"),
        (
            ["disk"],
            "error: out/detections.json: No space left on device; make room, "
            "or choose another place\n",
        ),
        (["escape"], "error: \\x1b[31mred.jpg: not an image\n"),
    ],
)
def test_an_error_is_said_in_at_most_three_lines(
    argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code(*argv)
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize(
    ("argv", "word"),
    [(["well", "--cuont", "2"], "--cuont"), (["well", "--count", "0"], "--count"), ([], "action")],
)
def test_a_usage_error_names_the_option_and_the_help(
    argv: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code(*argv)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert word in said[0]
    assert said[1].endswith("--help")


def test_a_bug_is_told_in_two_lines_and_its_traceback_only_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exit_code("bug")
    said = capsys.readouterr().err
    assert said.startswith("internal error: ZeroDivisionError: division by zero\n")
    assert "Traceback" not in said
    assert exit_code("bug", "--debug") == 3
    assert "Traceback" in capsys.readouterr().err


class Sizes(Settings):
    """Settings of the toy below."""

    side: int = Field(3, ge=1, le=9)
    """Pixels. More is slower."""
    name: str | None = None
    seed: Seed = 0


def sized(
    context: typer.Context,
    file: str,
    change: Annotated[list[str], settings_of(f"{__name__}.Sizes")] = [],  # noqa: B006
) -> None:
    chosen_sizes = chosen(Sizes, change)
    if chosen_sizes.side == 1:
        reject_unused(context, ["name"], "with one pixel")
    print(file, chosen_sizes.side, chosen_sizes.name)


TABLE = f"""\
  side  whole number, 1 to 9 [3] Pixels.
  name  text [null]
  seed  whole number, 0 to {LARGEST} [0]"""


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ("a", 0, "a 3 None", ""),
        ("a --set side=4 --set name=b", 0, "a 4 b", ""),
        ("--set help", 0, TABLE, ""),
        ("a --set side=12", 2, "", "--set: side: Input should be less than or equal to 9"),
        ("a --set sid=4", 2, "", "unknown setting sid; did you mean side? known: side, name, seed"),
        ("a --set side", 2, "", "--set side: expected NAME=VALUE"),
        ("a --side 4", 2, "", "settings are given as --set NAME=VALUE; --set help lists them"),
        ("a --set side=1 --set name=b", 2, "", "--set name: changes nothing with one pixel"),
    ],
)  # fmt: skip
def test_what_is_not_an_option_is_a_setting(
    words: str, code: int, out: str, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_tool(sized, words.split())
    said = capsys.readouterr()
    assert (stopped.value.code, said.out.rstrip()) == (code, out)
    assert err in said.err


@pytest.mark.parametrize("argv", [["--version"], ["well", "--count", "0", "--version"]])
def test_every_tool_tells_its_version(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*argv) == 0
    assert capsys.readouterr() == (f"inception-rcnn {__version__}\n", "")
    exit_code("--help")
    assert "--version" in capsys.readouterr().out


def test_what_a_terminal_has_no_letters_for_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: print("кот 1"), [])
    assert end.value.code == 0
    sys.stdout.flush()
    assert written.getvalue() == rb"\u043a\u043e\u0442 1" + os.linesep.encode()


def test_one_thing_is_not_several() -> None:
    said = [pluralise(n, thing) for n, thing in ((1, "image"), (0, "box"), (3000, "class"))]
    assert said == ["1 image", "0 boxes", "3,000 classes"]


def test_a_tool_may_have_several_commands() -> None:
    app = new_app("Two commands.")
    app.command("one")(lambda: 1)
    app.command("two")(lambda: None)
    for name, code in (("one", 1), ("two", 0)):
        with pytest.raises(SystemExit) as stopped:
            run_tool(app, [name])
        assert stopped.value.code == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_current_step_finish(number: int, code: int) -> None:
    finished = []

    def five_steps() -> None:
        with stop_gently() as stop:
            for step in range(5):
                if step == 2:
                    os.kill(os.getpid(), number)
                finished.append(step)
                if stop:
                    break

    with pytest.raises(SystemExit) as stopped:
        five_steps()
    assert finished == [0, 1, 2]
    assert stopped.value.code == code


def test_a_second_signal_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    finished = []

    def two_signals() -> None:
        with stop_gently():
            os.kill(os.getpid(), signal.SIGINT)
            finished.append("first")
            os.kill(os.getpid(), signal.SIGINT)
            finished.append("second")

    with pytest.raises(SystemExit) as stopped:
        two_signals()
    assert finished == ["first"]
    assert stopped.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before


WAITS_FOR_A_THREAD = """
import time
from concurrent.futures import ThreadPoolExecutor
from detector.progress.interruption import stop_gently
with stop_gently() as stop, ThreadPoolExecutor(1) as pool:
    future = pool.submit(time.sleep, 600)
    print("begun", flush=True)
    future.result()
"""


def test_a_second_signal_waits_for_no_thread() -> None:
    """A search of ten minutes in another thread cannot be stopped, only left."""
    command = [sys.executable, "-c", WAITS_FOR_A_THREAD]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.stderr.readline().startswith("stopping after the current image")
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 143
        finally:
            process.kill()


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with stop_gently() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_without_a_signal_nothing_happens() -> None:
    with stop_gently() as stop:
        assert not stop


STREAMS = """
import sys
from pathlib import Path
from detector.cli.app import run_tool

def main() -> None:
    Path(sys.argv[1]).joinpath("lines").write_text(str(sys.stdin.read()))
    first = open(sys.argv[1] + "/opened", "w")
    print("said", file=sys.stderr)
    for number in range(100_000):
        print("printed", number)
    first.write("whole")
    first.close()

run_tool(main, [])
"""


@pytest.mark.parametrize(
    ("redirection", "code", "out", "err"),
    [
        ("</dev/null", 0, "printed 99999", "said"),
        (">&-", 0, "", "said"),
        ("2>&-", 0, "printed 99999", ""),
        ("<&-", 0, "printed 99999", "said"),
        ("<&- >&- 2>&-", 0, "", ""),
        ("</dev/null | head -n 1", 0, "printed 0", "said"),
        (">/dev/full", 3, "", "error: standard output: No space left on device; make room, or"),
    ],
)
def test_a_stream_that_is_closed_or_full_ends_no_work_and_fills_no_other(
    tmp_path, redirection: str, code: int, out: str, err: str
) -> None:
    """Text for a closed stream is neither on the other one nor in a file opened meanwhile."""
    (tmp_path / "tool.py").write_text(STREAMS)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$0" "$1" "$2" {redirection}',
         sys.executable, tmp_path / "tool.py", tmp_path],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (tmp_path / "opened").read_text() == "whole"
    assert done.returncode == code
    assert done.stdout.splitlines()[-1:] == ([out] if out else [])
    assert err in done.stderr
    assert len(done.stderr.splitlines()) == (2 if code else bool(err))


@pytest.mark.parametrize(("given", "used"), [(None, "passive"), ("active", "active")])
def test_threads_that_wait_leave_the_core_to_others_unless_told_not_to(monkeypatch, given, used):
    """Before torch is loaded: its OpenMP spins by itself, 2.4 times the work on a busy machine."""
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    found = []
    with pytest.raises(SystemExit):
        run_tool(lambda: found.append(os.environ["OMP_WAIT_POLICY"]), [])
    assert found == [used]


def test_an_error_that_holds_a_whole_value_of_somebodys_is_cut(capsys: pytest.CaptureFixture[str]):
    say_error(SettingsError("first\n" + "x" * 10**6 + "\nthe cure\nno more"))
    first, long, cure = capsys.readouterr().err.splitlines()
    assert (first, cure) == ("error: first", "the cure")
    assert len(long) == 2000


def test_a_setting_of_a_run_may_be_said_as_an_option():
    from detector.cli import train_regions
    from detector.cli.app import _with_settings

    words = ["--data", "d", "--budget", "10m", "--steps", "5", "--threads=2"]
    assert _with_settings(train_regions.main, words) == [
        "--data", "d", "--set", "run.budget=10m", "--steps", "5", "--set", "run.threads=2",
    ]  # fmt: skip


def test_a_setting_may_be_said_as_an_option():
    from detector.cli import evaluate_detections as evaluate
    from detector.cli.app import _with_settings

    words = [
        "--data",
        "d",
        "--rounds",
        "0",
        "--max-dets=5",
        "--strict",
        "--report",
        "--no-such",
        "1",
    ]
    assert _with_settings(evaluate.main, words) == [
        "--data", "d", "--set", "rounds=0", "--set", "max_dets=5", "--set", "strict=true",
        "--report", "--no-such", "1",
    ]  # fmt: skip
