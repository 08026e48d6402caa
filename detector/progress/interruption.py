"""Interruptions: a loop finishes its current step, then stops; a second signal ends at once."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

# Seconds after the second signal for removing temporary files.
CLEAN_UP_S = 1.0


class Stop:
    """True once the user has asked to stop; `signal` says how."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def with_the_others(self) -> None:
        """Stop because another process of the group was asked to."""
        self.signal = self.signal or signal.SIGTERM

    def leave(self) -> NoReturn:
        """End the program here, as leaving the block of `stop_gently` would."""
        self.with_the_others()
        raise SystemExit(128 + (self.signal or 0))


@contextmanager
def stop_gently(finishing: str = "the current image") -> Iterator[Stop]:
    """Let a loop finish its current step when the user interrupts; the loop checks the yielded
    value between steps.

    with stop_gently() as stop:
        for path in paths:
            ...
            if stop:
                break
        write what there is

    The first SIGINT or SIGTERM only sets the value, and leaving the block then exits with 130 or
    143; a second one exits at once, whatever threads or clean-up would still wait for.
    """
    stop = Stop()
    ending: list[threading.Timer] = []

    def on_signal(number: int, frame: object) -> None:
        if stop:
            signal.signal(number, signal.SIG_DFL)  # a third signal kills
            ending.append(_end_in(CLEAN_UP_S, 128 + number))
            raise SystemExit(128 + number)
        stop.signal = number
        print(f"stopping after {finishing}; once more stops at once", file=sys.stderr)

    try:
        with _handling((signal.SIGINT, signal.SIGTERM), on_signal):
            yield stop
    finally:
        for timer in ending:
            timer.cancel()
    if stop.signal is not None:
        raise SystemExit(128 + stop.signal)


# os._exit waits for no thread and runs no clean-up, whatever hangs there.
def _end_in(seconds: float, code: int) -> threading.Timer:
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
    return timer


# By default SIGTERM ends Python at once; unwinding as on Ctrl-C removes temporary files.
@contextmanager
def _terminating() -> Iterator[None]:
    def on_signal(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    with _handling((signal.SIGTERM,), on_signal):
        yield


@contextmanager
def _handling(numbers: Sequence[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    try:
        before = {number: signal.signal(number, handler) for number in numbers}
    except ValueError:  # only the main thread may set handlers
        before = {}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
