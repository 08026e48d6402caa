"""Initial weights of a training: the layout of a file is recognised by its tensor names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.errors import WeightsError
from detector.models import build_model
from detector.models.normalisation import Normalisation, is_usable
from detector.models.torchvision_zoo import LAST_LAYER, load_torchvision_network
from detector.models.weights.keras import load_keras_inception_v3
from detector.models.weights.pretrained import (
    check_regular,
    fit,
    load_bvlc_googlenet,
    outputs_of,
    read_tensors,
    replace_classifier,
)
from detector.models.weights.torchvision import (
    load_torchvision_googlenet,
    load_torchvision_inception_v3,
)

CLASSIFIER_FORMAT = "classifier 1"
"""Value of `format` in the header of our own files (classifier_file.py)."""


@dataclass(frozen=True)
class StartKind:
    """Description of the network in a file of weights, as far as the file has it."""

    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    input_size: int | None = None
    normalisation: Normalisation | None = None
    classes: tuple[str, ...] | None = None


def kind_of_start(path: Path) -> StartKind | None:
    """Recognise the network of a file; None where its names are ambiguous. Raises WeightsError."""
    if path.suffix == ".json":
        return StartKind("inception_v3", {"padding_counts": False})
    kind = own_kind(path)
    if kind is not None:
        return kind
    name = architecture_of(read_tensors(path))
    return None if name is None else StartKind(name)


def own_kind(path: Path) -> StartKind | None:
    """Read the header of our own file; None for other files. Raises WeightsError."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            head = dict(file.metadata() or {})
    except SafetensorError as error:
        raise WeightsError(f"{path}: cannot be read as weights: {error}") from error
    if head.get("format") != CLASSIFIER_FORMAT:
        return None
    try:
        classes = tuple(str(name) for name in json.loads(head["classes"]))
        options = dict(json.loads(head["options"]))
        name, size = head["architecture"], int(head["input_size"])
        mean, std = ([float(x) for x in triple] for triple in json.loads(head["normalisation"]))
        normalisation = Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is damaged ({type(error).__name__})") from None
    if not is_usable(normalisation):
        raise WeightsError(
            f"{path}: its normalisation has mean {mean} and std {std}; expected finite numbers,"
            " and each std above 0"
        )
    return StartKind(name, options, size, normalisation, classes)


def architecture_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Recognise the architecture of an outside file by its tensor names, or None."""
    for sign, name in _SIGNS.items():
        if sign in tensors:
            return name
    import torchvision

    names = _without_counters(tensors)
    for name in LAST_LAYER:
        with torch.device("meta"):
            theirs = getattr(torchvision.models, name)(weights=None).state_dict()
        if _without_counters(theirs) == names:
            return name
    return None


_SIGNS = {
    "loss3/classifier.weight": "googlenet",
    "inception3a.branch1.conv.weight": "torchvision_googlenet",
    "Mixed_5b.branch1x1.conv.weight": "inception_v3",
}


def _without_counters(names: Iterable[str]) -> set[str]:
    """Drop the counters of batch normalisation, which older files lack."""
    return {name for name in names if not name.endswith("num_batches_tracked")}


def load_start(
    path: Path, architecture: str, num_outputs: int, options: Mapping[str, Any]
) -> nn.Module:
    """Build an architecture with the weights of `path` and a fresh last layer of `num_outputs`.

    Known layouts: BVLC GoogLeNet (Caffe's names, as safetensors or .caffemodel), torchvision's
    networks, Keras's Inception-v3 for browsers (its model.json), and our own. Raises WeightsError.
    """
    if path.suffix == ".json":
        _must_be("inception_v3", architecture, path)
        if options.get("padding_counts", True):
            raise WeightsError(
                f"{path}: Keras leaves padding out of its pools; set options.padding_counts"
                " to false"
            )
        return _adopt(load_keras_inception_v3(path, 1), architecture, num_outputs, options, path)
    tensors = read_tensors(path)
    theirs = outside_network(path, tensors, architecture)
    if theirs is not None:
        return _adopt(theirs, architecture, num_outputs, options, path)
    if "classifier.weight" not in tensors:
        raise WeightsError(
            f"{path}: no classifier.weight in it; expected BVLC, torchvision or our own names"
        )
    outputs = outputs_of(tensors, "classifier.weight", str(path))
    model = build_model(architecture, outputs, **options)
    fit(model, tensors, str(path))
    if (kind := own_kind(path)) is not None:
        model.normalisation = kind.normalisation  # type: ignore[assignment]
    if outputs != num_outputs:
        replace_classifier(model, num_outputs)
    return model


def outside_network(
    path: Path, tensors: Mapping[str, Tensor], architecture: str
) -> nn.Module | None:
    """Load the network of an outside file with all its weights; None for files with our names.

    Raises WeightsError where it is of another architecture.
    """
    if "loss3/classifier.weight" in tensors:
        _must_be("googlenet", architecture, path)
        return load_bvlc_googlenet(path)
    if "inception3a.branch1.conv.weight" in tensors:
        _must_be("torchvision_googlenet", architecture, path)
        return load_torchvision_googlenet(tensors, str(path))
    if "Mixed_5b.branch1x1.conv.weight" in tensors:
        _must_be("inception_v3", architecture, path)
        return load_torchvision_inception_v3(tensors, str(path))
    if architecture in LAST_LAYER and not any(name.startswith("trunk.") for name in tensors):
        return load_torchvision_network(architecture, tensors, str(path))
    return None


def _adopt(
    theirs: nn.Module, architecture: str, num_outputs: int, options: Mapping[str, Any], path: Path
) -> nn.Module:
    """Build the network with these options, the trunk of `theirs` and fresh heads."""
    model = build_model(architecture, num_outputs, **options)
    replace_classifier(model, num_outputs)
    heads = ("classifier.", "auxiliary.")
    state = {
        name: value for name, value in theirs.state_dict().items() if not name.startswith(heads)
    }
    state |= {name: value for name, value in model.state_dict().items() if name.startswith(heads)}
    fit(model, state, str(path))
    model.normalisation = theirs.normalisation
    return model


def _must_be(right: str, architecture: str, path: Path) -> None:
    if architecture != right:
        raise WeightsError(
            f"{path} holds a {right}, but architecture is set to {architecture}; leave the"
            " architecture out, and it follows from the file"
        )
