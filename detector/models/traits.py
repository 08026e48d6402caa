"""Defaults that follow from an architecture: its input size and its first layers.

Every network of `ARCHITECTURES` has its row here; a test compares the two tables.
"""

from typing import NamedTuple


class Traits(NamedTuple):
    """Defaults of one architecture.

    first     prefixes of the parameters that fine-tuning freezes: about the first tenth of the
              depth, as in Fast R-CNN
    side      of the crops for which it was designed
    min_side  side below which a last layer may be left without a map
    """

    first: tuple[str, ...]
    side: int = 224
    min_side: int = 32


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
    "nin": Traits(("layers.0.", "layers.1.", "layers.2."), min_side=40),
    "alexnet": Traits(("trunk.features.0.", "trunk.features.3."), min_side=63),
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
    """Traits of an architecture; an unknown one freezes nothing."""
    return TRAITS.get(architecture, Traits(()))
