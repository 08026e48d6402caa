"""The output of a region classifier's training: a bundle of all its members."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from torch import Tensor, nn

from detector.datasets.licences import licence_of
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    SharedTrunk,
    save_bundle,
)
from detector.evaluation.scoring.regions import picture_hashes
from detector.heads import HeadManifest
from detector.models.input_normalisation import CENTRED, Normalisation
from detector.progress.messages import pluralise
from detector.training.engine.context import RunContext
from detector.training.regions.box_loss import split_head
from detector.training.regions.data import RegionData
from detector.training.regions.settings import RegionTrainingConfig


def write_bundle(
    settings: RegionTrainingConfig,
    data: RegionData,
    members: Sequence[tuple[nn.Module, Mapping[str, Tensor]]],
    context: RunContext,
    unfinished: str = "",
) -> None:
    """Write the averaged weights of all members as `context.out/bundle`, the detector's file
    format.

    unfinished  how far a stopped training came
    """
    split = [split_head(state) for _, state in members]
    learnt = [
        (HeadManifest(kind="regression", member=number, recipe={"learnt": "box_loss"}), head)
        for number, (_, head) in enumerate(split)
        if head is not None
    ]
    in_use = {"regression": True} if learnt else {}
    manifest = BundleManifest(
        classes=data.dataset.classes,
        members=_entries(settings, [network for network, _ in members]),
        proposals=(settings.detect_with or settings.proposals).model_dump(mode="json"),
        thresholds=settings.thresholds.model_copy(update=in_use),
        prior=data.prior,
        provenance=_provenance(settings, data, context.data_root, unfinished),
    )
    # Background is commoner among proposals than it was in the batches (Saerens et al. 2002).
    raised = math.log(settings.sampling.background_prior)
    states = [_with_background(state, raised) for state, _ in split]
    bundle = context.out / "bundle"
    save_bundle(bundle, manifest, states, fitted=learnt)
    at = f" of {unfinished}" if unfinished else ""
    typer.echo(f"wrote {bundle}{at}; try: inception-rcnn detect IMAGE --weights {bundle}", err=True)


def _entries(
    settings: RegionTrainingConfig, networks: Sequence[nn.Module]
) -> tuple[MemberManifest, ...]:
    """Each network's entry; with a bank, those after the first have its trunk."""
    member, entries = settings.member, []
    for number, network in enumerate(networks):
        trunk = SharedTrunk(0, settings.bank.after) if settings.bank and number else None
        normalisation: Normalisation = getattr(network, "normalisation", CENTRED)
        entries.append(
            MemberManifest(
                architecture=member.architecture, options=member.options,
                input_size=member.input_size, context=member.context,
                mean=normalisation.mean, std=normalisation.std, trunk=trunk,
            )
        )  # fmt: skip
    return tuple(entries)


def _provenance(
    settings: RegionTrainingConfig, data: RegionData, root: Path, unfinished: str
) -> Provenance:
    # Without this machine's folders, which mean nothing elsewhere.
    if settings.member.weights is not None:
        named = settings.member.model_copy(update={"weights": _portable(settings.member.weights)})
        settings = settings.model_copy(update={"member": named})
    sources = ", ".join(
        f"{_portable(one.path)}{f' ({one.split})' if one.split else ''}" for one in settings.data
    )
    # So that an evaluation can warn when it meets a picture again that was learnt from.
    held = picture_hashes(data.held) if data.held else ()
    return Provenance(
        training_data=f"{pluralise(len(data.dataset), 'image')} of {sources}",
        licence=with_licences(settings.licence, settings, root),
        started_from=settings.member.weights or "random initialisation",
        recipe=settings.model_dump(mode="json", by_alias=True),
        pictures=tuple(sorted({*picture_hashes(data.dataset), *held})),
        unfinished=unfinished,
    )


def with_licences(of_weights: str, settings: RegionTrainingConfig, root: Path) -> str:
    """The licence of the weights with those that the data sets state of their images."""
    licences = [
        (Path(one.path).name, licence_of(root / one.path, one.split)) for one in settings.data
    ]
    of_images = [f"images of {name}: {licence}" for name, licence in licences if licence]
    return "; ".join([of_weights, *dict.fromkeys(of_images)])


def _portable(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path


def _with_background(state: Mapping[str, Tensor], raised: float) -> dict[str, Tensor]:
    bias = state["classifier.bias"].clone()  # the training's own average stays
    bias[-1] += raised  # background is the last class
    return {**state, "classifier.bias": bias}
