"""Outputs of a MultiBox training: the weights in one file."""

import copy
from collections.abc import Mapping
from pathlib import Path

import typer
from torch import Tensor

from detector.progress.messages import pluralise
from detector.proposals.multibox.weights import MultiBoxHeader, TrainedMultiBox, save_multibox
from detector.training.multibox.inputs import TrainingSetup
from detector.training.multibox.settings import MultiBoxTrainingConfig


def write_weights(
    out: Path,
    settings: MultiBoxTrainingConfig,
    setup: TrainingSetup,
    averaged: Mapping[str, Tensor],
) -> None:
    """Write the averaged weights as a file that every command takes as --multibox."""
    trained = copy.deepcopy(setup.network).cpu()
    trained.load_state_dict(dict(averaged))
    whole = copy.deepcopy(setup.whole).cpu()
    if setup.network is setup.whole:
        whole = trained  # type: ignore[assignment]
    else:  # a bank: only the heads were trained
        whole.heads = trained
    trunk, data = settings.trunk, setup.views.dataset
    header = MultiBoxHeader(
        architecture=trunk.architecture, options=trunk.options, after=trunk.after,
        input_size=trunk.input_size, heads=settings.heads, grids=setup.priors.grids,
        stored_as=settings.stored_as, licence=settings.licence,
        training_data=f"{pluralise(len(data), 'image')} of {data.name}",
    )  # fmt: skip
    path = out / "multibox.safetensors"
    save_multibox(path, TrainedMultiBox(whole, setup.priors, header))
    typer.echo(
        f"wrote {path}; try: inception-rcnn propose evaluate --engine multibox:weights={path}",
        err=True,
    )
