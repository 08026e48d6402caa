"""What a finished training leaves: its settings, and a bundle of all its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from detector.bundle import save_bundle
from detector.heads import HeadManifest
from detector.region_run import bundle_of_run
from detector.training.box_loss import split_head
from detector.training.region_settings import RegionTrainingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detector.datasets import Dataset
    from detector.region_prior import RegionPrior


def write_bundle(
    out: Path,
    settings: RegionTrainingConfig,
    dataset: Dataset,
    members: Sequence[tuple[nn.Module, Mapping[str, Tensor]]],
    prior: RegionPrior | None = None,
) -> None:
    """The averaged weights of all members as a detector that tools/detect.py loads."""
    parted = [(network, *split_head(state)) for network, state in members]
    networks = [(network, state) for network, state, _ in parted]
    manifest, states = bundle_of_run(settings, dataset, networks, prior)
    learnt = [
        (HeadManifest(kind="regression", member=number, recipe={"learnt": "box_loss"}), head)
        for number, (_, _, head) in enumerate(parted)
        if head is not None
    ]
    if learnt:
        in_use = manifest.thresholds.model_copy(update={"regression": True})
        manifest = manifest.model_copy(update={"thresholds": in_use})
    save_bundle(out / "bundle", manifest, states, fitted=learnt)
    typer.echo(
        f"wrote {out / 'bundle'}; try: python tools/detect.py IMAGE --weights {out / 'bundle'}",
        err=True,
    )
