"""The files of a run that could not be read, and why, kept in its folder: the same command again,
which goes on or finds everything finished, names them too.
"""

from __future__ import annotations

import json
from pathlib import Path

from detector.errors import TrainingError
from detector.files import write_atomically
from detector.training.engine.distributed import Group

PATTERN = "left-out*.json"


class SkippedFiles:
    """What was left out, by file; each process writes what it finds into a file of its own."""

    def __init__(self, folder: Path, group: Group, *, resumed: bool) -> None:
        """What is known of a run that is `resumed`; what one before it left is removed."""
        of_rank = f"-{group.rank}" if group.world_size > 1 else ""
        self._path = folder / PATTERN.replace("*", of_rank)
        self._first = group.is_main
        of_others = {folder / PATTERN.replace("*", f"-{rank}") for rank in range(group.world_size)}
        self._before: dict[str, str] = {}
        self._own: dict[str, str] = {}
        for path in sorted(folder.glob(PATTERN)):
            if resumed:
                found = _read(path)
                self._before.update(found)
                if path == self._path:
                    self._own = found
            elif path == self._path or (group.is_main and path not in of_others):
                path.unlink()  # the others remove their own, before they write

    def __bool__(self) -> bool:
        return bool(self._before or self._own)

    def keep(self, found: dict[Path, str] | dict[str, str], among: str = "") -> None:
        """Write down what is new in `found`: why each file could not be read.

        among  tells files of one name apart, where there are several sets of them
        """
        now = {f"{among}{file}": why for file, why in found.copy().items()}  # batches go on failing
        new = {file: why for file, why in now.items() if file not in self._own}
        if new:
            self._own |= new
            write_atomically(self._path, json.dumps(self._own, indent=2) + "\n")

    def messages(self) -> list[str]:
        """Why, of each file, in the order of the reasons: of all that is known, for the first
        process, and for another one of what nobody had found before.
        """
        told = self._before | self._own
        if not self._first:
            told = {file: why for file, why in self._own.items() if file not in self._before}
        return sorted(told.values())


def _read(path: Path) -> dict[str, str]:
    try:
        return {str(file): str(why) for file, why in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise TrainingError(
            f"{path}: cannot be read ({error}); delete it: it lists the images that were left out"
        ) from None
