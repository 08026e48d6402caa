"""The inputs of a detection, looked at before anything is loaded, and what becomes of each."""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import typer

from detector.errors import ImageError
from detector.images.decoding import check_start, read_image
from detector.images.paths import image_ids, image_paths, output_names, possible_ids
from detector.progress.messages import say


@dataclass
class Record:
    """One input and what became of it; `rows` is None until it has been looked at."""

    path: Path
    image_id: str
    picture: str
    size: tuple[int, int] | None = None
    raw_size: tuple[int, int] | None = None
    orientation: int | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    proposals: int | None = None
    seconds: float | None = None
    rows: list[dict[str, Any]] | None = None
    content: str | None = None  # hash of the file's bytes
    regions: str | None = None  # hash of the proposals that were given

    @property
    def waits(self) -> bool:
        return self.rows is None and self.error is None

    def fail(self, error: Exception) -> None:
        self.error = str(error)
        say(f"error: {error}")

    def describe(self) -> dict[str, Any]:
        """The record as run.json holds it."""
        return {
            "image_id": self.image_id,
            "file": str(self.path),
            "picture": self.picture if self.rows is not None else None,
            "size": self.size,
            "raw_size": self.raw_size,
            "orientation": self.orientation,
            "warnings": list(self.warnings),
            "error": self.error,
            "proposals": self.proposals,
            "detections": None if self.rows is None else len(self.rows),
            "seconds": self.seconds,
        }

    def done(self) -> dict[str, Any]:
        """Fields that the run needs again after an interruption."""
        return {one: getattr(self, one) for one in _DONE} | {"file_name": self.path.name}

    def restore(self, done: dict[str, Any]) -> None:
        """Restore what `done` gave."""
        for name in _DONE:
            value = done[name]
            setattr(self, name, tuple(value) if name in _TUPLES and value is not None else value)


_DONE = tuple(one.name for one in fields(Record) if one.name not in ("path", "error"))
_TUPLES = ("size", "raw_size", "warnings")  # JSON gives them back as lists


def records_of(images: list[str], out: Path, quiet: bool) -> tuple[list[Record], int]:
    """Records of the images that the arguments name, and the number of arguments that name none.

    What is wrong with either, and how many files of a folder are passed over, is said at once.
    """
    if "" in images:
        raise typer.BadParameter("an empty name is no image; . is the current folder")
    missed: list[str] = []
    skipped: list[str] = []
    # With `out`, since pictures of an earlier run may lie among the images.
    paths = image_paths(images, sys.stdin, missed, out, skipped)
    for message in missed:
        say(f"error: {message}")
    for message in () if quiet else skipped:
        say(f"note: {message}")
    ids = image_ids(paths)
    names = output_names(ids, ".jpg")
    records = [Record(*one) for one in zip(paths, ids, names, strict=True)]
    for record in records:
        try:
            # Only the first bytes, before seconds of loading: the rest is read when its turn comes.
            check_start(record.path)
        except ImageError as error:
            record.fail(error)
    _name(records)
    return records, len(missed)


# Ids of the images that can be read, among themselves: neither a file that cannot be read nor the
# moment of an interruption renames one. So those that might share a name are read now.
def _name(records: Iterable[Record]) -> None:
    times = Counter(one for record in records for one in set(possible_ids(record.path)))
    for record in records:
        if record.waits and any(times[one] > 1 for one in possible_ids(record.path)):
            try:
                read_image(record.path)
            except ImageError as error:
                record.fail(error)
    readable = [record for record in records if record.waits]
    for record, one in zip(readable, image_ids([one.path for one in readable]), strict=True):
        record.image_id = one


def keep_inputs(out: Path, records: list[Record]) -> None:
    """Refuse an annotated picture in the place of one of the pictures given."""
    inputs = {place(record.path): record.path for record in records}
    for record in records:
        written = out / record.picture
        given = inputs.get(place(written))
        if given is not None:
            raise typer.BadParameter(
                f"the annotated picture {written} would replace {given}; give another --out"
            )


def place(path: Path) -> object:
    """Identity of a file: equal for two names of one."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return str(path)
    return found.st_dev, found.st_ino
