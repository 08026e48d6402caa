"""A file of rows: what they have in common, and what each changes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from detector.settings import Settings, load_config, validate


class RowFile(Settings):
    """The rows of a table, and `common`, from which each of them starts."""

    common: dict[str, Any] = {}
    rows: tuple[dict[str, Any], ...] = Field(min_length=1)


def read_file(path: Path, changes: Sequence[str] = ()) -> RowFile:
    """Read a YAML file; `changes` are room.setting=value in `common`. Raises SettingsError."""
    load_config(None, changes)  # complains of them by their own names
    tree = load_config(path, [f"common.{change}" for change in changes])
    return validate(RowFile, tree, str(path))
