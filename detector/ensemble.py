"""M classifiers, one opinion: the mean of their softmax (arXiv 1409.4842, sections 7 and 8)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.errors import SettingsError
from detector.models.inference import FixedBatches, Precision, prepare_for_inference
from detector.models.normalisation import CENTRED, Normalisation


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network: crops (N, 3, input_size, input_size) to logits (N, K+1)."""

    model: nn.Module
    input_size: int
    normalisation: Normalisation = CENTRED
    activation_ranges: Mapping[str, float] | None = None
    """Needed for 8-bit inference only (models/quantised.py)."""


class Ensemble:
    """Crops of N regions, one tensor for each input size, to class probabilities (N, K+1).

    Members may differ in architecture and input size; those of equal size share their crops. The
    batches have one fixed, padded shape, so a region's row is the same whatever its neighbours and
    whatever the number of `workers` (threads on a CPU, each with its own batch).
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        precision: Precision = "float32",
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> None:
        if not members:
            raise SettingsError("an ensemble needs at least one member")
        outputs = {_outputs(member.model) for member in members}
        if len(outputs) > 1:
            raise SettingsError(f"members disagree on the number of classes: {sorted(outputs)}")
        self.num_outputs = outputs.pop()
        self.members = tuple(members)
        on_cpu = torch.device(device).type == "cpu"
        self.runners = [
            FixedBatches(
                prepare_for_inference(
                    copy.deepcopy(member.model).to(device),
                    precision,
                    member.normalisation,
                    member.activation_ranges,
                ),
                batch_size=batch_size or (8 if on_cpu else 128),
                workers=workers or (torch.get_num_threads() if on_cpu else 1),
            )
            for member in members
        ]

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The crop sides that `__call__` needs, ascending, each once."""
        return tuple(sorted({member.input_size for member in self.members}))

    def __call__(self, crops: Mapping[int, Tensor]) -> Tensor:
        """{S: (N, 3, S, S)} to (N, K+1) float32 on the CPU; the last column is background."""
        for size in self.input_sizes:
            if size not in crops or tuple(crops[size].shape[1:]) != (3, size, size):
                raise ValueError(
                    f"crops of shape (N, 3, {size}, {size}) are needed under key {size}"
                )
        total: Tensor | None = None
        for member, run in zip(self.members, self.runners, strict=True):
            probability = run(crops[member.input_size]).softmax(-1)
            total = probability if total is None else total + probability
        assert total is not None
        return total / len(self.members)


def _outputs(model: nn.Module) -> int:
    classifier = getattr(model, "classifier", None)
    if not isinstance(classifier, nn.Linear):
        raise SettingsError(f"{type(model).__name__} has no linear layer named classifier")
    return classifier.out_features
