"""Configurations: a tree of the settings that live beside the parts, read from YAML, changed by
`--set room.setting=value`, checked, and saved with every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from detector.errors import SettingsError
from detector.files import write_atomically


def load_config(path: str | Path | None, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A configuration file (or nothing) with `room.setting=value` changes, not yet validated."""
    tree: Any = {}
    if path is not None:
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:150]
            raise SettingsError(f"{path}: not a YAML file ({reason})") from None
        if not isinstance(tree, dict):
            raise SettingsError(f"{path}: expected settings by name, found {type(tree).__name__}")
    for change in changes:
        _apply(tree, change)
    return tree


def save_config(path: Path, settings: BaseModel) -> None:
    """Write settings as YAML that load_config reads."""
    write_atomically(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def put(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set `room.setting` in a tree; a room that is missing or empty becomes one."""
    at = tree
    *rooms, last = name.split(".")
    for room in rooms:
        if at.get(room) is None:
            at[room] = {}
        at = at[room]
        if not isinstance(at, dict):
            raise SettingsError(f"{name}: {room} is a value, not a group of settings")
    at[last] = value


def _apply(tree: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    if not equals or not name:
        raise SettingsError(f"--set {change}: expected room.setting=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError(f"--set {change}: {text!r} is not a YAML value") from None
    try:
        put(tree, name, value)
    except SettingsError as error:
        raise SettingsError(f"--set {change}: {error}") from None


def validated(kind: type[BaseModel], tree: Mapping[str, Any], source: str) -> Any:
    """The settings of `kind`, or a SettingsError that names the first fault and what would be
    right.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(f"{source}: {_first_fault(kind, error)}") from None


def _settings_in(annotation: Any) -> Any:
    """The settings of an annotation such as Settings, Settings | None or tuple[Settings, ...]."""
    found = [one for one in (annotation, *get_args(annotation)) if hasattr(one, "model_fields")]
    return found[0] if found else annotation


def _first_fault(kind: type[BaseModel], error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        at: Any = kind
        for part in fault["loc"][:-1]:
            if part in getattr(at, "model_fields", {}):
                at = _settings_in(at.model_fields[str(part)].annotation)
        fields = getattr(at, "model_fields", {})
        known = ", ".join(one.alias or name for name, one in fields.items())
        return f"unknown setting {where}; known: {known}"
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault.get("input"), dict):
        return f"{where}: {reason}" if where else reason  # it names its settings itself
    return f"{where}: {reason} (found {fault.get('input')!r})"[:400]
