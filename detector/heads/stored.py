"""Stored heads: one safetensors file each, verified as the networks' files are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from detector.errors import BundleError
from detector.heads.class_examples import ClassExamples, Described
from detector.heads.linear import BoxRegression, ClassHead, Heads, LinearScores
from detector.models.weights.tensor_files import (
    Layout,
    compare_layouts,
    layout_in_header,
    name_file_in_errors,
    verified_bytes,
)
from detector.settings import Settings, TensorFile


class ExamplesManifest(Settings):
    """File of the examples that an added class was fitted on."""

    file: TensorFile
    bytes: int = Field(ge=0)
    sha256: str


class HeadManifest(Settings):
    """Manifest of a head; saving fills in `file`, `bytes`, `sha256` and `examples`."""

    kind: Literal["svm", "regression", "class"]
    """SVMs or box regression of the network's own classes, or one new class."""
    member: int = Field(default=0, ge=0)
    """Number of the ensemble's member whose features it uses."""
    name: str = ""
    """Name of the class, where `kind` is "class"."""
    recipe: dict[str, Any] = {}
    """Data and settings of the fit."""
    file: TensorFile = ""
    bytes: int = Field(default=0, ge=0)
    sha256: str = ""
    examples: ExamplesManifest | None = None
    """Of an added class, for a later fit with more of them."""

    @model_validator(mode="after")
    def _named_if_a_class(self) -> HeadManifest:
        if bool(self.name) != (self.kind == "class"):
            raise ValueError('a head of kind "class" has a name, no other has')
        if self.kind == "class" and self.member:
            raise ValueError("added classes are on member 0, which is always in use")
        return self


def encode_head(
    head: HeadManifest, fitted: LinearScores | BoxRegression, classes: int
) -> tuple[HeadManifest, bytes]:
    """Encode a head: its manifest with the file's name, and the file's bytes.

    classes  K of the network

    Raises BundleError for a head that could not be loaded.
    """
    from safetensors.numpy import save

    tensors = {
        name: np.ascontiguousarray(getattr(fitted, name), np.float32)
        for name in fitted.__dataclass_fields__
    }
    label = f"{head.kind} of member {head.member}"
    # Nothing is written that could not be loaded.
    layout = {name: values.shape for name, values in tensors.items()}
    compare_layouts(layout, _layout(head, classes, fitted.weight.shape[1]), label)
    _check_values(tensors, label)
    data = save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    # Named by its hash, so that it never replaces a head of the bundle that is still there.
    file = f"{head.kind}-{head.member}-{digest[:12]}.safetensors"
    return head.model_copy(update={"file": file, "bytes": len(data), "sha256": digest}), data


def load_head(
    folder: Path, head: HeadManifest, classes: int, features: int
) -> LinearScores | BoxRegression:
    """Load a head for a network of so many classes and features. Raises BundleError."""
    from safetensors.numpy import load

    data = verified_bytes(folder, head.file, head.bytes, head.sha256)
    label = str(folder / head.file)
    # By the header alone: a stranger's shapes are refused before memory is taken for them.
    compare_layouts(layout_in_header(data, label), _layout(head, classes, features), label)
    with name_file_in_errors(label):
        tensors = load(data)
    _check_values(tensors, label)
    kinds = {"svm": LinearScores, "regression": BoxRegression, "class": ClassHead}
    return kinds[head.kind](**tensors)


def encode_examples(examples: ClassExamples) -> tuple[ExamplesManifest, bytes]:
    """Encode the examples of a class in half precision: the manifest, and the file's bytes."""
    from safetensors.numpy import save

    background = examples.first.joined(examples.second)
    tensors = {}
    for name, part in (("positives", examples.positives), ("background", background)):
        tensors[name] = np.ascontiguousarray(part.features, np.float16)
        tensors[f"{name}_image"] = np.ascontiguousarray(part.image, np.int64)
    tensors["deltas"] = np.ascontiguousarray(examples.deltas, np.float32)
    data = save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    file = f"examples-{digest[:12]}.safetensors"
    return ExamplesManifest(file=file, bytes=len(data), sha256=digest), data


def load_examples(folder: Path, entry: ExamplesManifest, features: int) -> ClassExamples:
    """Load the examples of a class for a network of so many features. Raises BundleError."""
    from safetensors.numpy import load

    data = verified_bytes(folder, entry.file, entry.bytes, entry.sha256)
    label = str(folder / entry.file)
    layout = layout_in_header(data, label)
    wanted: dict[str, tuple[int, ...]] = {}
    for name in ("positives", "background"):
        count = layout.get(name, (0,))[0]
        wanted |= {name: (count, features), f"{name}_image": (count,)}
    wanted["deltas"] = (layout.get("positives", (0,))[0], 4)
    compare_layouts(layout, wanted, label)
    with name_file_in_errors(label):
        tensors = load(data)
    parts = []
    for name in ("positives", "background"):
        values, image = tensors[name].astype(np.float32), tensors[f"{name}_image"]
        if not np.isfinite(values).all() or image.min(initial=0) < 0:
            raise BundleError(f"{label}: tensor {name} has values that no examples have")
        parts.append(Described(values, image))
    if not np.isfinite(tensors["deltas"]).all():
        raise BundleError(f"{label}: tensor deltas has values that no examples have")
    positives, background = parts
    second = background.rows(np.zeros(0, np.int64))
    return ClassExamples(tensors["deltas"].astype(np.float64), positives, background, second)


def heads_of_member(
    member: int, manifests: Sequence[HeadManifest], fitted: Sequence[LinearScores | BoxRegression]
) -> Heads:
    """Collect the heads on the features of one member."""
    of_member = [
        (manifest.kind, head)
        for manifest, head in zip(manifests, fitted, strict=True)
        if manifest.member == member
    ]
    by_kind: dict[str, Any] = dict(of_member)
    added = tuple(
        head for kind, head in of_member if kind == "class" and isinstance(head, ClassHead)
    )
    return Heads(by_kind.get("svm"), by_kind.get("regression"), added)


def _layout(head: HeadManifest, classes: int, features: int) -> Layout:
    if head.kind == "regression":
        return {"weight": (4 * classes, features), "bias": (4 * classes,)}
    rows = 1 if head.kind == "class" else classes
    boxes: Layout = {"box_weight": (4, features), "box_bias": (4,)} if head.kind == "class" else {}
    scores = {"weight": (rows, features), "bias": (rows,), "slope": (rows,), "offset": (rows,)}
    return {**scores, **boxes}


def _check_values(tensors: Mapping[str, Any], label: str) -> None:
    for name, values in tensors.items():
        if values.dtype != np.float32:
            raise BundleError(f"{label}: tensor {name} is {values.dtype}, expected float32")
        if not np.isfinite(values).all():
            raise BundleError(f"{label}: tensor {name} has values that are not finite")
        # Such a slope would turn the order of regions around.
        if name == "slope" and values.min() <= 0:
            raise BundleError(f"{label}: tensor slope has values that are not above 0")
