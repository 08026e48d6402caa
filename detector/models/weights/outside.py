"""Networks of others, converted exactly: BVLC GoogLeNet and torchvision's.

`OUTSIDE` has a row for each layout of names; its function makes our network of such tensors, with
all its weights and its auxiliary heads, and refuses by name what does not fit.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detector.errors import WeightsError
from detector.models import build_model
from detector.models.googlenet import TABLE1, GoogLeNet
from detector.models.input_normalisation import HALF
from detector.models.torchvision_zoo import LAST_LAYER, ZooNetwork
from detector.models.weights.pretrained import fit, outputs_of

Tensors = Mapping[str, Tensor]

CAFFE_BRANCHES = {
    "one": "1x1",
    "reduce3": "3x3_reduce",
    "three": "3x3",
    "reduce5": "5x5_reduce",
    "five": "5x5",
    "project": "pool_proj",
}
CAFFE_LAYERS = {
    "conv1.conv": "conv1/7x7_s2",
    "conv2_reduce.conv": "conv2/3x3_reduce",
    "conv2.conv": "conv2/3x3",
    "classifier": "loss3/classifier",
} | {
    f"inception.{block}.{ours}.conv": f"inception_{block}/{theirs}"
    for block in TABLE1
    for ours, theirs in CAFFE_BRANCHES.items()
}
CAFFE_HEADS = {
    f"auxiliary.{block}.{ours}": f"{theirs}/{layer}"
    for block, theirs in (("4a", "loss1"), ("4d", "loss2"))
    for ours, layer in (("conv.conv", "conv"), ("hidden", "fc"), ("classifier", "classifier"))
}
_TORCHVISION_HEADS = ("aux", "AuxLogits.")


def load_bvlc_googlenet(tensors: Tensors, source: str = "BVLC GoogLeNet") -> GoogLeNet:
    """Load the BVLC GoogLeNet, which the Caffe team trained on ILSVRC-2012 (Caffe's layer names).

    It was trained on blue-green-red pixels in 0..255 minus (104, 117, 123). That mean is the crops'
    own FILL_MEAN, so the rest folds into the first convolution exactly: its input channels are
    reversed and scaled by 255.
    """
    auxiliary = any(name.startswith("loss1/") for name in tensors)
    ours: dict[str, Tensor] = {}
    for layer, caffe in (CAFFE_LAYERS | (CAFFE_HEADS if auxiliary else {})).items():
        for kind in ("weight", "bias"):
            if f"{caffe}.{kind}" not in tensors:
                raise WeightsError(f"{source}: tensor {caffe}.{kind} is missing")
            value = tensors[f"{caffe}.{kind}"].float()
            if value.shape[:2] == (1, 1):  # Caffe's linear layers before 2014's end: (1, 1, O, I)
                value = value.flatten(0, 2)
            ours[f"{layer}.{kind}"] = value
    if ours["conv1.conv.weight"].shape[1:2] == (3,):
        ours["conv1.conv.weight"] = ours["conv1.conv.weight"].flip(1) * 255
    model = GoogLeNet(1000, auxiliary=auxiliary)
    fit(model, ours, source)
    return model


def load_torchvision_inception(
    architecture: str, tensors: Tensors, source: str = "torchvision state dict"
) -> nn.Module:
    """Load torchvision's `GoogLeNet` or `Inception3` as ours, with its auxiliary heads if any.

    The logits are those of torchvision's module with `transform_input=False`. The published weights
    expect `transform_input=True` on ImageNet-normalised pixels, which is `(pixel / 255 - 0.5) /
    0.5`: the normalisation set here.
    """
    import torchvision

    outputs = outputs_of(tensors, "fc.weight", source)
    auxiliary = any(name.startswith(_TORCHVISION_HEADS) for name in tensors)
    model: Any = build_model(architecture, outputs, auxiliary=auxiliary)
    build: Any = getattr(torchvision.models, architecture.removeprefix("torchvision_"))
    with torch.device("meta"):  # only the names are used
        theirs = build(num_classes=outputs, aux_logits=auxiliary, init_weights=False).state_dict()
    # Both list their layers in the order of the paper, except for the auxiliary heads.
    trunk_first = sorted(theirs, key=lambda name: name.startswith((*_TORCHVISION_HEADS, "fc.")))
    names = dict(zip(trunk_first, model.state_dict(), strict=True))
    fit(model, {names.get(name, name): tensor for name, tensor in tensors.items()}, source)
    model.normalisation = HALF
    return model


def load_torchvision_network(
    name: str, tensors: Tensors, source: str = "torchvision state dict"
) -> ZooNetwork:
    """Load torchvision's AlexNet, VGG-16, ResNet-50 or DenseNet-121, whose layers are ours."""
    last = LAST_LAYER[name] + "."
    model = ZooNetwork(name, outputs_of(tensors, f"{last}weight", source))
    ours = {
        f"classifier.{key.removeprefix(last)}" if key.startswith(last) else f"trunk.{key}": value
        for key, value in tensors.items()
    }
    fit(model, ours, source)
    return model


class Layout(NamedTuple):
    """A layout of names: its architecture, a tensor that no other layout has, and its reader."""

    architecture: str
    sign: str
    load: Callable[[Tensors, str], nn.Module]


OUTSIDE = (
    Layout("googlenet", "loss3/classifier.weight", load_bvlc_googlenet),
    Layout(
        "torchvision_googlenet", "inception3a.branch1.conv.weight",
        partial(load_torchvision_inception, "torchvision_googlenet"),
    ),
    Layout(
        "inception_v3", "Mixed_5b.branch1x1.conv.weight",
        partial(load_torchvision_inception, "inception_v3"),
    ),
)  # fmt: skip


def architecture_of(tensors: Tensors) -> str | None:
    """Recognise the architecture of an outside file by its tensor names, or None."""
    for layout in OUTSIDE:
        if layout.sign in tensors:
            return layout.architecture
    import torchvision

    names = _without_counters(tensors)
    for name in LAST_LAYER:
        with torch.device("meta"):
            theirs = getattr(torchvision.models, name)(weights=None).state_dict()
        if _without_counters(theirs) == names:
            return name
    return None


def _without_counters(names: Iterable[str]) -> set[str]:
    # Of batch normalisation; older files lack them.
    return {name for name in names if not name.endswith("num_batches_tracked")}


def load_outside(path: Path, tensors: Tensors, architecture: str) -> nn.Module | None:
    """Load the network of an outside file with all its weights; None for files with our names.

    Raises WeightsError where it is of another architecture.
    """
    for layout in OUTSIDE:
        if layout.sign in tensors:
            if architecture != layout.architecture:
                raise WeightsError(
                    f"{path} holds a {layout.architecture}, but architecture is set to"
                    f" {architecture}; leave the architecture out, and it follows from the file"
                )
            return layout.load(tensors, str(path))
    if architecture in LAST_LAYER and not any(name.startswith("trunk.") for name in tensors):
        return load_torchvision_network(architecture, tensors, str(path))
    return None
