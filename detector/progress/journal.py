"""The journal of a run: one JSON object per line, appended as things happen, readable during the
run.
"""

import json
import math
from pathlib import Path
from typing import Any

from detector.files import write_atomically


class Journal:
    """An append-only JSONL file. A line cut short by a kill is removed when the file is opened
    again.
    """

    def __init__(self, path: str | Path, *, resume_at: int | None = None) -> None:
        """Open the journal; entries of step `resume_at` and later are dropped, since they will be
        written again.
        """
        self.path = Path(path)
        if self.path.exists():
            entries = [entry for entry in read_journal(self.path) if _before(entry, resume_at)]
            write_atomically(self.path, "".join(json.dumps(entry) + "\n" for entry in entries))
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, **fields: Any) -> None:
        """Append a line. Non-finite numbers become null, since JSON has none."""
        fields = {name: _as_json(value) for name, value in fields.items()}
        self._file.write(json.dumps(fields, allow_nan=False) + "\n")
        self._file.flush()  # readable during the run

    def close(self) -> None:
        self._file.close()


def read_journal(path: str | Path) -> list[dict[str, Any]]:
    """Every complete line of a journal."""
    entries = []
    # A kill may have cut the last line short, even within a letter.
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _before(entry: dict[str, Any], step: int | None) -> bool:
    return step is None or entry.get("step", -1) < step
