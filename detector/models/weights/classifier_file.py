"""A trained classifier in one safetensors file, with its architecture and classes in the header.

Training can start from its tensors; the evaluation of classifiers needs the header too.
"""

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
from detector.models.input_normalisation import CENTRED, Normalisation
from detector.models.traits import traits_of
from detector.models.weights.outside import architecture_of, load_outside
from detector.models.weights.pretrained import MAX_OUTPUTS, build_to_fit, read_tensors
from detector.models.weights.start import CLASSIFIER_FORMAT, StartKind, load_own, own_kind


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with its last layer; `classes` names its outputs where the file does."""

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

    pixel_scale  factor of centred crops in training; it is folded into the first layer
    unfinished   progress of a training that was stopped

    Raises WeightsError where a value is not finite.
    """
    from safetensors.torch import save

    # Without auxiliary heads, whose tensors are not written.
    plain = {name: value for name, value in options.items() if name != "auxiliary"}
    tensors = {
        name: t.detach().cpu() for name, t in state.items() if not name.startswith("auxiliary")
    }
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: tensor {name} is not finite; nothing was written")
    if pixel_scale != 1:
        first = f"{first_convolution(build_model(architecture, 1, **plain))}.weight"
        tensors[first] = tensors[first] * pixel_scale
    head = {
        "format": CLASSIFIER_FORMAT,
        "architecture": architecture,
        "options": json.dumps(plain),
        "input_size": str(input_size),
        "classes": json.dumps(list(classes)),
        "normalisation": json.dumps(normalisation),
        **({"unfinished": unfinished} if unfinished else {}),
    }
    # safetensors refuses tensors that are not contiguous.
    write_atomically(path, save({k: t.contiguous() for k, t in tensors.items()}, metadata=head))


def first_convolution(model: nn.Module) -> str:
    """Name of the first convolution, whose input is the image."""
    name: str
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return name
    raise WeightsError(f"{type(model).__name__} has no convolution")


def load_classifier(path: str | Path, architecture: str | None = None) -> Classifier:
    """Load a classifier with its last layer: our own file, BVLC GoogLeNet, or torchvision's.

    architecture  needed where the names of the tensors are ambiguous

    Raises WeightsError.
    """
    path = Path(path)
    tensors = read_tensors(path)
    kind = own_kind(path)
    if kind is not None:
        return _own(path, tensors, kind)
    name = architecture or architecture_of(tensors)
    if name is None:
        raise WeightsError(
            f"{path}: which network it is cannot be told from its names; give --set"
            " architecture=NAME"
        )
    model = load_outside(path, tensors, name) or load_own(path, tensors, name, {})
    return Classifier(model, name, traits_of(name).side)


def _own(path: Path, tensors: Mapping[str, Tensor], kind: StartKind) -> Classifier:
    classes, size = kind.classes or (), kind.input_size or 0
    # A header may claim anything.
    if not 1 <= len(classes) <= MAX_OUTPUTS or not 32 <= size <= 1024:
        raise WeightsError(f"{path}: {len(classes)} classes at input size {size} cannot be")
    model: Any = build_to_fit(
        lambda: build_model(kind.architecture, len(classes), **kind.options), tensors, str(path)
    )
    model.normalisation = kind.normalisation
    return Classifier(model, kind.architecture, size, classes, kind.options)
