"""How far a long loop has come and when it will end: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TextIO, TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0


def progress(
    iterable: Iterable[Item],
    label: str,
    total: int | None = None,
    quiet: bool = False,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """The items of `iterable`, telling on stderr how many are done and how long the rest will take.

    total  how many there will be; asked of the iterable where it knows
    quiet  says nothing at all
    """
    stream = sys.stderr if stream is None else stream
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if quiet:
        return iter(iterable)
    if stream.isatty():
        return _with_bar(iterable, label, total, stream)
    return _with_lines(iterable, label, total, stream, clock)


def _with_bar(
    iterable: Iterable[Item], label: str, total: int | None, stream: TextIO
) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream)) as bar:
        yield from bar.track(iterable, total=total, description=label)


def _with_lines(
    iterable: Iterable[Item],
    label: str,
    total: int | None,
    stream: TextIO,
    clock: Callable[[], float],
) -> Iterator[Item]:
    start = last = clock()
    for done, item in enumerate(iterable, start=1):
        yield item
        now = clock()
        if now - last >= SECONDS_BETWEEN_LINES or (done == total and last > start):
            print(_line(label, done, total, now - start), file=stream, flush=True)
            last = now


def _line(label: str, done: int, total: int | None, seconds: float) -> str:
    pace = f"{seconds / done:.2f} s each"
    if total is None:
        return f"{label}: {done} done in {duration(seconds)}, {pace}"
    left = duration(seconds / done * (total - done))
    return f"{label}: {done}/{total} in {duration(seconds)}, {pace}, {left} left"


def duration(seconds: float) -> str:
    """1:02:03, or 2:03 under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
