"""A pool of worker processes that may die or hang: restarted, with two tries for each item.

Processes and not threads: a process can be killed when an image takes too long, and when the system
kills one for its memory, the others survive. concurrent.futures gives up all work when one dies.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from detector.errors import ProposalError

TRIES = 2  # one death may be chance (the system kills for memory); two are laid to the item
START_LIMIT_S = 300.0  # where no folder takes a cache of kernels, every start compiles them

# Each child process calls `Prepare` once; the function that it returns is called with each item.
Work = Callable[[Any], Any]
Prepare = Callable[[], Work]


@dataclass(frozen=True)
class Lost:
    """Result of an item whose workers died, hung or raised."""

    reason: str


def work_on(
    items: Iterable[Any],
    prepare: Prepare,
    workers: int,
    time_limit: float,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, result or Lost) as items finish; once `stop()` is true no new item starts.

    `prepare` and the items must be picklable. An item goes to a second worker if the first dies or
    takes over `time_limit` seconds. Raises ProposalError where the workers do not start.
    """
    waiting = deque((item, 1) for item in items)
    # No more workers than items: each costs the imports of a new interpreter.
    crew = [_Worker(prepare) for _ in range(max(1, min(workers, len(waiting))))]
    try:
        while True:
            for worker in crew:
                if worker.ready and worker.item is None and waiting and not stop():
                    worker.assign(*waiting.popleft(), time_limit)
            busy = any(worker.item is not None for worker in crew)
            if not busy and (not waiting or stop()):
                return
            # Woken at least once a second, so that a request to stop is seen while workers start.
            now = time.monotonic()
            patience = min([1.0, *(max(0.0, worker.deadline - now) for worker in crew)])
            spoken = wait([worker.connection for worker in crew], patience)
            for worker in crew:
                if worker.connection in spoken or worker.deadline <= time.monotonic():
                    yield from _attend(worker, waiting)
    finally:
        for worker in crew:
            worker.end()


def _attend(worker: _Worker, waiting: deque[tuple[Any, int]]) -> Iterator[tuple[Any, Any]]:
    """Take a worker's message; replace it, and put its item back, where it has died or is late."""
    item, tries = worker.item, worker.tries
    try:
        answer = worker.receive()
    except _GoneError as error:
        if not worker.ready:
            worker.failed_starts += 1  # dead before any item: the fault is not an item's
            if worker.failed_starts >= TRIES:
                raise ProposalError(f"the worker processes do not start: {error}") from None
        worker.end()
        worker.start()
        if item is not None and tries < TRIES:
            waiting.append((item, tries + 1))
        elif item is not None:
            yield item, Lost(f"{error}, {tries} times; given up")
        return
    if item is not None:
        yield item, answer


class _GoneError(Exception):
    """A worker died, took too long, or could not prepare itself; holds the reason."""


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    # A child inherits the handler, so it ignores Ctrl-C from its first instant.
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if before is None or not in_main_thread:  # not ours to set
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Worker:
    def __init__(self, prepare: Prepare) -> None:
        self.prepare, self.failed_starts = prepare, 0
        self.start()

    def start(self) -> None:
        # Never a fork: locks held by our threads would be copied in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.prepare), daemon=True)
        with _interrupts_ignored():  # or Ctrl-C would find it still importing, and be printed
            self.process.start()
        theirs.close()  # or our copy would keep the pipe open when the process has died
        self.ready, self.item, self.tries = False, None, 0
        self.limit = START_LIMIT_S
        self.deadline = time.monotonic() + START_LIMIT_S

    def assign(self, item: Any, tries: int, time_limit: float) -> None:
        self.item, self.tries, self.limit = item, tries, time_limit
        self.deadline = time.monotonic() + time_limit
        try:
            self.connection.send(item)
        except OSError:
            self.deadline = 0.0  # it died while idle: found late at once, and replaced

    def receive(self) -> Any:
        """Receive the worker's message, after which it is idle. Raises _GoneError."""
        try:
            # Late, unless the answer came at the last moment or the process has died.
            if not self.connection.poll() and self.process.is_alive():
                raise _GoneError(f"took over {self.limit:g} s")
            message = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)  # the pipe may close before the exit code is there
            code = self.process.exitcode
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                raise _GoneError(f"its worker was killed by {name}") from None
            raise _GoneError(f"its worker ended with exit code {code}") from None
        if not self.ready and isinstance(message, Lost):
            raise _GoneError(message.reason)
        self.ready, self.item, self.failed_starts = True, None, 0
        self.deadline = float("inf")  # an idle worker is never late
        return message

    def end(self) -> None:
        self.process.kill()  # a worker ignores SIGTERM
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, prepare: Prepare) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; our parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            return Lost(f"{type(error).__name__}: {error}")

    try:
        work = attempt(prepare)
        if isinstance(work, Lost):
            connection.send(work)
            return
        connection.send(None)  # ready: items count their time from here
        while True:
            connection.send(attempt(work, connection.recv()))
    except (EOFError, ConnectionResetError, BrokenPipeError):  # our parent was killed
        return
