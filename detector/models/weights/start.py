"""Initial weights of a training: the layout of a file is recognised by its tensor names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from detector.errors import WeightsError
from detector.models import build_model
from detector.models.input_normalisation import Normalisation, is_usable
from detector.models.weights.outside import architecture_of, load_outside
from detector.models.weights.pretrained import (
    fit,
    metadata_of,
    outputs_of,
    read_tensors,
    replace_classifier,
)

# Value of `format` in the header of our own files (classifier_file.py).
CLASSIFIER_FORMAT = "classifier 1"


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
    kind = own_kind(path)
    if kind is not None:
        return kind
    name = architecture_of(read_tensors(path))
    return None if name is None else StartKind(name)


def own_kind(path: Path) -> StartKind | None:
    """Read the header of our own file; None for other files. Raises WeightsError."""
    head = metadata_of(path)
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


def load_start(
    path: Path, architecture: str, num_outputs: int, options: Mapping[str, Any]
) -> nn.Module:
    """Build an architecture with the weights of `path` and a fresh last layer of `num_outputs`.

    Known layouts: those of `OUTSIDE` (outside.py), torchvision's zoo, and our own. Raises
    WeightsError.
    """
    tensors = read_tensors(path)
    theirs = load_outside(path, tensors, architecture)
    if theirs is not None:
        return _adopt(theirs, architecture, num_outputs, options, path)
    model = load_own(path, tensors, architecture, options)
    if (kind := own_kind(path)) is not None:
        model.normalisation = kind.normalisation  # type: ignore[assignment]
    if len(tensors["classifier.weight"]) != num_outputs:
        replace_classifier(model, num_outputs)
    return model


def load_own(
    path: Path, tensors: Mapping[str, Tensor], architecture: str, options: Mapping[str, Any]
) -> nn.Module:
    """Load tensors with our own names, whose number of outputs they tell. Raises WeightsError."""
    if "classifier.weight" not in tensors:
        raise WeightsError(
            f"{path}: no classifier.weight in it; expected BVLC, torchvision or our own names"
        )
    outputs = outputs_of(tensors, "classifier.weight", str(path))
    model = build_model(architecture, outputs, **options)
    fit(model, tensors, str(path))
    return model


def _adopt(
    theirs: nn.Module, architecture: str, num_outputs: int, options: Mapping[str, Any], path: Path
) -> nn.Module:
    model = build_model(architecture, num_outputs, **options)
    replace_classifier(model, num_outputs)
    heads = ("classifier.", "auxiliary.")  # those of other classes
    state = {
        name: value for name, value in theirs.state_dict().items() if not name.startswith(heads)
    }
    state |= {name: value for name, value in model.state_dict().items() if name.startswith(heads)}
    fit(model, state, str(path))
    model.normalisation = theirs.normalisation
    return model
