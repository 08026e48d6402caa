"""What a finished training leaves: its settings, and the weights in one file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from detector.progress.messages import pluralise
from detector.proposals.multibox.weights import MultiBoxHeader, TrainedMultiBox, save_multibox
from detector.training.multibox.settings import MultiBoxTrainingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from detector.training.multibox.inputs import Learning


def write_weights(
    out: Path, settings: MultiBoxTrainingConfig, learning: Learning, averaged: Mapping[str, Tensor]
) -> None:
    """The averaged weights as a file that every tool takes as --multibox."""
    learner = copy.deepcopy(learning.network).cpu()
    learner.load_state_dict(dict(averaged))
    whole = copy.deepcopy(learning.whole).cpu()
    if learning.network is learning.whole:
        whole = learner  # type: ignore[assignment]
    else:
        whole.heads = learner
    below, data = settings.trunk, learning.views.dataset
    header = MultiBoxHeader(
        architecture=below.architecture, options=below.options, after=below.after,
        input_size=below.input_size, heads=settings.heads, grids=learning.priors.grids,
        stored_as=settings.stored_as, licence=settings.licence,
        training_data=f"{pluralise(len(data), 'image')} of {data.name}",
    )  # fmt: skip
    path = out / "multibox.safetensors"
    save_multibox(path, TrainedMultiBox(whole, learning.priors, header))
    typer.echo(
        f"wrote {path}; try: inception-rcnn propose evaluate --engine multibox:weights={path}",
        err=True,
    )
