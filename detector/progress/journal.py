"""The journal of a run: one JSON object a line, appended as things happen, readable while the run
goes on.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from detector.files import write_atomically


class Journal:
    """Append-only JSONL. A line half written by a kill is cut off when the file is opened again."""

    def __init__(self, path: str | Path, *, resume_at: int | None = None) -> None:
        """With `resume_at`, entries of that step and later ones are dropped: they will be written
        again.
        """
        self.path = Path(path)
        if self.path.exists():
            kept = [one for one in read_journal(self.path) if _before(one, resume_at)]
            write_atomically(self.path, "".join(json.dumps(one) + "\n" for one in kept))
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, **fields: Any) -> None:
        """Add a line. Numbers that are not finite become null: JSON has no others."""
        fields = {name: _as_json(value) for name, value in fields.items()}
        self._file.write(json.dumps(fields, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_journal(path: str | Path) -> list[dict[str, Any]]:
    """Every whole line of a journal."""
    entries = []
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
        return {name: _as_json(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _before(entry: dict[str, Any], step: int | None) -> bool:
    return step is None or entry.get("step", -1) < step
