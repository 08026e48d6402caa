"""A trained detector on disk: a folder of `bundle.json` and one safetensors file for each member.

Nothing is believed when it is loaded: sizes and hashes come before the content, names and shapes
before the numbers, and a fault is a BundleError that names the file and the tensor.
`bundle.json` is written last and in one step, and member files are named by their hash; so at any
instant, a kill included, the folder holds the old bundle or the new one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor, nn

from detector.errors import BundleError, SettingsError, WeightsError
from detector.files import write_atomically
from detector.models import build_model
from detector.models.normalisation import CENTRED, Normalisation, Triple
from detector.models.storage import StoredAs, decode, encode, stored_layout

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 4 * 2**20
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MemberManifest(_Entry):
    """One network. `file`, `bytes` and `sha256` are filled in by `save_bundle`."""

    architecture: str
    options: dict[str, bool | int | float | str] = {}
    input_size: int = Field(default=224, ge=16, le=2048)
    context: float = Field(default=16 / 227, ge=0, lt=0.5)
    """Share of the crop's side that lies around the region, on each side (R-CNN's 16 of 227)."""
    mean: Triple = CENTRED.mean
    std: Triple = CENTRED.std
    activation_ranges: dict[str, float] = {}
    """For 8-bit inference (models/quantised.py); empty where they were not measured."""
    stored_as: StoredAs = "float16"
    file: str = ""
    bytes: int = Field(default=0, ge=0)
    sha256: str = ""

    @field_validator("std")
    @classmethod
    def _positive(cls, std: Triple) -> Triple:
        if min(std) <= 0:
            raise ValueError("every std must be above 0")
        return std

    @field_validator("file")
    @classmethod
    def _plain_name(cls, file: str) -> str:
        if file and (not _FILE_NAME.fullmatch(file) or ".." in file):
            raise ValueError("a member file is a plain name that ends in .safetensors")
        return file

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(self.mean, self.std)


class Thresholds(_Entry):
    """What becomes a detection, unless the caller says otherwise."""

    score: float = Field(default=0.05, ge=0, le=1)
    nms: float = Field(default=0.3, ge=0, le=1)
    voting: float | None = Field(default=None, gt=0, le=1)
    """IoU of box voting (pipeline.DetectionSettings.voting_iou); None is off."""
    max_detections: int = Field(default=100, ge=1)


class Provenance(_Entry):
    """Where the weights come from, and what may be done with them."""

    training_data: str
    licence: str
    started_from: str = "random initialisation"
    recipe: dict[str, Any] = {}


class BundleManifest(_Entry):
    """All of a bundle but the numbers. Background is not named: it is index K of the outputs."""

    format_version: Literal[1] = 1
    classes: tuple[str, ...] = Field(min_length=1, max_length=100_000)
    members: tuple[MemberManifest, ...] = Field(min_length=1, max_length=1000)
    proposals: dict[str, Any] = {}
    thresholds: Thresholds = Thresholds()
    provenance: Provenance
    metrics: dict[str, float] = {}

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes) or not all(name.strip() for name in classes):
            raise ValueError("class names must be distinct and not empty")
        return classes


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: `models[i]` is the network of `manifest.members[i]`, float32 and frozen."""

    manifest: BundleManifest
    models: tuple[nn.Module, ...]


def save_bundle(
    folder: str | Path,
    manifest: BundleManifest,
    state_dicts: Sequence[Mapping[str, Tensor]],
    precision: StoredAs | None = None,
) -> BundleManifest:
    """Write a bundle, or replace the one that is there; returns the manifest as written.

    `precision` overrides how each member says it is stored. Nothing is written if a network does
    not fit its architecture or has values that are not finite.
    """
    folder = Path(folder)
    if len(state_dicts) != len(manifest.members):
        raise BundleError(f"{len(manifest.members)} members but {len(state_dicts)} sets of weights")
    files: dict[str, bytes] = {}
    members = []
    for member, state in zip(manifest.members, state_dicts, strict=True):
        if precision is not None:
            member = member.model_copy(update={"stored_as": precision})
        data = _encoded(member, state, len(manifest.classes) + 1)
        digest = hashlib.sha256(data).hexdigest()
        file = f"{member.architecture}-{member.input_size}-{digest[:12]}.safetensors"
        files[file] = data
        members.append(
            member.model_copy(update={"file": file, "bytes": len(data), "sha256": digest})
        )
    manifest = manifest.model_copy(update={"members": tuple(members)})
    # Through the validator once more: what is written can be read.
    text = BundleManifest.model_validate(manifest.model_dump()).model_dump_json(indent=2) + "\n"
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
    return manifest


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
    write_atomically(Path(folder) / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def _encoded(member: MemberManifest, state: Mapping[str, Tensor], num_outputs: int) -> bytes:
    from safetensors.torch import save

    label = f"member {member.architecture}"
    wanted = _build(member, num_outputs, label).state_dict()
    _compare(
        {name: tuple(tensor.shape) for name, tensor in state.items()},
        {name: tuple(tensor.shape) for name, tensor in wanted.items()},
        label,
    )
    try:
        return save(encode(state, member.stored_as))
    except WeightsError as error:
        raise BundleError(f"{label}: {error}") from None


def _files_of_the_bundle_in(folder: Path) -> set[str]:
    if not (folder / MANIFEST).is_file():
        return set()
    try:
        return {member.file for member in read_manifest(folder).members if member.file}
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
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BundleError(f"{path}: {where}: {fault['msg']}") from None


def load_bundle(folder: str | Path, members: int | None = None) -> Bundle:
    """The bundle in `folder`, verified; only its first `members` networks if a number is given."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    if members is not None:
        if not 1 <= members <= len(manifest.members):
            raise BundleError(f"{folder}: has {len(manifest.members)} members, not {members}")
        manifest = manifest.model_copy(update={"members": manifest.members[:members]})
    outputs = len(manifest.classes) + 1
    models = tuple(_load_member(folder, member, outputs) for member in manifest.members)
    return Bundle(manifest, models)


def _load_member(folder: Path, member: MemberManifest, num_outputs: int) -> nn.Module:
    path = folder / member.file
    data = _verified_bytes(path, member)
    model = _build(member, num_outputs, str(path))
    wanted = stored_layout(model.state_dict(), member.stored_as)
    _compare(_layout_in_header(data, str(path)), wanted, str(path))
    from safetensors.torch import load

    stored = load(data)
    for name, tensor in stored.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BundleError(f"{path}: tensor {name} has values that are not finite")
    model.load_state_dict(decode(stored))
    return model.eval().requires_grad_(False)


def _verified_bytes(path: Path, member: MemberManifest) -> bytes:
    if not member.file or not path.is_file():
        raise BundleError(f"{path}: missing; the bundle is incomplete, copy it again")
    size = path.stat().st_size
    if size != member.bytes:
        raise BundleError(f"{path}: {size} bytes, expected {member.bytes}; copy the bundle again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != member.sha256:
        raise BundleError(f"{path}: its SHA-256 is not the manifest's; copy the bundle again")
    return data


def _build(member: MemberManifest, num_outputs: int, label: str) -> nn.Module:
    try:
        return build_model(member.architecture, num_outputs, **member.options)
    except SettingsError as error:
        raise BundleError(f"{label}: {error}") from None


def _layout_in_header(data: bytes, label: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes by the file's own header, before any tensor is made of it."""
    known = {"F32", "F16", "I8", "I64"}
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        kinds = {name: entry["dtype"] for name, entry in header.items()}
        layout = {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(f"{label}: not a safetensors file") from None
    for name, kind in kinds.items():
        if kind not in known:
            raise BundleError(f"{label}: tensor {name} is stored as {kind}, expected {known}")
    return layout


def _compare(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], label: str
) -> None:
    for name, shape in wanted.items():
        if name not in found:
            raise BundleError(f"{label}: tensor {name} is missing")
        if found[name] != shape:
            raise BundleError(f"{label}: tensor {name} has shape {found[name]}, expected {shape}")
    for name in found:
        if name not in wanted:
            raise BundleError(f"{label}: tensor {name} does not belong to the architecture")
