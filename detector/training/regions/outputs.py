"""Outputs of a region classifier's training: a bundle of all its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from detector.datasets.licences import licence_of
from detector.detection.bundle import save_bundle
from detector.evaluation.scoring.regions import picture_hashes
from detector.heads import HeadManifest
from detector.training.regions.box_loss import split_head
from detector.training.regions.run import bundle_of_run
from detector.training.regions.settings import RegionTrainingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detector.datasets import Dataset
    from detector.detection.size_prior import SizePrior


def write_bundle(
    out: Path,
    settings: RegionTrainingConfig,
    dataset: Dataset,
    members: Sequence[tuple[nn.Module, Mapping[str, Tensor]]],
    prior: SizePrior | None = None,
    *,
    held: Dataset | None = None,
    root: Path = Path(),
    unfinished: str = "",
) -> None:
    """Write the averaged weights of all members as a bundle, the detector's file format.

    dataset     the training images
    held        the held-out images, to be fitted on afterwards
    root        where relative data paths begin
    unfinished  how far a stopped training came
    """
    split = [(network, *split_head(state)) for network, state in members]
    networks = [(network, state) for network, state, _ in split]
    manifest, states = bundle_of_run(settings, dataset, networks, prior)
    pictures = {*picture_hashes(dataset), *(picture_hashes(held) if held else ())}
    changes = {
        "pictures": tuple(sorted(pictures)),
        "unfinished": unfinished,
        "licence": with_licences(manifest.provenance.licence, settings, root),
    }
    origin = manifest.provenance.model_copy(update=changes)
    manifest = manifest.model_copy(update={"provenance": origin})
    learnt = [
        (HeadManifest(kind="regression", member=number, recipe={"learnt": "box_loss"}), head)
        for number, (_, _, head) in enumerate(split)
        if head is not None
    ]
    if learnt:
        in_use = manifest.thresholds.model_copy(update={"regression": True})
        manifest = manifest.model_copy(update={"thresholds": in_use})
    save_bundle(out / "bundle", manifest, states, fitted=learnt)
    at = f" of {unfinished}" if unfinished else ""
    typer.echo(
        f"wrote {out / 'bundle'}{at}; try: inception-rcnn detect IMAGE --weights {out / 'bundle'}",
        err=True,
    )


def with_licences(of_weights: str, settings: RegionTrainingConfig, root: Path) -> str:
    """The licence of the weights with those that the data sets state of their images."""
    licences = [
        (Path(one.path).name, licence_of(root / one.path, one.split)) for one in settings.data
    ]
    of_images = [f"images of {name}: {licence}" for name, licence in licences if licence]
    return "; ".join([of_weights, *dict.fromkeys(of_images)])
