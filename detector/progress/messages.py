"""Messages of commands on stderr: control characters escaped, errors in at most three lines."""

import errno
import sys
from typing import Any

from detector.errors import DetectorError, cut, is_out_of_memory

MAX_LINES, MAX_LINE = 3, 2000
DEBUG, VERSION = "--debug", "--version"
# Cures for errors of the operating system.
CURES = {
    errno.ENOENT: "; check the path",
    errno.EEXIST: "; give a folder, or another name",
    errno.ENOTDIR: "; give a folder, or another name",
    errno.EISDIR: "; give a file, or another name",
    errno.EACCES: "; choose another place, or change its permissions",
    errno.EROFS: "; choose another place: this disk is read-only",
    errno.ENOSPC: "; make room, or choose another place",
}


def say_error(error: Exception, command: str = "") -> None:
    """Print an error's message on stderr in at most three lines, each cut at MAX_LINE characters,
    with control characters escaped.

    command  whose --help has the options, for an error of usage
    """
    for line in _lines_of(error, command)[:MAX_LINES]:
        say(cut(line, MAX_LINE))


def say(text: str) -> None:
    """Print a line on stderr with control characters escaped."""
    print(escape_controls(text), file=sys.stderr)


def _lines_of(error: Exception, command: str) -> list[str]:
    if isinstance(error, DetectorError):
        return f"error: {error}".splitlines()
    if hasattr(error, "format_message"):  # click's usage errors, wherever typer keeps its click
        lines = [f"error: {error.format_message()}", f"see: {command} --help"]
        if hasattr(error, "option_name") and _takes_settings(error):
            lines.insert(1, "settings are given as --set NAME=VALUE; --set help lists them")
        return lines
    if type(error).__name__ == "Abort":
        return ["interrupted"]
    if is_out_of_memory(error):
        return ["error: out of memory; try fewer or smaller inputs, or a smaller batch"]
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        cure = CURES.get(error.errno or 0, "")
        return [f"error: {where}{error.strerror}{cure}"]
    text = str(error).splitlines()
    return [
        f"internal error: {type(error).__name__}: {text[0] if text else ''}",
        f"please report it, with the traceback that {DEBUG} gives",
    ]


def _takes_settings(error: Any) -> bool:
    return any("--set" in one.opts for one in error.ctx.command.params)


def pluralise(number: int, thing: str) -> str:
    """A count with its noun: 1 image, 2 boxes, 3,000 classes."""
    ending = "" if number == 1 else "es" if thing.endswith(("s", "x")) else "s"
    return f"{number:,} {thing}{ending}"


def escape_controls(text: str) -> str:
    """Untrusted text made safe for a terminal: control characters appear as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)  # \x1b for the escape
