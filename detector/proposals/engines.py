"""The proposal engines by name, as the command line and configurations call them."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detector.errors import SettingsError, brief, cut
from detector.safe_yaml import YamlError, load_yaml
from detector.settings import Settings

ENGINES = ("selective-search", "opencv", "multibox", "both")


class ProposalConfig(Settings):
    """The source of regions: an engine's name and its options."""

    engine: str = "selective-search"
    options: dict[str, Any] = {}


def parse_engine(text: str) -> tuple[str, dict[str, Any]] | None:
    """Parse NAME or NAME:SETTING=VALUE,... into a name and its settings (values are YAML).

    None where the text does not begin with an engine's name. Raises SettingsError.
    """
    name, _, settings = text.partition(":")
    if name not in ENGINES:
        return None
    pairs = [pair for pair in settings.split(",") if pair]
    return name, parse_options(pairs, f"{name}:", "NAME:SETTING=VALUE,...")


def parse_options(pairs: Sequence[str], label: str, form: str = "NAME=VALUE") -> dict[str, Any]:
    """Parse texts NAME=VALUE, the values as YAML: numbers are numbers and lists are lists.

    Raises SettingsError, whose message begins with `label` and names the `form` expected.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"{label} {cut(pair)}: expected {form}")
        try:
            options[name] = load_yaml(value)
        except YamlError as error:
            raise SettingsError(f"{label} {cut(pair)}: not a YAML value ({error})") from None
    return options


def names_a_file(text: str) -> bool:
    """True for the path of a proposal cache, where an engine or a file may be given."""
    # An engine's settings may hold a path, such as multibox:weights=FILE.
    return text.partition(":")[0] not in ENGINES and (os.sep in text or "." in text)


def build_engine(name: str, options: Mapping[str, Any]) -> Any:
    """Build a proposer by its engine's name.

    Options mean the same for every engine. Raises SettingsError for one that the engine lacks.
    """
    if name not in ENGINES:
        raise SettingsError(f"engine {name!r} is not known; choose {', '.join(ENGINES)}")
    try:
        return _build(name, dict(options))
    except (TypeError, ValueError, RuntimeError) as error:  # what no settings of its own check
        said = ", ".join(f"{key}={brief(value)}" for key, value in options.items())
        reason = " ".join(str(error).split())[:150]
        raise SettingsError(f"engine {name} cannot be made with {said}: {reason}") from error


def _build(name: str, options: dict[str, Any]) -> Any:
    # An engine's libraries take seconds to import, so each is imported where it is chosen.
    if name == "selective-search":
        from detector.proposals.selective_search import SelectiveSearch

        return SelectiveSearch(**options)
    if name == "opencv":
        from detector.proposals.opencv import OpenCVSelectiveSearch

        options.pop("threads", None)  # it has threads of its own
        return OpenCVSelectiveSearch(**options)
    if name == "multibox":
        from detector.proposals.multibox.predict import MultiBox

        options.pop("seed", None)  # nothing in it is random
        return MultiBox(**options)
    from detector.proposals.both import build_both

    return build_both(**options)


def warm_up(name: str, announce: Callable[[str], None] | None = None) -> None:
    """Compile the kernels of the engine, so that no worker process has to.

    `announce` is called with a sentence if that is going to take a few seconds.
    """
    if name in ("selective-search", "both"):
        from detector.proposals.selective_search import warm_up as compile_kernels

        compile_kernels(announce)
