"""The proposal engines by name, as the command line and configurations call them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from detector.errors import SettingsError, brief
from detector.proposals.merge import Proposer
from detector.safe_yaml import YamlError, load_yaml
from detector.settings import Settings


class ProposalConfig(Settings):
    """The source of regions: an engine's name and its options."""

    engine: str = "selective-search"
    options: dict[str, Any] = {}


def selective_search(options: Mapping[str, Any]) -> Proposer:
    """Build our own selective search."""
    from detector.proposals.selective_search import SelectiveSearch

    return SelectiveSearch(**options)


def opencv(options: Mapping[str, Any]) -> Proposer:
    """Build OpenCV's selective search; it calls a preset `mode` and has threads of its own."""
    from detector.proposals.opencv import OpenCVSelectiveSearch

    names = {"preset": "mode"}
    arguments = {
        names.get(name, name): value for name, value in options.items() if name != "threads"
    }
    return OpenCVSelectiveSearch(**arguments)


def multibox(options: Mapping[str, Any]) -> Proposer:
    """Build MultiBox from the file `weights`; it is deterministic, so a seed is ignored."""
    from detector.proposals.multibox.predict import MultiBox

    return MultiBox(**{name: value for name, value in options.items() if name != "seed"})


def both(options: Mapping[str, Any]) -> Proposer:
    """Build the joint ranking of MultiBox and selective search; takes the options of either."""
    from detector.proposals.both import Both, split_options
    from detector.proposals.selective_search import SelectiveSearch

    threads = {"threads": options["threads"]} if "threads" in options else {}
    of_multibox, search = split_options({k: v for k, v in options.items() if k != "threads"})
    return Both(SelectiveSearch(**threads, **search), multibox({**threads, **of_multibox}))  # type: ignore[arg-type]


ENGINES: dict[str, Callable[[Mapping[str, Any]], Proposer]] = {
    "selective-search": selective_search,
    "opencv": opencv,
    "multibox": multibox,
    "both": both,
}


def parse_engine(text: str) -> tuple[str, dict[str, Any]] | None:
    """Parse NAME or NAME:SETTING=VALUE,... into a name and its settings (values are YAML).

    None where the text does not begin with an engine's name. Raises SettingsError.
    """
    name, _, settings = text.partition(":")
    if name not in ENGINES:
        return None
    options: dict[str, Any] = {}
    for pair in filter(None, settings.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"{text}: expected NAME:SETTING=VALUE,...")
        try:
            options[key] = load_yaml(value)
        except YamlError as error:
            raise SettingsError(f"{name}: the value of {brief(key)} is not YAML: {error}") from None
    return name, options


def names_a_file(text: str) -> bool:
    """True for the path of a proposal cache, where an engine or a file may be given."""
    return text.partition(":")[0] not in ENGINES and (os.sep in text or "." in text)


def build_engine(name: str, options: Mapping[str, Any]) -> Any:
    """Build a proposer by its engine's name.

    Options mean the same for every engine. Raises SettingsError for one that the engine lacks.
    """
    if name not in ENGINES:
        raise SettingsError(f"engine {name!r} is not known; choose {', '.join(ENGINES)}")
    try:
        return ENGINES[name](options)
    except (TypeError, ValueError, RuntimeError) as error:  # what no settings of its own check
        said = ", ".join(f"{key}={brief(value)}" for key, value in options.items())
        reason = " ".join(str(error).split())[:150]
        raise SettingsError(f"engine {name} cannot be made with {said}: {reason}") from error


def warm_up(name: str, announce: Callable[[str], None] | None = None) -> None:
    """Compile the kernels of the engine, so that no worker process has to.

    `announce` is called with a sentence if that is going to take a few seconds.
    """
    if name in ("selective-search", "both"):
        from detector.proposals.selective_search import warm_up as compile_kernels

        compile_kernels(announce)
