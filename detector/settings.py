"""Base class of all settings, manifests and headers, and the configuration file."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from detector.errors import SettingsError, brief, cut
from detector.files import write_atomically
from detector.safe_yaml import MAX_BYTES, YamlError, dump_yaml, load_yaml

Model = TypeVar("Model", bound=BaseModel)

_TENSOR_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")


def _plain_name(file: str) -> str:
    # A stranger's manifest must not lead out of its folder.
    if file and (not _TENSOR_FILE.fullmatch(file) or ".." in file):
        raise ValueError("a file of weights is a plain name that ends in .safetensors")
    return file


# A file name in the folder of its manifest; "" before it is saved.
TensorFile = Annotated[str, AfterValidator(_plain_name)]


_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_UNITS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def _in_seconds(value: Any) -> Any:
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if isinstance(value, str) and match is None:
        raise ValueError("a time is a number of seconds, or such as 90s, 10m or 2h")
    return value if match is None else float(match[1]) * _UNITS[match[2]]


# A time above 0 in seconds, which may be written as 90s, 10m or 2h.
Seconds = Annotated[float, BeforeValidator(_in_seconds), Field(gt=0)]


class Settings(BaseModel):
    """Frozen values; unknown names and non-finite numbers are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


def load_config(path: str | Path | None, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Read a configuration file (or none) and apply `room.setting=value` changes, not validated.

    Raises SettingsError.
    """
    tree: Any = {}
    if path is not None:
        try:
            with Path(path).open("rb") as file:
                # One byte more than allowed, so that a larger file is refused and not cut.
                tree = load_yaml(file.read(MAX_BYTES + 1)) or {}
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise SettingsError(f"{path}: not a YAML file of settings ({error})") from None
        if not isinstance(tree, dict):
            raise SettingsError(f"{path}: expected settings by name, found {type(tree).__name__}")
    settings: dict[str, Any] = tree
    for change in changes:
        _apply(settings, change)
    return settings


def save_config(path: Path, settings: BaseModel) -> None:
    """Write settings as YAML that load_config reads."""
    write_atomically(path, dump_yaml(settings.model_dump(mode="json", by_alias=True)))


def put(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set `room.setting` in a tree, creating a room that is missing or empty."""
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
        raise SettingsError(f"--set {cut(change)}: expected NAME=VALUE")
    try:
        value = load_yaml(text)
    except YamlError as error:
        raise SettingsError(f"--set {cut(change)}: not a YAML value ({error})") from None
    try:
        put(tree, name, value)
    except SettingsError as error:
        raise SettingsError(f"--set {cut(change)}: {error}") from None


def validate(kind: type[Model], tree: Mapping[str, Any], source: str) -> Model:
    """Validate a tree as settings of `kind`.

    Raises SettingsError that names the first fault and what was expected.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(f"{source}: {first_fault(kind, error)}") from None


def _settings_in(annotation: Any) -> Any:
    """Settings class in an annotation such as Settings, Settings | None or tuple[Settings, ...]."""
    models = [part for part in (annotation, *get_args(annotation)) if hasattr(part, "model_fields")]
    return models[0] if models else annotation


def first_fault(kind: type[BaseModel], error: ValidationError) -> str:
    """Describe the first fault in a tree of settings, with what was expected."""
    fault = error.errors()[0]
    where = ".".join(cut(str(part)) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        at: Any = kind
        for part in fault["loc"][:-1]:
            if part in getattr(at, "model_fields", {}):
                at = _settings_in(at.model_fields[str(part)].annotation)
        fields = getattr(at, "model_fields", {})
        known = [*fields]
        near = get_close_matches(str(fault["loc"][-1]), known, 1, 0.5)
        hint = f"did you mean {near[0]}? known" if near else "known"
        return f"unknown setting {where}; {hint}: {', '.join(known)}"
    reason = fault["msg"].removeprefix("Value error, ")[:300]
    if fault["type"] == "value_error" and isinstance(fault.get("input"), dict):
        return f"{where}: {reason}" if where else reason  # it names its settings itself
    return f"{where}: {reason} (found {brief(fault.get('input'))})"
