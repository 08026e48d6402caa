"""The list that `--set help` prints: each setting with its default, its limits and a sentence."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pkgutil import resolve_name
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from detector.detection.settings import DetectionSettings


def settings_table(kind: str, rooms: Mapping[str, str]) -> str:
    """The settings of the class with this dotted name, and those of further rooms."""
    named = [("", kind), *((f"{room}.", name) for room, name in rooms.items())]
    rows = [row for prefix, name in named for row in _rows(resolve_name(name), prefix)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        textwrap.fill(
            text,
            100,
            initial_indent=f"  {name:<{width}}  ",
            subsequent_indent=" " * (width + 4),
            break_on_hyphens=False,
        )
        for name, text in rows
    )


def _rows(kind: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    sentences = _sentences(kind)
    for name, field in kind.model_fields.items():
        inner = field.annotation
        # A group that is always there is entered; one that may be null is a row.
        if inspect.isclass(inner) and issubclass(inner, BaseModel):
            yield from _rows(inner, f"{prefix}{name}.")
            continue
        default = _default(field)
        if name in DetectionSettings.model_fields and name not in kind.__annotations__:
            default = "the bundle's"
        about = [_kind_and_limits(field), default and f"[{default}]", sentences.get(name, "")]
        yield prefix + name, " ".join(part for part in about if part)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _kind_and_limits(field: FieldInfo) -> str:
    limits = {
        bound: getattr(one, bound)
        for one in field.metadata
        for bound in ("ge", "gt", "le", "lt")
        if getattr(one, bound, None) is not None
    }
    words = {"ge": "at least", "gt": "over", "le": "at most", "lt": "under"}
    text = ", ".join(f"{words[bound]} {limit}" for bound, limit in limits.items())
    if limits.keys() == {"ge", "le"}:
        text = f"{limits['ge']} to {limits['le']}"
    # Such as "number, 0 to 1".
    return ", ".join(part for part in (_kind(field.annotation), text) if part)


def _kind(annotation: Any) -> str:
    names = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if get_origin(annotation) is Literal:
        return ", ".join(str(value) for value in get_args(annotation))
    parts = [one for one in get_args(annotation) if one is not NoneType]
    if parts and get_origin(annotation) not in (list, tuple, dict):
        return " or ".join(filter(None, map(_kind, parts)))
    return names.get(annotation, "path" if getattr(annotation, "__name__", "") == "Path" else "")


def _sentences(kind: type[BaseModel]) -> dict[str, str]:
    """The first sentence of the docstring below each field, inherited ones included."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):  # a class's own words win over inherited ones
        if one is BaseModel or not issubclass(one, BaseModel):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in pairwise(tree.body):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(words))),
                ):
                    first = " ".join(words.split()).partition(". ")[0].rstrip(".:")
                    found[name] = first.replace("None", "null") + "."
    return found
