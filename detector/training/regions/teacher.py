"""The teacher of a region classifier: a trained detector whose scores on the training regions are
learnt.

A whole ensemble can teach one network, and images in which only some classes are annotated, or
none, teach all of them.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.detection.bundle import Bundle, load_bundle
from detector.errors import SettingsError
from detector.models.inference.prepare import Precision, prepare_for_inference
from detector.training.engine.checkpoint import fingerprint_of, hash_of
from detector.training.regions.settings import TeacherConfig


class Teacher(nn.Module):
    """The log of the members' mean softmax, (N, K+1), for crops (N, 3, S, S).

    Each member sees the same crop, in its own size; heads and priors are not used.
    """

    def __init__(self, bundle: Bundle, precision: Precision, device: torch.device) -> None:
        super().__init__()
        members = bundle.manifest.members
        self.sides = [member.input_size for member in members]
        self.temperatures = [member.temperature for member in members]
        fields = {"architecture", "options", "input_size", "mean", "std", "temperature"}
        self.fingerprint = fingerprint_of(
            {
                "members": [member.model_dump(include=fields) for member in members],
                "networks": [hash_of(model) for model in bundle.models],
                "precision": precision,  # its logits may be cached
            }
        )
        self.networks = nn.ModuleList(
            prepare_for_inference(model.to(device), precision, member.normalisation)
            for model, member in zip(bundle.models, members, strict=True)
        )

    @torch.no_grad()
    def forward(self, crops: Tensor) -> Tensor:
        probabilities = []
        for network, side, temperature in zip(
            self.networks, self.sides, self.temperatures, strict=True
        ):
            resized = crops
            if crops.shape[-1] != side:  # smooth, as the crops themselves are made
                resized = F.interpolate(crops, (side, side), mode="bilinear", antialias=True)
            probabilities.append((network(resized).float() / temperature).softmax(-1))
        # The logarithm of the mean, as the detector averages; a softmax of 0 has none.
        return torch.stack(probabilities).mean(0).clamp_min(1e-7).log()


def build_teacher(
    settings: TeacherConfig,
    classes: Sequence[str],
    root: str | Path,
    device: torch.device,
    precision: Precision,
) -> Teacher:
    """Load the detector that `settings` names as a teacher. Raises SettingsError unless its classes
    are `classes`.
    """
    bundle = load_bundle(Path(root) / settings.bundle)
    # Classes that heads have added are none of its networks'.
    if bundle.manifest.network_classes != tuple(classes):
        raise SettingsError(
            f"teacher.bundle: {settings.bundle} knows other classes than the data;"
            " a teacher must have the same, in the same order"
        )
    return Teacher(bundle, precision, device)
