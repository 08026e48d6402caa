"""The frame of every command: exit codes, errors of at most three lines, signals, locked folders.

Exit codes: 0 all good, 1 some inputs failed, 2 usage, 3 nothing usable, 130 and 143 interrupted.
"""

from __future__ import annotations

import functools
import io
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import detector
from detector.errors import DetectorError, DetectorWarning
from detector.files import exclusive_lock
from detector.progress.interruption import _terminating
from detector.progress.messages import DEBUG, VERSION, say, say_error

if TYPE_CHECKING:
    import typer

Tool = TypeVar("Tool", bound=Callable[..., Any])

# An operator's threads that wait for another's part sleep: spinning, as OpenMP's do by default,
# they take the core that the other needs on a busy machine. Read when torch is loaded.
PATIENT = {"OMP_WAIT_POLICY": "passive"}
COMMON = "Every command takes --version, and --debug, for the traceback of an error."


def run_tool(
    tool: Callable[..., Any] | typer.Typer,
    argv: Sequence[str] | None = None,
    name: str | None = None,
) -> NoReturn:
    """Run a tool's function (or its typer app, where it has several commands) and exit.

    The function's result is the exit code; None stands for 0. `--debug` shows the traceback of an
    error, `--version` does nothing else. The context's `obj` is the whole command line.

    name  what the user called, such as `inception-rcnn data check`
    """
    _prepare_streams()
    for variable, value in PATIENT.items():
        os.environ.setdefault(variable, value)
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = DEBUG in arguments
    if VERSION in arguments:
        print(f"inception-rcnn {detector.__version__}")
        sys.exit(_close_streams(0))
    command = _command_of(tool)
    given = _with_settings(tool, [one for one in arguments if one != DEBUG])
    name = name or os.path.basename(sys.argv[0])
    with _terminating(), _plain_warnings():
        try:
            code = command(
                given,
                prog_name=name,
                standalone_mode=False,  # else click words the errors and chooses the exit code
                obj=f"{name} {shlex.join(arguments)}",
            )
        except Exception as error:
            if debug:
                traceback.print_exc()
            else:
                say_error(error, name)
            code = _exit_code_of(error)
        except SystemExit as leaving:  # a signal's, after the tool wrote what it had
            raise SystemExit(_close_streams(leaving.code)) from None
    sys.exit(_close_streams(code if isinstance(code, int) else 0))


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print our own warnings as a sentence, without the line of code that Python shows."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, DetectorWarning):
            say(f"warning: {message}")
        else:
            usual(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


# A standard stream whose failures end no work: a reader that went away, such as `head`, wants no
# more, and any other failure is reported at the end.
class _Outlet(io.FileIO):
    failed: OSError | None = None

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
        except OSError as error:
            self.failed = self.failed or error
            return len(data)


# The caller may have closed a standard stream, and a terminal may lack a name's letters.
def _prepare_streams() -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file to be opened would get the stream's number, and its text.
            handle = os.open(os.devnull, os.O_RDWR)
            os.dup2(handle, number)
            if handle != number:
                os.close(handle)
            os.set_inheritable(number, True)  # what os.open gives is not (PEP 446)
        stream = getattr(sys, name)
        if stream is None:
            nowhere = open(os.devnull, "w" if number else "r", errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, nowhere)
        elif number and isinstance(stream, io.TextIOWrapper):
            binary: Any = stream.buffer  # without buffer where Python was told so (-u)
            if type(getattr(binary, "raw", binary)) is io.FileIO:
                stream.flush()
                outlet: Any = _Outlet(stream.fileno(), "w", closefd=False)
                stream = io.TextIOWrapper(
                    io.BufferedWriter(outlet) if hasattr(binary, "raw") else outlet,
                    stream.encoding,
                    line_buffering=stream.line_buffering,
                    write_through=stream.write_through,
                )
                setattr(sys, name, stream)
            stream.reconfigure(errors="backslashreplace")


# A standard output that could not be written, on a full disk, is the failure of a run that was fine
# otherwise.
def _close_streams(code: Any) -> Any:
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    raw = getattr(binary, "raw", binary)
    if isinstance(raw, _Outlet) and raw.failed is not None:
        error = raw.failed
        say_error(OSError(error.errno, error.strerror, "standard output"))
        return code or DetectorError.exit_code
    return code


def exclusive_out(tool: Tool) -> Tool:
    """Lock the folder of a tool's --out while it runs: a second tool there is refused."""

    @functools.wraps(tool)
    def alone(*arguments: Any, out: Path, **options: Any) -> Any:
        a_file = out.exists() and not out.is_dir()  # which the tool refuses in its own words
        with nullcontext() if a_file else exclusive_lock(out):
            return tool(*arguments, out=out, **options)

    return cast("Tool", alone)


def code_of_made(left_out: bool, strict: bool) -> int:
    """Warn where a tool has made its one thing, such as a trained detector, without the images that
    could not be read; the exit code.
    """
    if left_out and not strict:
        say(
            "warning: made without the images that could not be read (above); with --strict that"
            " is exit code 1"
        )
    return int(left_out and strict)


def members_of(ensemble: str) -> int | None:
    """--ensemble as a number of members; None is all."""
    import typer

    if ensemble != "all" and not (ensemble.isdecimal() and int(ensemble) > 0):
        raise typer.BadParameter(f"--ensemble {ensemble}: expected a number of members, or all")
    return None if ensemble == "all" else int(ensemble)


def reject_unused(context: typer.Context, names: Iterable[str], where: str) -> None:
    """Refuse options that are given where they would change nothing.

    names  of the tool's parameters, or of its settings (--set)
    where  the reason: "with --compare"
    """
    settings = [change.partition("=")[0] for change in context.params.get("change", ())]
    given = {name: f"--set {name}" for name in settings}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if source is not None and source.name == "COMMANDLINE":
            given[parameter.name] = "/".join([*parameter.opts, *parameter.secondary_opts])
    unused = [given[name] for name in names if name in given]
    if unused:
        context.fail(f"{', '.join(unused)}: changes nothing {where}; leave it out")


def sibling(out: Path, suffix: str) -> Path:
    """The folder OUT.SUFFIX beside an --out."""
    # Made absolute first: `.` and `..` have a name, too.
    return Path(os.path.abspath(out) + suffix)


def _with_settings(tool: object, arguments: list[str]) -> list[str]:
    """The arguments with `--NAME VALUE` of a setting as `--set NAME=VALUE`, which says the same; so
    with the settings of a training's run.
    """
    module = sys.modules.get(getattr(tool, "__module__", ""))
    path, run = (getattr(module, name, None) for name in ("SETTINGS", "RUN"))
    if path is None or not any(one.startswith("--") for one in arguments):
        return arguments
    import inspect

    own = set(inspect.signature(cast("Callable[..., Any]", tool)).parameters)
    translated: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*translated, word, *rest]
        option, equals, value = word.partition("=")
        name = option[2:].replace("-", "_")
        if not option.startswith("--") or name in own or option in _WORDS:
            translated.append(word)
            continue
        known = _names_of(path)
        if run is not None and name not in known and name in _names_of(run):
            known, name = {f"run.{name}"}, f"run.{name}"
        if name in known:
            if not equals:
                flag = not rest or rest[0].startswith("--")
                value = "true" if flag else rest.pop(0)
            translated += ["--set", f"{name}={value}"]
        elif name.startswith("no_") and name[3:] in known and not equals:
            translated += ["--set", f"{name[3:]}=false"]
        else:
            translated.append(word)
    return translated


# Options whose parameters have other names.
_WORDS = ("--help", "--set", "--json", "--report", "--pictures", "--no-pictures", "--quiet")


def _names_of(path: str) -> set[str]:
    """The names of a settings class, which is imported only where an option may be one of them."""
    from pkgutil import resolve_name

    fields = resolve_name(path).model_fields
    return {*fields, *(field.alias for field in fields.values() if field.alias)}


def _command_of(tool: Callable[..., Any] | typer.Typer) -> Callable[..., Any]:
    import typer

    if not isinstance(tool, typer.Typer):
        app = new_app()
        app.command(epilog=COMMON)(tool)
        tool = app
    return typer.main.get_command(tool)


def new_app(description: str = "") -> typer.Typer:
    """An empty app for a tool with several commands. Plain help: rich's would cost 0.1 s."""
    import typer

    return typer.Typer(
        help=description,
        epilog=COMMON,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def _exit_code_of(error: Exception) -> int:
    # click's, by its name: typer may keep its own copy of click.
    if type(error).__name__ == "Abort":
        return 128 + signal.SIGINT
    code = getattr(error, "exit_code", None)
    return code if isinstance(code, int) else DetectorError.exit_code
