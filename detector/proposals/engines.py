"""The proposal engines by name, as the command line and configurations call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from detector.errors import SettingsError
from detector.proposals import coding
from detector.proposals.merge import Proposer


def selective_search(options: Mapping[str, Any]) -> Proposer:
    """Ours."""
    from detector.proposals.selective_search import SelectiveSearch

    return SelectiveSearch(**options)


def opencv(options: Mapping[str, Any]) -> Proposer:
    """OpenCV's, which has a `mode` for a preset, and threads of its own."""
    from detector.proposals.opencv import OpenCVSelectiveSearch

    names = {"preset": "mode"}
    kept = {names.get(name, name): value for name, value in options.items() if name != "threads"}
    return OpenCVSelectiveSearch(**kept)


ENGINES: dict[str, Callable[[Mapping[str, Any]], Proposer]] = {
    "selective-search": selective_search,
    "opencv": opencv,
}


def build_engine(name: str, options: Mapping[str, Any]) -> Any:
    """A proposer by name. Options mean the same for every engine; one it lacks is an error."""
    if name not in ENGINES:
        raise SettingsError(f"engine {name!r} is not known; choose {', '.join(ENGINES)}")
    return ENGINES[name](options)


def warm_up(name: str, announce: Callable[[str], None] | None = None) -> None:
    """Compile what the engine and the cache need, so that no worker has to.

    `announce` is told, in a sentence, if that is going to take a few seconds.
    """
    if name == "selective-search":
        from detector.proposals.selective_search import warm_up as compile_kernels

        compile_kernels(announce)
    coding.warm_up()
