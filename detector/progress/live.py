"""The live display of a training: step, loss, rate, items a second and the time left."""

import math
import sys
import time
from typing import Any

from detector.progress.bar import SECONDS_BETWEEN_LINES, duration


class TrainingDisplay:
    """One line, rewritten on a terminal; a line every few seconds in a log."""

    def __init__(
        self,
        last: int,
        first: int,
        batch_size: int,
        quiet: bool,
        *,
        items: str = "regions",
        right: str = "objects right",
    ) -> None:
        self.items, self.right = items, right
        self.last, self.first, self.batch_size, self.quiet = last, first, batch_size, quiet
        self._start = self._said = time.monotonic()
        self._loss: float | None = None
        self._waited = 0.0
        self._stream: Any = sys.stderr
        self._done = first
        if first:
            self.say(f"resumed at step {first} of {last}")

    def step(
        self, step: int, loss: float, rate: float, positives_right: float, waited: float
    ) -> None:
        """Show the state after a step."""
        self._done = step + 1
        if self.quiet:
            return
        if math.isfinite(loss):  # one NaN would stay in the running mean for ever
            self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        self._waited += waited
        now = time.monotonic()
        pause = 0.2 if self._stream.isatty() else 4 * SECONDS_BETWEEN_LINES
        if now - self._said < pause and step + 1 < self.last:
            return
        self._said = now
        done = step + 1 - self.first
        seconds_each = (now - self._start) / done
        mean_loss = math.nan if self._loss is None else self._loss
        text = (
            f"step {step + 1}/{self.last}  loss {mean_loss:.4f}"
            f"  {self.right} {positives_right:.2f}"
            f"  rate {rate:.2g}  {self.batch_size / seconds_each:.1f} {self.items}/s"
            f"  waited {self._waited / max(now - self._start, 1e-9):.0%}"
            f"  left {duration(seconds_each * (self.last - step - 1))}"
        )
        end = "\r" if self._stream.isatty() else "\n"
        print(text + ("\x1b[K" if end == "\r" else ""), end=end, file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Print a line above the one that is rewritten."""
        if not self.quiet:
            clear = "\x1b[K" if self._stream.isatty() else ""  # what a longer line left
            print(text + clear, file=self._stream, flush=True)

    def close(self) -> None:
        """End the display after the last step or a requested stop."""
        if not self.quiet and self._stream.isatty():
            print(file=self._stream)
        if self._done < self.last:
            self.say(f"saved at step {self._done} of {self.last}; the same command goes on")
