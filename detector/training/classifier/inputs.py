"""What a classifier learns from: labelled images, a network at its start, and the batches."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from detector.datasets.labelled.recognise import detect_layout, read_labelled
from detector.errors import DatasetError, SettingsError
from detector.models.weights.classifier_file import first_convolution
from detector.training.classifier.patch_batches import PatchBatches
from detector.training.engine.checkpoint import fingerprint_of
from detector.training.engine.network import build_network, kind_of_weights
from detector.training.regions.settings import MemberConfig

if TYPE_CHECKING:
    from detector.datasets.labelled.images import LabelledImages
    from detector.training.classifier.settings import ClassifierTrainingConfig
    from detector.training.engine.distributed import Group


@dataclass(frozen=True, eq=False)
class Learning:
    """One training's settings, images and batches, and its length in steps.

    unjudged  images to judge by that could not be read, and why
    """

    settings: ClassifierTrainingConfig
    images: LabelledImages
    judged: LabelledImages | None
    batches: PatchBatches
    unjudged: dict[str, str] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> float:
        return len(self.images) / self.settings.optimiser.batch

    @property
    def last(self) -> int:
        return math.ceil(self.settings.optimiser.epochs * self.steps_per_epoch)


def images_of(
    settings: ClassifierTrainingConfig, root: Path
) -> tuple[LabelledImages, LabelledImages | None]:
    """What to learn from, and what to judge by under the same classes."""
    assert settings.data.path is not None
    place = root / settings.data.path
    train = read_labelled(place, "train")
    if len(train.classes) < 2:
        raise DatasetError(
            f"{place}: all images are of one class, {train.classes[0]}, so there is nothing to"
            " tell apart; give the folder of the class folders"
        )
    if settings.data.images is not None:
        train = train.subset(settings.data.images)
    if settings.data.validate_on is not None:
        return train, read_labelled(root / settings.data.validate_on, "val").under(train.classes)
    if "val" in detect_layout(place).splits:
        return train, read_labelled(place, "val").under(train.classes)
    return train, None


def learning_of(
    settings: ClassifierTrainingConfig,
    images: LabelledImages,
    judged: LabelledImages | None,
    group: Group,
) -> Learning:
    """The batches of this process; a SettingsError where they do not go around."""
    how = settings.optimiser
    group.check_batch(how.batch, how.accumulate)
    batches = PatchBatches(
        images, settings.network.input_size, how.batch, settings.patches, settings.augment,
        settings.sampling_seed, group.rank, group.world_size,
    )  # fmt: skip
    return Learning(settings, images, judged, batches)


def following_start(tree: dict[str, Any], root: Path) -> dict[str, Any]:
    """Settings as read, with architecture, options and input size of the start where they are not
    set.
    """
    network = tree.get("network")
    if not isinstance(network, dict) or not isinstance(network.get("weights"), str):
        return tree
    found = kind_of_weights(root / network["weights"])
    if found is None or network.get("architecture", found.architecture) != found.architecture:
        return tree
    told: dict[str, Any] = {"architecture": found.architecture, "input_size": found.input_size}
    told = {name: value for name, value in told.items() if value is not None} | network
    if found.options:
        told["options"] = {**found.options, **(network.get("options") or {})}
    return {**tree, "network": told}


def network_of(
    settings: ClassifierTrainingConfig, outputs: int, root: Path, device: torch.device
) -> Any:
    """The network at its start, on its device, channels-last."""
    seen = settings.network
    member = MemberConfig(
        architecture=seen.architecture, options=seen.options, input_size=seen.input_size,
        weights=seen.weights,
    )  # fmt: skip
    network: Any = build_network(member, outputs, root)
    if seen.pixel_scale != 1 and not network.normalisation.is_identity:
        raise SettingsError(
            f"network.pixel_scale: {seen.architecture} has an input normalisation of its own; use 1"
        )
    if seen.weights is not None and seen.pixel_scale != 1:
        # Files hold weights for crops as they are; saving multiplies by the scale again.
        with torch.no_grad():
            network.get_parameter(f"{first_convolution(network)}.weight").div_(seen.pixel_scale)
    return network.to(device).to(memory_format=torch.channels_last)


NOT_OF_THE_WEIGHTS: Any = {
    "data": True, "optimiser": {"save_every", "validate_every", "max_bad_steps"},
}  # fmt: skip
"""Settings that a run may change when it goes on; images count by their names."""


def fingerprint(settings: ClassifierTrainingConfig, train: LabelledImages) -> str:
    """Of all that decides the weights: settings, and which images there are; not where they lie."""
    chosen = settings.model_dump(exclude=NOT_OF_THE_WEIGHTS)
    if settings.optimiser.sampling_seed is None:  # so that runs of before it was there go on
        del chosen["optimiser"]["sampling_seed"]
    if settings.network.frozen_norm:  # else each part of a batch has its own statistics
        chosen["optimiser"]["accumulate"] = 1
    if not settings.augment.flip:  # runs of before drew no lot for it, and had another light
        chosen["augment"]["flip"] = "never"
    return fingerprint_of({**chosen, "images": listing_of(train)})


def listing_of(images: LabelledImages) -> str:
    """A hash of the names of the classes and files."""
    return hashlib.sha256("\n".join((*images.classes, *images.files)).encode()).hexdigest()
