"""A trained detector on disk: a folder of `bundle.json` and one safetensors file for each member
and for each head.

Nothing is believed when it is loaded: sizes and hashes come before the content, names and shapes
before the numbers, and a fault is a BundleError that names the file and the tensor.
`bundle.json` is written last and in one step, and the other files are named by their hash; so at
any instant, a kill included, the folder holds the old bundle or the new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import (
    ValidationError,
)
from torch import Tensor, nn

from detector.errors import BundleError, SettingsError, WeightsError
from detector.files import write_atomically
from detector.heads import BoxRegression, HeadManifest, Heads, LinearScores
from detector.heads.stored import encode_head, heads_of_member, load_head
from detector.manifest import BundleManifest, MemberManifest, Provenance, Thresholds
from detector.models import build_model
from detector.models.split import SharedTrunk, Trunk
from detector.models.storage import StoredAs, decode, encode, stored_layout
from detector.tensor_files import compare_layouts, layout_in_header, naming, verified_bytes

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 4 * 2**20

__all__ = [
    "Bundle",
    "BundleManifest",
    "MemberManifest",
    "Provenance",
    "SharedTrunk",
    "Thresholds",
    "load_bundle",
    "read_manifest",
    "save_bundle",
    "save_heads",
    "save_temperatures",
    "set_activation_ranges",
]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: `models[i]` is the network of `manifest.members[i]`, float32 and frozen."""

    manifest: BundleManifest
    models: tuple[nn.Module, ...]
    heads: tuple[LinearScores | BoxRegression, ...] = ()
    """Beside `manifest.heads`."""

    def heads_of(self, member: int, chosen: Sequence[HeadManifest]) -> Heads:
        """Of one member, those that are among `chosen`."""
        used = [
            (one, head)
            for one, head in zip(self.manifest.heads, self.heads, strict=True)
            if one in chosen
        ]
        return heads_of_member(member, [one for one, _ in used], [head for _, head in used])


def save_bundle(
    folder: str | Path,
    manifest: BundleManifest,
    state_dicts: Sequence[Mapping[str, Tensor]],
    precision: StoredAs | None = None,
    fitted: Sequence[tuple[HeadManifest, LinearScores | BoxRegression]] = (),
) -> BundleManifest:
    """Write a bundle, or replace the one that is there; returns the manifest as written.

    `precision` overrides how each member says it is stored, `fitted` are the networks' SVMs and box
    regression. Nothing is written if a network does not fit its architecture or has values that are
    not finite.
    """
    folder = Path(folder)
    if len(state_dicts) != len(manifest.members):
        raise BundleError(f"{len(manifest.members)} members but {len(state_dicts)} sets of weights")
    if manifest.heads:
        raise BundleError("the heads of a bundle that is saved are given beside its manifest")
    files: dict[str, bytes] = {}
    members = []
    for member, state in zip(manifest.members, state_dicts, strict=True):
        if precision is not None:
            member = member.model_copy(update={"stored_as": precision})
        owner = None if member.trunk is None else state_dicts[member.trunk.member]
        data = _encoded(member, state, len(manifest.classes) + 1, owner)
        digest = hashlib.sha256(data).hexdigest()
        file = f"{member.architecture}-{member.input_size}-{digest[:12]}.safetensors"
        files[file] = data
        members.append(
            member.model_copy(update={"file": file, "bytes": len(data), "sha256": digest})
        )
    encoded = [encode_head(head, values, len(manifest.classes)) for head, values in fitted]
    files |= {head.file: data for head, data in encoded}
    heads = tuple(head for head, _ in encoded)
    manifest = manifest.model_copy(update={"members": tuple(members), "heads": heads})
    _write(folder, manifest, files)
    return manifest


def save_heads(
    source: str | Path,
    folder: str | Path,
    fitted: Sequence[tuple[HeadManifest, LinearScores | BoxRegression]],
    thresholds: Thresholds | None = None,
) -> BundleManifest:
    """The bundle `source` with these heads as bundle `folder`, which may be the same.

    SVMs and regression take the place of those that the member had, classes are added. The
    networks' files are copied as they are.
    """
    source, folder = Path(source), Path(folder)
    manifest = read_manifest(source)
    classes = len(manifest.network_classes)
    files: dict[str, bytes] = {}
    new: list[HeadManifest] = []
    for head, values in fitted:
        head, data = encode_head(head, values, classes)
        files[head.file] = data
        new.append(head)
    replaced = {(head.kind, head.member) for head in new if head.kind != "class"}
    kept = [head for head in manifest.heads if (head.kind, head.member) not in replaced]
    entries: list[MemberManifest | HeadManifest] = [*manifest.members, *kept]
    for entry in entries:
        files[entry.file] = verified_bytes(source, entry.file, entry.bytes, entry.sha256)
    used = thresholds or manifest.thresholds
    # What was measured holds as long as the same things are in use.
    holds = used == manifest.thresholds and not any(getattr(used, kind) for kind, _ in replaced)
    manifest = manifest.model_copy(
        update={
            "classes": manifest.classes + tuple(head.name for head in new if head.name),
            "heads": (*kept, *new),
            "thresholds": used,
            "metrics": manifest.metrics if holds else {},
        }
    )
    _write(folder, manifest, files)
    return manifest


def save_temperatures(
    source: str | Path,
    folder: str | Path,
    temperatures: Sequence[float],
    recipe: Mapping[str, Any],
) -> BundleManifest:
    """The bundle `source` with these temperatures, one for each member, as another bundle `folder`.

    recipe  what they were fitted on and how, for the provenance
    """
    source, folder = Path(source), Path(folder)
    if folder.resolve() == source.resolve():
        raise BundleError(f"{folder}: is the bundle itself, which is not changed; name another")
    manifest = read_manifest(source)
    if len(temperatures) != len(manifest.members):
        raise BundleError(
            f"{source}: {len(manifest.members)} members but {len(temperatures)} temperatures"
        )
    entries: list[MemberManifest | HeadManifest] = [*manifest.members, *manifest.heads]
    files = {one.file: verified_bytes(source, one.file, one.bytes, one.sha256) for one in entries}
    about = {**manifest.provenance.recipe, "temperature": dict(recipe)}
    pairs = zip(manifest.members, temperatures, strict=True)
    manifest = manifest.model_copy(
        update={
            "members": tuple(one.model_copy(update={"temperature": t}) for one, t in pairs),
            "provenance": manifest.provenance.model_copy(update={"recipe": about}),
            "metrics": {},  # they were measured with other scores
        }
    )
    _write(folder, manifest, files)
    return manifest


def _write(folder: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> None:
    """The files, then the manifest; what the old bundle had besides goes last."""
    try:  # Through the validator once more: what is written can be read.
        text = _text(BundleManifest.model_validate(manifest.model_dump()))
    except ValidationError as error:
        raise BundleError(f"{folder}: {_first_fault(error)}") from None
    before = _files_of_the_bundle_in(folder)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            write_atomically(folder / file, data)
            written.append(folder / file)
        write_atomically(folder / MANIFEST, text)
    except OSError as error:
        for path in written:
            if path.name not in before:
                path.unlink(missing_ok=True)
        raise BundleError(f"{folder}: the bundle cannot be written: {error.strerror}") from error
    for file in before - files.keys():
        (folder / file).unlink(missing_ok=True)


def _text(manifest: BundleManifest) -> str:
    """As JSON. Nothing is said of heads and temperatures that are not there, so that older programs
    read it too.
    """
    silent: dict[str, Any] = {}
    if not manifest.heads:
        silent = {"heads": True, "thresholds": {"svm", "regression"}}
    if all(member.temperature == 1 for member in manifest.members):
        silent["members"] = {"__all__": {"temperature"}}
    return manifest.model_dump_json(indent=2, exclude=silent) + "\n"


def set_activation_ranges(folder: str | Path, ranges: Sequence[Mapping[str, float]]) -> None:
    """Write the members' activation ranges into a bundle; its weights stay as they are."""
    manifest = read_manifest(folder)
    if len(ranges) != len(manifest.members):
        raise BundleError(f"{folder}: {len(manifest.members)} members but {len(ranges)} ranges")
    members = tuple(
        member.model_copy(update={"activation_ranges": dict(one)})
        for member, one in zip(manifest.members, ranges, strict=True)
    )
    manifest = manifest.model_copy(update={"members": members})
    write_atomically(Path(folder) / MANIFEST, _text(manifest))


def _encoded(
    member: MemberManifest,
    state: Mapping[str, Tensor],
    num_outputs: int,
    owner: Mapping[str, Tensor] | None,
) -> bytes:
    """The file of a member; `owner` is the state of the one whose trunk it takes."""
    from safetensors.torch import save

    label = f"member {member.architecture}"
    model = _build(member, num_outputs, label)
    wanted = model.state_dict()
    compare_layouts(
        {name: tuple(tensor.shape) for name, tensor in state.items()},
        {name: tuple(tensor.shape) for name, tensor in wanted.items()},
        label,
    )
    if owner is not None:
        shared = _of_trunk(member, model, label)
        for name in shared:
            if not torch.equal(state[name], owner[name]):
                raise BundleError(f"{label}: tensor {name} is not that of the trunk it takes")
        state = {name: tensor for name, tensor in state.items() if name not in shared}
    try:
        return save(encode(state, member.stored_as))
    except WeightsError as error:
        raise BundleError(f"{label}: {error}") from None


def _of_trunk(member: MemberManifest, model: nn.Module, label: str) -> set[str]:
    """Names of the tensors that a member takes from another; none where it takes none."""
    if member.trunk is None:
        return set()
    try:
        return set(Trunk(model, member.trunk.after).state_dict())
    except SettingsError as error:
        raise BundleError(f"{label}: {error}") from None


def _files_of_the_bundle_in(folder: Path) -> set[str]:
    if not (folder / MANIFEST).is_file():
        return set()
    try:
        manifest = read_manifest(folder)
        files = [one.file for one in manifest.members] + [head.file for head in manifest.heads]
        return {file for file in files if file}
    except BundleError:
        return set()  # not ours to tidy up


def read_manifest(folder: str | Path) -> BundleManifest:
    """`bundle.json` of a folder, checked by itself; no weights are read."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder}: no {MANIFEST} in it; give the folder of a saved bundle")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{path}: larger than {MAX_MANIFEST_BYTES} bytes, not a bundle's manifest"
        )
    try:
        text = path.read_text(encoding="utf-8")
        version = json.loads(text)["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: not a bundle's manifest ({type(error).__name__})") from None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format version {version!r}; this program reads {FORMAT_VERSION}, "
            "so update it or save the bundle again"
        )
    try:
        return BundleManifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"{path}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}"


def load_bundle(folder: str | Path, members: int | None = None) -> Bundle:
    """The bundle in `folder`, verified; only its first `members` networks if a number is given."""
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
    with torch.device("meta"):  # a few words of a manifest may describe gigabytes
        plan = _build(member, num_outputs, str(path))
    shared = _of_trunk(member, plan, str(path))
    own = {name: value for name, value in plan.state_dict().items() if name not in shared}
    wanted = stored_layout(own, member.stored_as)
    compare_layouts(layout_in_header(data, str(path)), wanted, str(path))
    model = _build(member, num_outputs, str(path))
    from safetensors.torch import load

    with naming(str(path)):
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


def _build(member: MemberManifest, num_outputs: int, label: str) -> nn.Module:
    try:
        return build_model(member.architecture, num_outputs, **member.options)
    except SettingsError as error:
        raise BundleError(f"{label}: {error}") from None
