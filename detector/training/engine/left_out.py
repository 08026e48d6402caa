"""Files of a run that could not be read, with the reason, recorded in its folder.

The same command run again, whether it resumes or finds everything finished, names them too.
"""

import json
from pathlib import Path

from detector.errors import TrainingError
from detector.files import write_atomically
from detector.training.engine.distributed import Group

PATTERN = "left-out*.json"


class SkippedFiles:
    """Skipped files with their reasons; each process writes its own into a file of its own."""

    def __init__(self, folder: Path, group: Group, *, resumed: bool) -> None:
        """Read what a `resumed` run has recorded; a new run removes the records of the one before
        it.
        """
        of_rank = f"-{group.rank}" if group.world_size > 1 else ""
        self._path = folder / PATTERN.replace("*", of_rank)
        self._first = group.is_main
        of_others = {folder / PATTERN.replace("*", f"-{rank}") for rank in range(group.world_size)}
        # Of a file recorded before only the main process speaks: each is named once.
        self._before: dict[str, str] = {}
        self._own: dict[str, str] = {}
        for path in sorted(folder.glob(PATTERN)):
            if resumed:
                recorded = _read(path)
                self._before.update(recorded)
                if path == self._path:
                    self._own = recorded
            elif path == self._path or (group.is_main and path not in of_others):
                path.unlink()  # the others remove their own, before they write

    def __bool__(self) -> bool:
        return bool(self._before or self._own)

    def record(self, failures: dict[Path, str] | dict[str, str], among: str = "") -> None:
        """Record the files of `failures` (file -> reason) that are new.

        among  a prefix that tells files of one name in different sets apart
        """
        # A copy: threads that make the next batches go on adding to it.
        current = {f"{among}{file}": why for file, why in failures.copy().items()}
        new = {file: why for file, why in current.items() if file not in self._own}
        if new:
            self._own |= new
            write_atomically(self._path, json.dumps(self._own, indent=2) + "\n")

    def messages(self) -> list[str]:
        """The reasons, sorted: of all files on the main process, and of files that nobody had
        recorded before on the others.
        """
        reasons = self._before | self._own
        if not self._first:
            reasons = {file: why for file, why in self._own.items() if file not in self._before}
        return sorted(reasons.values())


def _read(path: Path) -> dict[str, str]:
    try:
        return {str(file): str(why) for file, why in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise TrainingError(
            f"{path}: cannot be read ({error}); delete it: it lists the images that were left out"
        ) from None
