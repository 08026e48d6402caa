"""A trained classifier in one file: safetensors with our own names, and in its header what it is.

`tools/train_regions.py --start` reads the tensors; tools/evaluate_classifier.py needs the rest too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.errors import WeightsError
from detector.files import write_atomically
from detector.models import build_model
from detector.models.normalisation import CENTRED, Normalisation
from detector.models.traits import traits_of
from detector.models.weights.pretrained import (
    MOST_OUTPUTS,
    built_to_fit,
    fit,
    outputs_of,
    read_tensors,
)
from detector.models.weights.start import (
    CLASSIFIER_FORMAT,
    StartKind,
    architecture_of,
    outside_network,
    own_kind,
)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with its last layer, and the names of its outputs where the file has them."""

    model: nn.Module
    architecture: str
    input_size: int
    classes: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_outputs(self) -> int:
        return int(self.model.get_submodule("classifier").get_parameter("weight").shape[0])


def save_classifier(
    path: str | Path,
    state: Mapping[str, Tensor],
    *,
    architecture: str,
    options: Mapping[str, Any],
    input_size: int,
    classes: Sequence[str],
    normalisation: Normalisation = CENTRED,
    pixel_scale: float = 1.0,
    unfinished: str = "",
) -> None:
    """Write a trained network without its auxiliary heads, which inference does not use.

    pixel_scale  what centred crops were multiplied by in training; the first layer takes it over
    unfinished   how far a training came that was stopped

    Raises WeightsError where a value is not finite.
    """
    from safetensors.torch import save

    plain = {name: value for name, value in options.items() if name != "auxiliary"}
    kept = {name: t.detach().cpu() for name, t in state.items() if not name.startswith("auxiliary")}
    for name, tensor in kept.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: tensor {name} is not finite; nothing was written")
    if pixel_scale != 1:
        first = f"{first_convolution(build_model(architecture, 1, **plain))}.weight"
        kept[first] = kept[first] * pixel_scale
    head = {
        "format": CLASSIFIER_FORMAT,
        "architecture": architecture,
        "options": json.dumps(plain),
        "input_size": str(input_size),
        "classes": json.dumps(list(classes)),
        "normalisation": json.dumps(normalisation),
        **({"unfinished": unfinished} if unfinished else {}),
    }
    write_atomically(path, save({k: t.contiguous() for k, t in kept.items()}, metadata=head))


def first_convolution(model: nn.Module) -> str:
    """The name of the layer that sees the pixels."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return name
    raise WeightsError(f"{type(model).__name__} has no convolution")


def load_classifier(path: str | Path, architecture: str | None = None) -> Classifier:
    """A classifier with its own last layer: our own file, BVLC GoogLeNet, or a torchvision network.

    architecture  needed where the names of the tensors do not tell
    """
    path = Path(path)
    tensors = read_tensors(path)
    own = own_kind(path)
    if own is not None:
        return _own(path, tensors, own)
    name = architecture or architecture_of(tensors)
    if name is None:
        raise WeightsError(
            f"{path}: which network it is cannot be told from its names; give --architecture"
        )
    model = outside_network(path, tensors, name)
    if model is None:
        if "classifier.weight" not in tensors:
            raise WeightsError(f"{path}: no classifier.weight in it, so it classifies nothing")
        model = build_model(name, outputs_of(tensors, "classifier.weight", str(path)))
        fit(model, tensors, str(path))
    return Classifier(model, name, traits_of(name).side)


def _own(path: Path, tensors: Mapping[str, Tensor], kind: StartKind) -> Classifier:
    classes, size = kind.classes or (), kind.input_size or 0
    if not 1 <= len(classes) <= MOST_OUTPUTS or not 32 <= size <= 1024:
        raise WeightsError(f"{path}: {len(classes)} classes at input size {size} cannot be")
    model: Any = built_to_fit(
        lambda: build_model(kind.architecture, len(classes), **kind.options), tensors, str(path)
    )
    model.normalisation = kind.normalisation
    return Classifier(model, kind.architecture, size, classes, kind.options)
