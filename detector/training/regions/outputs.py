"""What a finished training leaves: its settings, and a bundle of all its members."""

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
    """The averaged weights of all members as a detector that tools/detect.py loads.

    dataset     what they have learnt from
    held        what was held out, to be fitted on afterwards
    root        where relative data paths begin
    unfinished  how far a training came that was stopped
    """
    parted = [(network, *split_head(state)) for network, state in members]
    networks = [(network, state) for network, state, _ in parted]
    manifest, states = bundle_of_run(settings, dataset, networks, prior)
    seen = {*picture_hashes(dataset), *(picture_hashes(held) if held else ())}
    said = {
        "pictures": tuple(sorted(seen)),
        "unfinished": unfinished,
        "licence": with_licences(manifest.provenance.licence, settings, root),
    }
    origin = manifest.provenance.model_copy(update=said)
    manifest = manifest.model_copy(update={"provenance": origin})
    learnt = [
        (HeadManifest(kind="regression", member=number, recipe={"learnt": "box_loss"}), head)
        for number, (_, _, head) in enumerate(parted)
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


def with_licences(own: str, settings: RegionTrainingConfig, root: Path) -> str:
    """The licence of the weights, and those that the data sets state of their images."""
    found = [(Path(one.path).name, licence_of(root / one.path, one.split)) for one in settings.data]
    said = [f"images of {name}: {licence}" for name, licence in found if licence]
    return "; ".join([own, *dict.fromkeys(said)])
