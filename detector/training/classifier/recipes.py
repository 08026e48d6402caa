"""Named training recipes: those of the papers, and a present-day one."""

from collections.abc import Mapping
from typing import Any

from detector.errors import SettingsError
from detector.models.traits import traits_of
from detector.training.augment import AugmentSettings
from detector.training.classifier.patches import PatchSettings
from detector.training.classifier.settings import (
    ClassifierTrainingConfig,
    NetworkSettings,
    OptimiserSettings,
)

# arXiv 1409.4842, section 6: asynchronous SGD, momentum 0.9, -4 % every 8 epochs, Polyak averaging.
# The paper gives no rate, batch, length or weight decay: these are of the BVLC replica, whose read
# me gives 250 epochs for the original schedule. Departs from the paper: synchronous.
GOOGLENET = ClassifierTrainingConfig(
    recipe="googlenet",
    network=NetworkSettings(
        architecture="googlenet", options={"auxiliary": True}, pixel_scale=255.0
    ),
    optimiser=OptimiserSettings(
        method="sgd", epochs=250, batch=32, rate=0.01, schedule="decay", decay=0.96, decay_every=8,
        momentum=0.9, weight_decay=2e-4, decay_vectors=False, auxiliary_weight=0.3,
        average_decay=0.9999,
    ),
)  # fmt: skip

# BVLC's quick_solver.prototxt: 2.4 million steps of 32 are 60 epochs; crops of 224 in 256,
# mirrored, no change of aspect or light; biases do not decay; no averaging. Departs from the
# replica: Caffe squeezes the whole image to 256 x 256 first, here the patch keeps its aspect; and
# biases learn as fast as kernels, not twice as fast.
CAFFE = ClassifierTrainingConfig(
    recipe="caffe",
    network=NetworkSettings(
        architecture="googlenet", options={"auxiliary": True}, pixel_scale=255.0
    ),
    patches=PatchSettings(
        min_area=(224 / 256) ** 2, max_area=(224 / 256) ** 2, min_aspect=1.0, max_aspect=1.0,
        methods=("bilinear",),
    ),
    augment=AugmentSettings(brightness=0, contrast=0, saturation=0, colour_shift=0),
    optimiser=OptimiserSettings(
        method="sgd", epochs=60, batch=32, rate=0.01, schedule="poly", power=0.5, momentum=0.9,
        weight_decay=2e-4, decay_vectors=False, auxiliary_weight=0.3, average_decay=0.0,
    ),
)  # fmt: skip

# arXiv 1512.00567, section 8: RMSProp of decay 0.9 and epsilon 1, 0.045 x 0.94 every 2 epochs, clip
# 2, averaged weights; section 7: label smoothing. Momentum 0.9, weight decay 4e-5 and the auxiliary
# weight 0.4 are of the authors' released trainer, for the paper does not say. Departs from the
# paper: one synchronous batch of 32 in place of 50 replicas; epsilon stands outside the root.
V3 = ClassifierTrainingConfig(
    recipe="v3",
    network=NetworkSettings(
        architecture="inception_v3", options={"auxiliary": True}, input_size=299
    ),
    optimiser=OptimiserSettings(
        method="rmsprop", epochs=100, batch=32, rate=0.045, schedule="decay", decay=0.94,
        decay_every=2, momentum=0.9, square_decay=0.9, epsilon=1.0, weight_decay=4e-5,
        decay_vectors=False, clip=2.0, label_smoothing=0.1, auxiliary_weight=0.4,
        average_decay=0.9999,
    ),
)  # fmt: skip

# Nobody's paper: what large synchronous batches are trained with today.
MODERN = ClassifierTrainingConfig(
    recipe="modern",
    network=NetworkSettings(architecture="bn_googlenet"),
    optimiser=OptimiserSettings(
        method="nesterov", epochs=100, batch=256, rate=0.1, schedule="cosine", warmup=5,
        momentum=0.9, weight_decay=5e-5, decay_vectors=False, label_smoothing=0.1,
        average_decay=0.9999,
    ),
)  # fmt: skip

RECIPES = {config.recipe: config for config in (GOOGLENET, CAFFE, V3, MODERN)}


def with_recipe(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the settings over those of the recipe that they name (`modern` by default). Raises
    SettingsError for an unknown name.

    Another `network.architecture` does not inherit the recipe's network options, nor its size.
    """
    name = tree.get("recipe", "modern")
    if not isinstance(name, str) or name not in RECIPES:
        raise SettingsError(f"recipe {name!r} is not known; known are {', '.join(RECIPES)}")
    base = RECIPES[name].model_dump()
    network = tree.get("network")
    chosen = base["network"]["architecture"]
    if isinstance(network, Mapping) and network.get("architecture", chosen) != chosen:
        name = str(network["architecture"])
        fresh = NetworkSettings(architecture=name, input_size=traits_of(name).side)
        base["network"] = fresh.model_dump()
    return _laid_over(base, tree)


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _laid_over(below, value)
        merged[key] = value
    return merged
