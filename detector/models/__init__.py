"""Networks by name: a dictionary of functions, each `(num_outputs, **options) -> nn.Module`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from detector.errors import SettingsError
from detector.models.bn_inception import BNInception
from detector.models.googlenet import WIDER, GoogLeNet
from detector.models.inception_v3 import InceptionV3, inception_v2
from detector.models.nin import NetworkInNetwork
from detector.models.torchvision_zoo import LAST_LAYER, ZooNetwork

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "googlenet": GoogLeNet,
    "wide_googlenet": partial(GoogLeNet, width=WIDER),
    "bn_googlenet": partial(GoogLeNet, form="bn"),
    "torchvision_googlenet": partial(GoogLeNet, form="torchvision"),
    "bn_inception": BNInception,
    "inception_v2": inception_v2,
    "inception_v3": InceptionV3,
    "nin": NetworkInNetwork,
    **{name: partial(ZooNetwork, name) for name in LAST_LAYER},
}


def build_model(name: str, num_outputs: int, /, **options: Any) -> nn.Module:
    """Build the network of that name with `num_outputs` logits. Raises SettingsError."""
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise SettingsError(f"architecture {name!r} is not known; known are {known}")
    if num_outputs < 1:
        raise SettingsError(f"a network needs at least 1 output, not {num_outputs}")
    try:  # options come from files: unknown names, wrong types, huge widths
        return ARCHITECTURES[name](num_outputs, **options)
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(f"architecture {name!r} cannot be built: {error}") from error
