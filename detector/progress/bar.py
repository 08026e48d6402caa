"""Progress of a long loop with the time left: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TextIO, TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0


class Pace:
    """A signal that the work begins: items before it were cached, and do not count for the time
    left.
    """

    begun = False

    def begin(self) -> None:
        """Signal that the work begins now."""
        self.begun = True

    def begins(self) -> bool:
        """True if the work has begun since the last call."""
        begun, self.begun = self.begun, False
        return begun


def progress(
    iterable: Iterable[Item],
    label: str,
    total: int | None = None,
    quiet: bool = False,
    *,
    pace: Pace | None = None,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """Yield the items of `iterable`, reporting on stderr how many are done and the time left.

    total  number of items; by default the length of the iterable, if it has one
    quiet  no report at all
    pace   for iterables whose first items may be cached
    """
    pace = pace or Pace()
    stream = sys.stderr if stream is None else stream
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if quiet:
        return iter(iterable)
    if stream.isatty():
        return _with_bar(iterable, label, total, pace, stream)
    return _with_lines(iterable, label, total, pace, stream, clock)


def _with_bar(
    iterable: Iterable[Item], label: str, total: int | None, pace: Pace, stream: TextIO
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
        task = bar.add_task(label, total=total)
        for done, item in enumerate(iterable):
            if pace.begins() and total is not None:
                bar.reset(task, total=total - done, description=f"{label} ({done} known)")
            yield item
            bar.advance(task)


def _with_lines(
    iterable: Iterable[Item],
    label: str,
    total: int | None,
    pace: Pace,
    stream: TextIO,
    clock: Callable[[], float],
) -> Iterator[Item]:
    start = last = ready = clock()
    known = 0
    for done, item in enumerate(iterable, start=1):
        if pace.begins():
            known, start = done - 1, ready  # the seconds of known items do not count
        yield item
        now = ready = clock()
        # The last line comes only after others: a quick loop says nothing.
        if now - last >= SECONDS_BETWEEN_LINES or (done == total and last > start):
            print(_line(label, done, total, known, now - start), file=stream, flush=True)
            last = now


def _line(label: str, done: int, total: int | None, known: int, seconds: float) -> str:
    seconds_each = seconds / (done - known)
    text = f"{label}: {done}" + ("" if total is None else f"/{total}")
    if known:
        text += f", {known} of them known,"
    if total is None:
        return f"{text} done in {duration(seconds)}, {seconds_each:.2f} s each"
    left = duration(seconds_each * (total - done))
    return f"{text} in {duration(seconds)}, {seconds_each:.2f} s each, {left} left"


def duration(seconds: float) -> str:
    """A time as 1:02:03, or 2:03 under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
