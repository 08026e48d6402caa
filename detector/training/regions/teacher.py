"""Who teaches a region classifier: a trained detector, asked about the regions learnt from.

A whole ensemble can teach one network, and images in which only some classes are annotated, or
none, teach all of them.
"""

from __future__ import annotations

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
    """Crops (N, 3, S, S) -> (N, K+1): the log of what the members of a detector say on average.

    All members see the same crop, in their own size; heads and priors have no part in it.
    """

    def __init__(self, bundle: Bundle, precision: Precision, device: torch.device) -> None:
        super().__init__()
        members = bundle.manifest.members
        self.sides = [member.input_size for member in members]
        self.temperatures = [member.temperature for member in members]
        said_by = {"architecture", "options", "input_size", "mean", "std", "temperature"}
        self.fingerprint = fingerprint_of(
            {
                "members": [member.model_dump(include=said_by) for member in members],
                "networks": [hash_of(model) for model in bundle.models],
                "precision": precision,
            }
        )
        self.networks = nn.ModuleList(
            prepare_for_inference(model.to(device), precision, member.normalisation)
            for model, member in zip(bundle.models, members, strict=True)
        )

    @torch.no_grad()
    def forward(self, crops: Tensor) -> Tensor:
        told = []
        for network, side, temperature in zip(
            self.networks, self.sides, self.temperatures, strict=True
        ):
            seen = crops if crops.shape[-1] == side else F.interpolate(crops, (side, side))
            told.append((network(seen).float() / temperature).softmax(-1))
        return torch.stack(told).mean(0).clamp_min(1e-7).log()


def build_teacher(
    settings: TeacherConfig,
    classes: Sequence[str],
    root: str | Path,
    device: torch.device,
    precision: Precision,
) -> Teacher:
    """The detector that `settings` names, ready to be asked. Raises SettingsError where its classes
    are not `classes`.
    """
    bundle = load_bundle(Path(root) / settings.bundle)
    if bundle.manifest.network_classes != tuple(classes):
        raise SettingsError(
            f"teacher.bundle: {settings.bundle} knows other classes than the data;"
            " a teacher must have the same, in the same order"
        )
    return Teacher(bundle, precision, device)
