"""The networks that a manifest describes."""

from __future__ import annotations

from torch import nn

from detector.detection.bundle.manifest import MemberManifest
from detector.errors import BundleError, SettingsError
from detector.models import build_model
from detector.models.split import Trunk


def build_member(member: MemberManifest, num_outputs: int, label: str) -> nn.Module:
    """Build the network of a member. Raises BundleError, with `label`, for an unknown architecture
    or option.
    """
    try:
        return build_model(member.architecture, num_outputs, **member.options)
    except SettingsError as error:
        raise BundleError(f"{label}: {error}") from None


def tensors_of_trunk(member: MemberManifest, model: nn.Module, label: str) -> set[str]:
    """Names of the tensors that a member takes from another member's trunk; empty if it has its
    own.
    """
    if member.trunk is None:
        return set()
    try:
        return set(Trunk(model, member.trunk.after).state_dict())
    except SettingsError as error:
        raise BundleError(f"{label}: {error}") from None
