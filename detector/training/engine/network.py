"""The network that a training starts from: random, a file of weights, or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from detector.crops.warp import CONTEXT, MAX_CONTEXT
from detector.errors import SettingsError
from detector.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from detector.models.weights.start import StartKind


class MemberConfig(Settings):
    """The network and its start."""

    architecture: str = "googlenet"
    """Where they are not set, this and the next two follow from `weights` (following_start)."""
    options: dict[str, Any] = {}
    input_size: int = Field(224, ge=32, le=1024)
    context: float = Field(CONTEXT, ge=0, le=MAX_CONTEXT)
    weights: str | None = None
    """A BVLC GoogLeNet or torchvision file, our own, or a bundle; None starts at random."""
    start_member: int = Field(0, ge=0)
    """Where `weights` is a bundle: which of its networks."""
    freeze: tuple[str, ...] = ()
    """Parameters whose names begin so keep their values; where it is not set, the first layers of
    the architecture (models/traits.py) if they come from `weights`. R-CNN's successors did so.
    """


def following_start(member: MemberConfig, root: str | Path = ".") -> MemberConfig:
    """The member with unset fields filled in from its start, else from its architecture.

    A start's file may hold architecture, options and input size. First layers are frozen only if
    they come from a start: frozen at random they would be useless. Raises SettingsError for an
    input size under the architecture's least.
    """
    from detector.models.traits import traits_of

    set_by_user = member.model_fields_set
    name, options, side = member.architecture, dict(member.options), None
    if member.weights is not None:
        kind = kind_of_weights(Path(root) / member.weights, member.start_member)
        if kind is not None and ("architecture" not in set_by_user or kind.architecture == name):
            name, side = kind.architecture, kind.input_size
            # What the user sets stands over what the file says.
            options = {**kind.options, **options}
    traits = traits_of(name)
    changed: dict[str, Any] = {"architecture": name, "options": options}
    if "input_size" not in set_by_user:
        changed["input_size"] = side or traits.side
    if "freeze" not in set_by_user:
        changed["freeze"] = () if member.weights is None else traits.first
    min_side, chosen = traits.min_side, changed.get("input_size", member.input_size)
    if chosen < min_side:
        raise SettingsError(f"member.input_size is {chosen}; {name} needs {min_side} or more")
    return member.model_copy(update=changed)


def kind_of_weights(path: Path, member: int = 0) -> StartKind | None:
    """The network that a file, or a member of a bundle, holds; None where it does not say."""
    from detector.detection.bundle import read_manifest
    from detector.models.weights.start import StartKind, kind_of_start

    if not path.is_dir():
        # A file has one network; build_network reports a start_member other than 0.
        return None if member else kind_of_start(path)
    members = read_manifest(path).members
    if member >= len(members):
        return None
    entry = members[member]
    return StartKind(entry.architecture, entry.options, entry.input_size)


def build_network(member: MemberConfig, num_outputs: int, root: str | Path = ".") -> nn.Module:
    """The network of a member, started from its weights if it names some. Raises SettingsError
    where they do not fit.

    The last layer is a fresh one unless a bundle with as many outputs is the start.
    """
    from detector.models import build_model
    from detector.models.weights.start import load_start

    path = None if member.weights is None else Path(root) / member.weights
    if member.start_member and (path is None or not path.is_dir()):
        raise SettingsError(
            f"member.start_member is {member.start_member}, but the start is"
            f" {path or 'random'}; give a bundle that has such a member"
        )
    if path is None:
        return build_model(member.architecture, num_outputs, **member.options)
    if path.is_dir():
        return _network_of_bundle(path, member, num_outputs)
    return load_start(path, member.architecture, num_outputs, member.options)


def _network_of_bundle(path: Path, member: MemberConfig, num_outputs: int) -> nn.Module:
    from detector.detection.bundle import load_bundle
    from detector.models import build_model
    from detector.models.weights.pretrained import replace_classifier

    bundle = load_bundle(path, members=member.start_member + 1)
    entry = bundle.manifest.members[member.start_member]
    if entry.architecture != member.architecture:
        raise SettingsError(
            f"{path} holds a {entry.architecture}, but architecture is set to {member.architecture}"
        )
    outputs = len(bundle.manifest.network_classes) + 1
    network = build_model(member.architecture, outputs, **member.options)
    try:
        network.load_state_dict(bundle.models[member.start_member].state_dict())
    except RuntimeError:
        raise SettingsError(
            f"{path} holds a network of options {entry.options or 'none'}, whose layers are others"
            f" than those of the options that are set, {member.options or 'none'}"
        ) from None
    # The start's own: its weights were trained on inputs normalised so.
    network.normalisation = entry.normalisation  # type: ignore[assignment]
    if outputs != num_outputs:
        replace_classifier(network, num_outputs)
    return network
