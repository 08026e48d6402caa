"""Exact conversion of torchvision's GoogLeNet and Inception-v3 weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from detector.models.googlenet import TABLE1, GoogLeNet
from detector.models.inception_v3 import InceptionV3
from detector.models.normalisation import HALF
from detector.models.weights.pretrained import fit, outputs_of

TORCHVISION_GOOGLENET = {
    "conv2.": "conv2_reduce.",
    "conv3.": "conv2.",
    "fc.": "classifier.",
    "aux1.": "auxiliary.4a.",
    "aux2.": "auxiliary.4d.",
} | {f"inception{block}.": f"inception.{block}." for block in TABLE1}
TORCHVISION_PARTS = {
    "branch1.": "one.",
    "branch2.0.": "reduce3.",
    "branch2.1.": "three.",
    "branch3.0.": "reduce5.",
    "branch3.1.": "five.",
    "branch4.1.": "project.",
    "fc1.": "hidden.",
    "fc2.": "classifier.",
}


def _rename(name: str, prefixes: Mapping[str, str], parts: Mapping[str, str]) -> str:
    for theirs, ours in prefixes.items():
        if name.startswith(theirs):
            rest = name.removeprefix(theirs)
            for old, new in parts.items():
                if rest.startswith(old):
                    return ours + new + rest.removeprefix(old)
            return ours + rest
    return name


def load_torchvision_googlenet(
    state_dict: Mapping[str, Tensor], source: str = "torchvision state dict"
) -> GoogLeNet:
    """Load torchvision's `GoogLeNet` as ours (form "torchvision"), with its auxiliary heads if any.

    The logits are those of torchvision's module with `transform_input=False`. The published weights
    expect `transform_input=True` on ImageNet-normalised pixels, which is `(pixel / 255 - 0.5) /
    0.5`: the normalisation set here.
    """
    outputs = outputs_of(state_dict, "fc.weight", source)
    ours = {
        _rename(name, TORCHVISION_GOOGLENET, TORCHVISION_PARTS): tensor
        for name, tensor in state_dict.items()
    }
    auxiliary = any(name.startswith("aux") for name in state_dict)
    model = GoogLeNet(outputs, form="torchvision", auxiliary=auxiliary)
    fit(model, ours, source)
    model.normalisation = HALF
    return model


def load_torchvision_inception_v3(
    state_dict: Mapping[str, Tensor], source: str = "torchvision state dict"
) -> InceptionV3:
    """Load torchvision's `Inception3` as ours, with its auxiliary head if it has one.

    As with GoogLeNet: logits of `transform_input=False`, and the normalisation of the published
    weights, which is what `transform_input=True` makes of ImageNet-normalised pixels.
    """
    from torchvision.models import Inception3

    outputs = outputs_of(state_dict, "fc.weight", source)
    auxiliary = any(name.startswith("AuxLogits.") for name in state_dict)
    model = InceptionV3(outputs, auxiliary=auxiliary)
    theirs = Inception3(outputs, aux_logits=auxiliary, init_weights=False).state_dict()
    # Both list their layers in the order of the paper, but for the place of the auxiliary head.
    head = [name for name in theirs if name.startswith("AuxLogits.")]
    last = [name for name in theirs if name.startswith("fc.")]
    trunk = [name for name in theirs if name not in {*head, *last}]
    names = dict(zip([*trunk, *head, *last], model.state_dict(), strict=True))
    ours = {names.get(name, name): tensor for name, tensor in state_dict.items()}
    fit(model, ours, source)
    model.normalisation = HALF
    return model
