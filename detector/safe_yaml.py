"""The YAML reader for foreign data.yaml files, configurations, and values on the command line.

PyYAML's safe loader, with limits on time and memory, and with the plain values of YAML 1.2: true,
null and numbers as in JSON, all else is text as it is written, so that classes may be called on,
no, 007 or 2024-01-01.
"""

import codecs
import re
from typing import Any, cast

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from detector.errors import brief, cut

MAX_BYTES = 1_000_000
MAX_DEPTH = 32  # PyYAML composes and constructs by recursion
# Limit of characters and values after aliases are expanded; no file of MAX_BYTES without aliases
# comes near it.
MAX_EXPANDED = 2_000_000

_CORE = "tag:yaml.org,2002:"


_SURROGATES = re.compile("[\ud800-\udfff]")
# Rules of the linter for faults that libyaml finds, by its own words for them.
_RULES = {
    "exceeded maximum nesting depth": "too-deep",
    "found invalid Unicode character escape code": "not-utf8",
}


class YamlError(ValueError):
    """Text that is no YAML, or exceeds a limit; `rule` is the linter's name for the fault.

    The message is one short line.
    """

    def __init__(self, message: str, rule: str = "unreadable") -> None:
        super().__init__(message)
        self.rule = rule


def load_yaml(source: bytes | str) -> Any:
    """Parse a YAML file or value into None, bool, int, float, str, list and dict.

    Raises YamlError.
    """
    if len(source) > MAX_BYTES:
        size = f"{len(source) / 1e6:,.1f} MB is over the limit of {MAX_BYTES / 1e6:,.1f} MB"
        raise YamlError(size, "too-large")
    text = source if isinstance(source, str) else _decode(source)
    _refuse_surrogates(text)
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        at: Any = error.problem_mark
        where = f"line {at.line + 1}: " if at is not None else ""
        problem = str(error.problem or error.context or "malformed")
        rule = _RULES.get(problem, "unreadable")
        raise YamlError(where + _short(problem), rule) from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise YamlError(_short(str(error)[:1000]) or type(error).__name__) from None
    finally:
        if loader is not None:
            loader.dispose()


def dump_yaml(value: Any) -> str:
    """Write YAML that load_yaml and readers of YAML 1.1 read as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def _decode(data: bytes) -> str:
    # UTF-16 with a byte-order mark is what PowerShell writes.
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlError(f"byte {error.start} is not UTF-8", "not-utf8") from None


def _refuse_surrogates(text: str) -> None:
    if not text.isascii() and _SURROGATES.search(text):
        raise YamlError("holds text that is not Unicode (half of a surrogate pair)", "not-utf8")


def _short(text: str) -> str:
    return cut(" ".join(text.split()), 120)


class _PlainValues(BaseResolver):
    """Resolver of YAML 1.2; hexadecimal, octal, leading zeros, 1_000, 12:30 and dates stay text."""


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),  # \0: PyYAML looks up an empty value under ""
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
):
    firsts = ["" if character == "\0" else character for character in _first]
    _PlainValues.add_implicit_resolver(_CORE + _tag, re.compile(rf"(?:{_pattern})\Z"), firsts)


# Only where PyYAML was built without libyaml, which is ten times as fast.
class _PurePython(Reader, Scanner, Parser):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


# In PyYAML's Python code also over libyaml's parser, so that depth, size and repeated keys are
# checked before the values are made.
class _Watched(Composer):
    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._expanded = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[attr-defined]  # of the parser beside it
        before = self._expanded
        if isinstance(event, yaml.AliasEvent):
            anchor, mark = str(event.anchor), cast("yaml.Mark", event.start_mark)
            if anchor in self.anchors and anchor not in self._sizes:
                raise YamlError(f"line {mark.line + 1}: an alias stands inside itself")
            # An alias costs what it stands for: aliases of aliases make gigabytes of a kilobyte.
            self._grow(self._sizes.get(anchor, 0))
        else:
            value = getattr(event, "value", "")
            _refuse_surrogates(value)  # written as an escape, where libyaml is not there to refuse
            self._grow(1 + len(value))
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise YamlError(f"nested over {MAX_DEPTH} levels deep", "too-deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[event.anchor] = self._expanded - before
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError(f"line {line}: a list or mapping as a key")
            if (key.tag, key.value) in keys:
                raise YamlError(f"line {line}: {brief(key.value)} is given twice")
            keys.add((key.tag, key.value))
        return node

    def _grow(self, by: int) -> None:
        self._expanded += by
        if self._expanded > MAX_EXPANDED:
            raise YamlError(
                f"its aliases repeat more than {MAX_EXPANDED:,} characters and values", "too-large"
            )


def _loader_on(parser: Any) -> Any:
    class Loader(_Watched, parser, SafeConstructor, _PlainValues):  # type: ignore[misc]
        def __init__(self, text: str) -> None:
            parser.__init__(self, text)
            _Watched.__init__(self)
            SafeConstructor.__init__(self)
            _PlainValues.__init__(self)

    return Loader


_Loader = _loader_on(getattr(getattr(yaml, "cyaml", None), "CParser", _PurePython))


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes text of YAML 1.1 that is a number here, such as 1e5."""


for _firsts, _resolvers in _PlainValues.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_firsts])
