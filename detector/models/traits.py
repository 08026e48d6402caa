"""What follows from an architecture where nobody sets it: its input size, and its first layers.

A network that `ARCHITECTURES` gains gets its row here; a test holds the two tables together.
"""

from __future__ import annotations

from typing import NamedTuple


class Traits(NamedTuple):
    """What an architecture brings along.

    first  beginnings of the names of its first layers' parameters: what fine-tuning leaves alone,
           about the first tenth of the depth, as R-CNN's successors did
    side   of the crops it was made for
    least  side of the smallest crops of which anything is left at its last layer
    """

    first: tuple[str, ...]
    side: int = 224
    least: int = 32


_GOOGLENET = Traits(("conv1.", "conv2_reduce.", "conv2."))
_STEM = Traits(("stem.",), 299, 75)

TRAITS: dict[str, Traits] = {
    "googlenet": _GOOGLENET,
    "wide_googlenet": _GOOGLENET,
    "bn_googlenet": _GOOGLENET,
    "torchvision_googlenet": _GOOGLENET,
    "bn_inception": Traits(("stem.",)),
    "inception_v2": _STEM,
    "inception_v3": _STEM,
    "nin": Traits(("layers.0.", "layers.1.", "layers.2."), least=40),
    "alexnet": Traits(("trunk.features.0.", "trunk.features.3."), least=63),
    "vgg16": Traits(tuple(f"trunk.features.{layer}." for layer in (0, 2, 5, 7))),
    "resnet50": Traits(("trunk.conv1.", "trunk.bn1.", "trunk.layer1.")),
    "densenet121": Traits(
        (
            "trunk.features.conv0.", "trunk.features.norm0.", "trunk.features.denseblock1.",
            "trunk.features.transition1.",
        )
    ),
}  # fmt: skip


def traits_of(architecture: str) -> Traits:
    """Those of the name; of one that is not known nothing is frozen."""
    return TRAITS.get(architecture, Traits(()))
