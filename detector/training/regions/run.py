"""Fingerprints of a region training, and the bundle that it leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from detector.datasets import Dataset
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    SharedTrunk,
    load_bundle,
)
from detector.detection.size_prior import SizePrior
from detector.heads import BoxRegression
from detector.models.normalisation import CENTRED, Normalisation
from detector.training.engine.checkpoint import fingerprint_of, hash_of
from detector.training.regions.settings import MemberConfig, RegionTrainingConfig

NOT_OF_THE_WEIGHTS: Any = {
    "heads": True, "thresholds": True, "detect_with": True, "licence": True,
    "sampling": {"background_prior", "size_prior"},
    "optimiser": {"save_every", "max_bad_steps", "accumulate"},
}  # fmt: skip
"""Settings that a resumed or finished run may change: they concern the use of the weights, reports
and saving, or the division of work.
"""


def run_fingerprint(
    settings: RegionTrainingConfig, teacher: str = "", data: str = "", below: str = ""
) -> str:
    """A hash of all that the weights of a training depend on; it binds the checkpoints to their
    settings.

    teacher  hash of the teacher, if there is one
    data     hash of the regions
    below    hash of a bank's trunk, which no checkpoint holds
    """
    tree = settings.model_dump(exclude=NOT_OF_THE_WEIGHTS)
    return fingerprint_of({**tree, "taught_by": teacher, "regions": data, "below": below})


def bank_fingerprint(settings: RegionTrainingConfig, trunk: nn.Module) -> str:
    """A hash of all that the maps of a bank depend on besides images and boxes, including the
    trunk's weights. Members that differ in training alone share a bank, and a start that was
    replaced is noticed.
    """
    chosen = settings.sampling.model_dump(
        include={"positive_iou", "background_low", "near_iou", "max_proposals"}
    )
    rooms = {"data", "classes", "proposals", "augment", "bank"}
    member = settings.member.model_dump(exclude={"freeze", "weights", "start_member"})
    about = {"member": member, "trunk": hash_of(trunk)}
    return fingerprint_of({**settings.model_dump(include=rooms), **chosen, **about})


def regression_of_start(
    member: MemberConfig, classes: Sequence[str], root: str | Path = "."
) -> BoxRegression | None:
    """The box regression of the bundle that a network starts from, if it has one for the same
    classes.
    """
    path = None if member.weights is None else Path(root) / member.weights
    if path is None or not path.is_dir():
        return None
    bundle = load_bundle(path, members=member.start_member + 1)
    if bundle.manifest.network_classes != tuple(classes):
        return None
    return bundle.heads_of(member.start_member, bundle.manifest.heads).regression


def bundle_of_run(
    settings: RegionTrainingConfig,
    dataset: Dataset,
    members: Sequence[tuple[nn.Module, Mapping[str, Tensor]]],
    prior: SizePrior | None = None,
) -> tuple[BundleManifest, list[Mapping[str, Tensor]]]:
    """The manifest of a finished training, and each network's averaged weights.

    prior  of the regions that the detector will score
    """
    start = settings.member.weights
    if start is not None and Path(start).is_absolute():  # nobody else has this folder
        named = settings.member.model_copy(update={"weights": Path(start).name})
        settings = settings.model_copy(update={"member": named})
    entries: list[MemberManifest] = []
    for network, _ in members:
        trunk = SharedTrunk(0, settings.bank.after) if settings.bank and entries else None
        normalisation: Normalisation = getattr(network, "normalisation", CENTRED)
        entries.append(
            MemberManifest(
                architecture=settings.member.architecture,
                options=settings.member.options,
                input_size=settings.member.input_size,
                context=settings.member.context,
                mean=normalisation.mean,
                std=normalisation.std,
                trunk=trunk,
            )
        )
    sources = ", ".join(
        f"{_shared_name(one.path)}{f' ({one.split})' if one.split else ''}" for one in settings.data
    )
    manifest = BundleManifest(
        classes=dataset.classes,
        members=tuple(entries),
        proposals=(settings.detect_with or settings.proposals).model_dump(mode="json"),
        thresholds=settings.thresholds,
        prior=prior,
        provenance=Provenance(
            training_data=f"{len(dataset)} images of {sources}",
            licence=settings.licence,
            started_from=settings.member.weights or "random initialisation",
            recipe=settings.model_dump(mode="json"),
        ),
    )
    raised = math.log(settings.sampling.background_prior)
    return manifest, [_with_background(state, raised) for _, state in members]


def _shared_name(path: str) -> str:
    """The path without the folders of this machine, which mean nothing elsewhere."""
    return Path(path).name if Path(path).is_absolute() else path


def _with_background(state: Mapping[str, Tensor], raised: float) -> dict[str, Tensor]:
    """The state with the background logit, the last one, raised by `raised`."""
    bias = state["classifier.bias"].clone()
    bias[-1] += raised
    return {**state, "classifier.bias": bias}
