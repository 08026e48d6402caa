"""Reading of bundles: sizes and hashes are checked before the content, names and shapes before
values.

Raises BundleError that names the file and the tensor.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from pydantic import ValidationError
from torch import nn

from detector.detection.bundle.manifest import BundleManifest, MemberManifest
from detector.errors import BundleError, SettingsError, WeightsError, brief
from detector.heads import BoxRegression, HeadManifest, Heads, LinearScores
from detector.heads.stored import heads_of_member, load_head
from detector.models import build_model
from detector.models.split import Trunk
from detector.models.weights.storage import decode, stored_layout
from detector.models.weights.tensor_files import (
    compare_layouts,
    layout_in_header,
    name_file_in_errors,
    verified_bytes,
)
from detector.settings import first_fault

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 4 * 2**20


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: `models[i]` is the network of `manifest.members[i]`, float32 and frozen."""

    manifest: BundleManifest
    models: tuple[nn.Module, ...]
    heads: tuple[LinearScores | BoxRegression, ...] = ()  # beside `manifest.heads`

    def heads_of(self, member: int, chosen: Sequence[HeadManifest]) -> Heads:
        """The heads of one member among `chosen`."""
        used = [
            (one, head)
            for one, head in zip(self.manifest.heads, self.heads, strict=True)
            if one in chosen
        ]
        return heads_of_member(member, [one for one, _ in used], [head for _, head in used])


def read_manifest(folder: str | Path) -> BundleManifest:
    """Read and check `bundle.json` of a folder without its weights. Raises BundleError."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder}: no {MANIFEST} in it; give the folder of a saved bundle")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{path}: larger than {MAX_MANIFEST_BYTES} bytes, not a bundle's manifest"
        )
    try:
        text = path.read_text(encoding="utf-8")
        # Before the rest, so that a newer format is not reported as an unknown setting.
        version = json.loads(text)["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: not a bundle's manifest ({type(error).__name__})") from None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format version {brief(version)}; this program reads {FORMAT_VERSION}, "
            "so update it or save the bundle again"
        )
    try:
        return BundleManifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"{path}: {first_fault(BundleManifest, error)}") from None


def load_bundle(folder: str | Path, members: int | None = None) -> Bundle:
    """Load and verify the bundle in `folder`; only its first `members` networks if a number is
    given. Raises BundleError, or SettingsError for more members than it has.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if members is not None:
        if not 1 <= members <= len(manifest.members):
            raise SettingsError(
                f"{folder}: {members} of its members were asked for; it has {len(manifest.members)}"
            )
        heads = tuple(head for head in manifest.heads if head.member < members)
        chosen = {"members": manifest.members[:members], "heads": heads}
        manifest = manifest.model_copy(update=chosen)
    classes = len(manifest.network_classes)
    models: list[nn.Module] = []
    for member in manifest.members:
        models.append(_load_member(folder, member, classes + 1, models))
    features = [
        cast("nn.Linear", model.get_submodule("classifier")).in_features for model in models
    ]
    fitted = [load_head(folder, one, classes, features[one.member]) for one in manifest.heads]
    return Bundle(manifest, tuple(models), tuple(fitted))


def _load_member(
    folder: Path, member: MemberManifest, num_outputs: int, before: Sequence[nn.Module]
) -> nn.Module:
    path = folder / member.file
    data = verified_bytes(folder, member.file, member.bytes, member.sha256)
    # Planned without memory: a few words of a hostile manifest may describe gigabytes.
    with torch.device("meta"):
        plan = build_member(member, num_outputs, str(path))
    shared = tensors_of_trunk(member, plan, str(path))
    own = {name: value for name, value in plan.state_dict().items() if name not in shared}
    wanted = stored_layout(own, member.stored_as)
    compare_layouts(layout_in_header(data, str(path)), wanted, str(path))
    model = build_member(member, num_outputs, str(path))
    from safetensors.torch import load

    with name_file_in_errors(str(path)):
        stored = load(data)
    for name, tensor in stored.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BundleError(f"{path}: tensor {name} has values that are not finite")
    try:
        own = decode(stored, str(path))
    except WeightsError as error:
        raise BundleError(str(error)) from None
    theirs = before[member.trunk.member].state_dict() if member.trunk else {}
    model.load_state_dict({**own, **{name: theirs[name] for name in shared}})
    return model.eval().requires_grad_(False)


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
