"""What commands say on stderr: control characters escaped, errors in at most three lines."""

from __future__ import annotations

import errno
import sys

from detector.errors import DetectorError, cut, is_out_of_memory

MAX_LINES, MAX_LINE = 3, 2000


DEBUG, VERSION = "--debug", "--version"


CURES = {
    errno.ENOENT: "; check the path",
    errno.EEXIST: "; give a folder, or another name",
    errno.ENOTDIR: "; give a folder, or another name",
    errno.EISDIR: "; give a file, or another name",
    errno.EACCES: "; choose another place, or change its permissions",
    errno.EROFS: "; choose another place: this disk is read-only",
    errno.ENOSPC: "; make room, or choose another place",
}
"""What the system's own errors ask for."""


def say_error(error: Exception) -> None:
    """An error's message on stderr, in at most three lines, control characters made visible. Where
    somebody's value makes a line too long for anybody, its end is left out.
    """
    for line in _lines_of(error)[:MAX_LINES]:
        say(cut(line, MAX_LINE))


def say(text: str) -> None:
    """A line on stderr, control characters made visible."""
    print(escape_controls(text), file=sys.stderr)


def _lines_of(error: Exception) -> list[str]:
    if isinstance(error, DetectorError):
        return f"error: {error}".splitlines()
    if hasattr(error, "format_message"):  # click's usage errors, wherever typer keeps its click
        return [f"error: {error.format_message()}", f"see: {sys.argv[0]} --help"]
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


def pluralise(number: int, thing: str) -> str:
    """A number of things: 1 image, 2 boxes, 3,000 classes."""
    ending = "" if number == 1 else "es" if thing.endswith(("s", "x")) else "s"
    return f"{number:,} {thing}{ending}"


def escape_controls(text: str) -> str:
    """Text that others wrote, fit for a terminal: control characters appear as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
