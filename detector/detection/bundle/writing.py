"""Writing of bundles. `bundle.json` is replaced last, and the other files are named by their hash,
so that at any instant, even a kill, the folder holds the old bundle or the new one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from detector.detection.bundle.card import write_card
from detector.detection.bundle.manifest import BundleManifest, MemberManifest
from detector.detection.bundle.reading import (
    MANIFEST,
    build_member,
    read_manifest,
    tensors_of_trunk,
)
from detector.detection.settings import DetectionSettings
from detector.errors import BundleError, WeightsError
from detector.files import remove_leftovers, write_atomically
from detector.heads import BoxRegression, HeadManifest, LinearScores
from detector.heads.class_examples import ClassExamples
from detector.heads.prescorer import Prescorer, PrescorerManifest, encode_prescorer
from detector.heads.stored import encode_examples, encode_head
from detector.models.weights.storage import StoredAs, encode
from detector.models.weights.tensor_files import compare_layouts, verified_bytes
from detector.settings import first_fault


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
        data = _encode_member(member, state, len(manifest.classes) + 1, owner)
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
    thresholds: DetectionSettings | None = None,
    *,
    examples: Mapping[str, ClassExamples] = MappingProxyType({}),
    remove: Sequence[str] = (),
    proposals: Mapping[str, Any] | None = None,
) -> BundleManifest:
    """Write the bundle `source` with these heads as bundle `folder`, which may be the same.

    SVMs and regression replace those of the member, and an added class the head of its name.

    examples   of added classes, by name, kept for a later fit
    remove     names of added classes to leave out
    proposals  the engine and its options; None: the bundle's
    """
    manifest = read_manifest(source)
    classes = len(manifest.network_classes)
    files: dict[str, bytes] = {}
    new: dict[tuple[str, int, str], HeadManifest] = {}
    for head, values in fitted:
        head, data = encode_head(head, values, classes)
        files[head.file] = data
        if head.name in examples:
            entry, files[entry.file] = encode_examples(examples[head.name])
            head = head.model_copy(update={"examples": entry})
        new[head.kind, head.member, head.name] = head
    replaced = {kind for kind, _, _ in new if kind != "class"}
    old = {(head.kind, head.member, head.name): head for head in manifest.heads}
    heads = tuple(head for head in (old | new).values() if head.name not in remove)
    used = thresholds or manifest.thresholds
    # What was measured holds as long as the same things are in use.
    holds = used == manifest.thresholds and not any(getattr(used, kind) for kind in replaced)
    changes = {
        "classes": manifest.network_classes + tuple(head.name for head in heads if head.name),
        "heads": heads,
        "thresholds": used,
        "proposals": manifest.proposals if proposals is None else dict(proposals),
        "metrics": manifest.metrics if holds and proposals is None else {},
    }
    return _copy(source, folder, manifest.model_copy(update=changes), files)


def save_temperatures(
    source: str | Path,
    folder: str | Path,
    temperatures: Sequence[float],
    recipe: Mapping[str, Any],
    score: float | None = None,
) -> BundleManifest:
    """Write the bundle `source` with one temperature per member as bundle `folder`, which may be
    the same.

    recipe  what they were fitted on and how, for the provenance
    score   the threshold that goes with them; None: the bundle's
    """
    manifest = _with_members(source, "temperature", temperatures)
    about = {**manifest.provenance.recipe, "temperature": dict(recipe)}
    changes: dict[str, Any] = {
        "provenance": manifest.provenance.model_copy(update={"recipe": about}),
        "metrics": {},  # they were measured with other scores
    }
    if score is not None:
        changes["thresholds"] = manifest.thresholds.model_copy(update={"score_threshold": score})
    return _copy(source, folder, manifest.model_copy(update=changes))


def save_prescorer(
    source: str | Path, folder: str | Path, network: Prescorer, about: PrescorerManifest, keep: int
) -> BundleManifest:
    """Write the bundle `source` with a pre-scorer, which keeps so many regions unless told
    otherwise, as bundle `folder`, which may be the same.
    """
    manifest = read_manifest(source)
    about, data = encode_prescorer(about, network)
    changes = {
        "prescorer": about,
        "thresholds": manifest.thresholds.model_copy(update={"prescore": keep}),
        "metrics": {},  # they were measured with other regions
    }
    return _copy(source, folder, manifest.model_copy(update=changes), {about.file: data})


def set_activation_ranges(folder: str | Path, ranges: Sequence[Mapping[str, float]]) -> None:
    """Write the members' activation ranges into a bundle; its weights stay unchanged."""
    manifest = _with_members(folder, "activation_ranges", [dict(values) for values in ranges])
    write_atomically(Path(folder) / MANIFEST, _text(manifest))
    write_card(folder, manifest)


def _with_members(source: str | Path, name: str, values: Sequence[object]) -> BundleManifest:
    """Read the manifest of a bundle and replace one setting of each member."""
    manifest = read_manifest(source)
    if len(values) != len(manifest.members):
        raise BundleError(
            f"{source}: {len(manifest.members)} members but {len(values)} values of {name}"
        )
    pairs = zip(manifest.members, values, strict=True)
    members = tuple(member.model_copy(update={name: value}) for member, value in pairs)
    return manifest.model_copy(update={"members": members})


def _copy(
    source: str | Path,
    folder: str | Path,
    manifest: BundleManifest,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> BundleManifest:
    """Write a manifest with new `files`; the others are copied from `source` as they are."""
    old = {
        entry.file: verified_bytes(Path(source), entry.file, entry.bytes, entry.sha256)
        for entry in manifest.files
        if entry.file not in files
    }
    _write(Path(folder), manifest, {**files, **old})
    return manifest


def _write(folder: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> None:
    # The old bundle's files go last, so that a kill leaves the old bundle or the new one.
    try:  # through the validator once more: what is written can be read
        text = _text(BundleManifest.model_validate(manifest.model_dump()))
    except ValidationError as error:
        raise BundleError(f"{folder}: {first_fault(BundleManifest, error)}") from None
    before = _files_of_the_bundle_in(folder)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        for file, data in files.items():
            write_atomically(folder / file, data)
            written.append(folder / file)
        write_atomically(folder / MANIFEST, text)
    except OSError as error:
        for path in written:  # a full disk is given back what was taken
            if path.name not in before:
                path.unlink(missing_ok=True)
        raise BundleError(f"{folder}: the bundle cannot be written: {error.strerror}") from error
    for file in before - files.keys():
        (folder / file).unlink(missing_ok=True)
    write_card(folder, manifest)


def _text(manifest: BundleManifest) -> str:
    """Write a manifest as JSON, without the fields of parts that the bundle does not have."""
    origin = manifest.provenance
    empty = {name for name in ("pictures", "unfinished") if not getattr(origin, name)}
    newer = ("class_agnostic_nms", "cascade", "prescore", "tile")
    unused = {name for name in newer if getattr(manifest.thresholds, name) is None}
    if "tile" in unused:
        unused.add("tile_overlap")
    excluded: dict[str, Any] = {"provenance": empty, "thresholds": unused}
    if manifest.prescorer is None:
        excluded["prescorer"] = True
    if not manifest.heads:
        excluded["heads"] = True
        unused |= {"svm", "regression"}
    elif all(head.examples is None for head in manifest.heads):
        excluded["heads"] = {"__all__": {"examples"}}
    if all(member.temperature == 1 for member in manifest.members):
        excluded["members"] = {"__all__": {"temperature"}}
    return manifest.model_dump_json(indent=2, exclude=excluded, by_alias=True) + "\n"


def _encode_member(
    member: MemberManifest,
    state: Mapping[str, Tensor],
    num_outputs: int,
    owner: Mapping[str, Tensor] | None,
) -> bytes:
    """Encode a member's file; `owner` is the state of the member whose trunk it takes."""
    from safetensors.torch import save

    label = f"member {member.architecture}"
    model = build_member(member, num_outputs, label)
    wanted = model.state_dict()
    compare_layouts(
        {name: tuple(tensor.shape) for name, tensor in state.items()},
        {name: tuple(tensor.shape) for name, tensor in wanted.items()},
        label,
    )
    if owner is not None:
        shared = tensors_of_trunk(member, model, label)
        for name in shared:
            if not torch.equal(state[name], owner[name]):
                raise BundleError(f"{label}: tensor {name} is not that of the trunk it takes")
        state = {name: tensor for name, tensor in state.items() if name not in shared}
    try:
        return save(encode(state, member.stored_as))
    except WeightsError as error:
        raise BundleError(f"{label}: {error}") from None


def _files_of_the_bundle_in(folder: Path) -> set[str]:
    try:
        manifest = read_manifest(folder)
    except BundleError:
        return set()  # none, or not ours to tidy up
    return {entry.file for entry in manifest.files} - {""}
