"""Typed errors: each names the file or option, what was expected, and the next step.

A tool prints the message in at most three lines, without a traceback, and exits with `exit_code`:
0 all good, 1 some inputs failed, 2 usage, 3 nothing usable, 130/143 interrupted.
"""

import reprlib
from collections.abc import Sequence


class DetectorError(Exception):
    """Base class of errors that the user can act on; `exit_code` is that of the command."""

    exit_code = 3


class DetectorWarning(UserWarning):
    """Something that goes on in another way than asked; a command prints its one sentence."""


class ImageError(DetectorError):
    """A file that cannot be made into an image: missing, not an image, truncated, too large."""


class AnnotationError(DetectorError):
    """A label file that cannot be read, or whose values are impossible; `rule` is the linter's name
    for the fault (datasets/check/rules.py).
    """

    def __init__(self, message: str, rule: str = "unreadable") -> None:
        super().__init__(message)
        self.rule = rule


class DatasetError(DetectorError):
    """A data set whose layout is not the one expected, or in which nothing is usable."""


class AmbiguousName(DatasetError):
    """A name that fits several images; `candidates` are the ids of those."""

    def __init__(self, message: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class BundleError(DetectorError):
    """A trained detector on disk that is incomplete, damaged, or does not fit the code."""


class WeightsError(DetectorError):
    """Outside weights that do not fit the architecture, or that cannot be read safely."""


class ProposalError(DetectorError):
    """Stored or computed proposals that are missing, damaged, or do not fit the image."""


class CheckpointError(DetectorError):
    """A training checkpoint that cannot be loaded or does not belong to this run."""


class OtherRunError(CheckpointError):
    """A checkpoint of a run with other settings or other data."""


class FolderInUseError(DetectorError):
    """A folder of results that another run is using."""


class TrainingError(DetectorError):
    """Training that cannot go on: nothing to learn from, or too many non-finite steps in a row."""


class EvaluationError(DetectorError):
    """Results and ground truth that cannot be compared."""


class SettingsError(DetectorError):
    """An option or configuration value outside its range, or a key that does not exist."""

    exit_code = 2


# Bounds on the work as well as on the text: a foreign list may hold millions of values.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 80, 80, 40


# Most libraries raise an error of a common type and tell the reason in its text only.
_NO_MEMORY = (
    "out of memory",
    "allocate memory",
    "bad_alloc",
    "can't start new thread",
    "could not create a primitive",  # oneDNN
    "failed to map segment",  # the loader of shared libraries
)


def is_out_of_memory(error: BaseException) -> bool:
    """True where a device or the machine ran out of memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, (RuntimeError, ImportError, OSError))
        and any(text in str(error) for text in _NO_MEMORY)
    )


def brief(value: object) -> str:
    """Shorten a foreign value for a message: its repr, cut to fit a line."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
    return cut(text, 160)


def cut(text: str, most: int = 80) -> str:
    """Shorten a foreign text for a message."""
    return text if len(text) <= most else text[: most - 3] + "..."
