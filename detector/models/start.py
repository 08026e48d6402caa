"""What a network starts from: outside weights whose layout is recognised by their tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from detector.errors import WeightsError
from detector.models import build_model
from detector.models.keras_weights import load_keras_inception_v3
from detector.models.pretrained import (
    fit,
    load_bvlc_googlenet,
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
        return load_keras_inception_v3(path, num_outputs)
    tensors = read_tensors(path)
    if "loss3/classifier.weight" in tensors:
        _must_be("googlenet", architecture, path)
        return load_bvlc_googlenet(path, num_outputs)
    if "inception3a.branch1.conv.weight" in tensors:
        _must_be("torchvision_googlenet", architecture, path)
        theirs: nn.Module = load_torchvision_googlenet(tensors, str(path))
        replace_classifier(theirs, num_outputs)
        return theirs
    if "Mixed_5b.branch1x1.conv.weight" in tensors:
        _must_be("inception_v3", architecture, path)
        theirs = load_torchvision_inception_v3(tensors, str(path))
        replace_classifier(theirs, num_outputs)
        return theirs
    if architecture in LAST_LAYER and not any(name.startswith("trunk.") for name in tensors):
        theirs = load_torchvision_network(architecture, tensors, str(path))
        replace_classifier(theirs, num_outputs)
        return theirs
    if "classifier.weight" not in tensors:
        raise WeightsError(
            f"{path}: no classifier.weight in it; expected BVLC, torchvision or our own names"
        )
    model = build_model(architecture, len(tensors["classifier.weight"]), **options)
    fit(model, tensors, str(path))
    if len(tensors["classifier.weight"]) != num_outputs:
        replace_classifier(model, num_outputs)
    return model


def _must_be(right: str, architecture: str, path: Path) -> None:
    if architecture != right:
        raise WeightsError(f"{path} holds a {right}, but member.architecture is {architecture}")
