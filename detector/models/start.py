"""What a network starts from: outside weights whose layout is recognised by their tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from detector.errors import WeightsError
from detector.models import build_model
from detector.models.keras_weights import load_keras_inception_v3
from detector.models.pretrained import (
    fit,
    load_bvlc_googlenet,
    outputs_of,
    read_tensors,
    replace_classifier,
)
from detector.models.torchvision_weights import (
    load_torchvision_googlenet,
    load_torchvision_inception_v3,
)
from detector.models.zoo import LAST_LAYER, load_torchvision_network


def load_start(
    path: Path, architecture: str, num_outputs: int, options: Mapping[str, Any]
) -> nn.Module:
    """The named architecture with the weights of `path` and a fresh last layer of `num_outputs`.

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
    if outputs != num_outputs:
        replace_classifier(model, num_outputs)
    return model


def outside_network(
    path: Path, tensors: Mapping[str, Tensor], architecture: str
) -> nn.Module | None:
    """The network of an outside file with all its weights; None where the names are our own.

    Raises WeightsError where it is not of that architecture.
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
    """The network that the options ask for with the trunk of `theirs`; all heads are fresh ones."""
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
        raise WeightsError(f"{path} holds a {right}, but architecture is set to {architecture}")
