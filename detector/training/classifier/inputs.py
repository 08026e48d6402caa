"""Inputs of a classifier's training: labelled images, the network at its start, and batches."""

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from detector.datasets.labelled.images import LabelledImages
from detector.datasets.labelled.recognise import detect_layout, read_labelled
from detector.errors import DatasetError, SettingsError
from detector.models.weights.classifier_file import first_convolution
from detector.training.classifier.patch_batches import PatchBatches, Stream
from detector.training.classifier.settings import ClassifierTrainingConfig
from detector.training.engine.checkpoint import fingerprint_of
from detector.training.engine.context import RunContext
from detector.training.engine.network import MemberConfig, build_network, kind_of_weights


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """Settings, images, batches and length in steps of one training.

    unread_validation  validation images that could not be read, and why
    """

    settings: ClassifierTrainingConfig
    images: LabelledImages
    validation: LabelledImages | None
    batches: PatchBatches
    unread_validation: dict[str, str] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> float:
        # A fraction: a batch may end one epoch and begin the next.
        return len(self.images) / self.settings.optimiser.batch

    @property
    def last(self) -> int:
        return math.ceil(self.settings.optimiser.epochs * self.steps_per_epoch)


def load_images(
    settings: ClassifierTrainingConfig, root: Path
) -> tuple[LabelledImages, LabelledImages | None]:
    """The training images, and the validation images under the same classes if there are any.
    Raises DatasetError for fewer than two classes.
    """
    assert settings.data.path is not None
    path = root / settings.data.path
    train = read_labelled(path, "train")
    if len(train.classes) < 2:
        raise DatasetError(
            f"{path}: all images are of one class, {train.classes[0]}, so there is nothing to"
            " tell apart; give the folder of the class folders"
        )
    if settings.data.images is not None:
        train = train.subset(settings.data.images)
    if settings.data.validate_on is not None:
        return train, read_labelled(root / settings.data.validate_on, "val").under(train.classes)
    if "val" in detect_layout(path).splits:
        return train, read_labelled(path, "val").under(train.classes)
    return train, None


def build_setup(
    settings: ClassifierTrainingConfig,
    images: LabelledImages,
    validation: LabelledImages | None,
    context: RunContext,
) -> TrainingSetup:
    """The setup of this process. Raises SettingsError where batches are too small to share."""
    optimiser, group = settings.optimiser, context.group
    group.check_batch(optimiser.batch, optimiser.accumulate)
    stream = Stream(
        len(images), optimiser.seed_of_draws, optimiser.batch, group.rank, group.world_size
    )
    size = settings.network.input_size
    batches = PatchBatches(images, size, settings.patches, settings.augment, stream)
    return TrainingSetup(settings, images, validation, batches)


def following_start(tree: dict[str, Any], root: Path) -> dict[str, Any]:
    """The tree of settings with unset architecture, options and input size filled in from the
    start.
    """
    network = tree.get("network")
    if not isinstance(network, dict) or not isinstance(network.get("weights"), str):
        return tree
    kind = kind_of_weights(root / network["weights"])
    if kind is None or network.get("architecture", kind.architecture) != kind.architecture:
        return tree
    # A file that does not know its input size leaves the recipe's; what the user sets stands.
    merged: dict[str, Any] = {"architecture": kind.architecture, "input_size": kind.input_size}
    merged = {name: value for name, value in merged.items() if value is not None} | network
    if kind.options:
        merged["options"] = {**kind.options, **(network.get("options") or {})}
    return {**tree, "network": merged}


def build_start(
    settings: ClassifierTrainingConfig, outputs: int, root: Path, device: torch.device
) -> Any:
    """The network at its start, on its device, channels-last."""
    chosen = settings.network
    member = MemberConfig(
        architecture=chosen.architecture, options=chosen.options, input_size=chosen.input_size,
        weights=chosen.weights,
    )  # fmt: skip
    network: Any = build_network(member, outputs, root)
    if chosen.pixel_scale != 1 and not network.normalisation.is_identity:
        raise SettingsError(
            f"network.pixel_scale: {chosen.architecture} has an input normalisation of its own;"
            " use 1"
        )
    if chosen.weights is not None and chosen.pixel_scale != 1:
        # Files hold weights for crops as they are; saving multiplies by the scale again.
        with torch.no_grad():
            network.get_parameter(f"{first_convolution(network)}.weight").div_(chosen.pixel_scale)
    return network.to(device).to(memory_format=torch.channels_last)


# Settings that a run may change when it goes on; images count by their names.
NOT_OF_THE_WEIGHTS: Any = {
    "data": True, "optimiser": {"save_every", "validate_every", "max_bad_steps"},
}  # fmt: skip


def fingerprint(settings: ClassifierTrainingConfig, train: LabelledImages) -> str:
    """A hash of all that decides the weights: settings, and the names of the images but not their
    folder.
    """
    chosen = settings.model_dump(exclude=NOT_OF_THE_WEIGHTS)
    if settings.network.frozen_norm:  # without statistics of a batch its parts change nothing
        chosen["optimiser"]["accumulate"] = 1
    return fingerprint_of({**chosen, "images": listing_of(train)})


def listing_of(images: LabelledImages) -> str:
    """A hash of the names of the classes and files."""
    return hashlib.sha256("\n".join((*images.classes, *images.files)).encode()).hexdigest()
