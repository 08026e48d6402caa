"""Several trained detectors as one ensemble; layers that are the same are stored, and run, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import nn

from detector.detection.bundle.manifest import BundleManifest, MemberManifest, Provenance
from detector.detection.bundle.reading import Bundle, load_bundle
from detector.detection.bundle.writing import save_bundle
from detector.errors import BundleError
from detector.heads import HeadManifest
from detector.heads.linear import BoxRegression, LinearScores
from detector.models.googlenet import GoogLeNet
from detector.models.split import SharedTrunk, Trunk

Fitted = list[tuple[HeadManifest, LinearScores | BoxRegression]]


def join_bundles(folders: Sequence[str | Path], out: str | Path) -> BundleManifest:
    """All members of the bundles, in order, as bundle `out`.

    Thresholds, proposals and the prior of sizes are those of the first; SVMs and box regression
    come along where every member has them. Raises BundleError where the classes differ, where `out`
    is one of the bundles, and where one network comes twice: it would have two voices and cost
    twice the time.
    """
    if Path(out).resolve() in [Path(folder).resolve() for folder in folders]:
        raise BundleError(f"{out}: is one of those to join, which are not changed; name another")
    bundles = [load_bundle(folder) for folder in folders]
    first = bundles[0].manifest
    for folder, bundle in zip(folders, bundles, strict=True):
        if bundle.manifest.network_classes != first.network_classes:
            raise BundleError(
                f"{folder}: its classes, or their order, are not those of {folders[0]}; an ensemble"
                " is of networks that were trained with one class list"
            )
        if bundle.manifest.classes != first.network_classes:
            raise BundleError(f"{folder}: has added classes; join first, then add classes")
    models = [model for bundle in bundles for model in bundle.models]
    entries = [entry for bundle in bundles for entry in bundle.manifest.members]
    _refuse_twins([one for bundle in bundles for one in _asked_alike(bundle)], models)
    members: list[MemberManifest] = []
    for place, entry in enumerate(entries):
        trunk = _common_trunk(place, entries, models, members)
        members.append(entry.model_copy(update={"trunk": trunk, **_NO_FILE}))
    fitted = _heads(bundles)
    has = {head.kind for head, _ in fitted}
    thresholds = first.thresholds.model_copy(
        update={kind: getattr(first.thresholds, kind) and kind in has for kind in _KINDS}
    )
    manifest = BundleManifest(
        classes=first.network_classes, members=tuple(members), proposals=first.proposals,
        thresholds=thresholds, prior=first.prior,
        provenance=_provenance([bundle.manifest.provenance for bundle in bundles]),
    )  # fmt: skip
    return save_bundle(out, manifest, [dict(model.state_dict()) for model in models], fitted=fitted)


def _asked_alike(bundle: Bundle) -> Iterator[object]:
    """Of each member all that decides what it says, beside the network's numbers."""
    stored = {"trunk", "stored_as", "activation_ranges", *_NO_FILE}
    for place, entry in enumerate(bundle.manifest.members):
        heads = {one.kind: one.sha256 for one in bundle.manifest.heads if one.member == place}
        yield entry.model_dump(exclude=stored), heads


def _refuse_twins(asked: Sequence[object], models: Sequence[nn.Module]) -> None:
    for place, other in combinations(range(len(models)), 2):
        if asked[place] != asked[other]:
            continue
        mine, theirs = models[place].state_dict(), models[other].state_dict()
        if all(torch.equal(value, theirs[name]) for name, value in mine.items()):
            raise BundleError(
                f"members {place} and {other} of the ensemble would be one network; join others"
            )


_NO_FILE = {"file": "", "bytes": 0, "sha256": ""}
_KINDS = ("svm", "regression")


def _common_trunk(
    place: int,
    entries: Sequence[MemberManifest],
    models: Sequence[nn.Module],
    before: Sequence[MemberManifest],
) -> SharedTrunk | None:
    """The most layers that a member has in common with one before it that owns all of its own.

    At most one of these has any: two of them would have them in common with each other.
    """
    mine = models[place]
    if not isinstance(mine, GoogLeNet) or mine.auxiliary:  # is not cut
        return None
    own, trunk = mine.state_dict(), None
    for other, entry in enumerate(before):
        alike = (entry.architecture, entry.options) == (
            entries[place].architecture, entries[place].options,
        )  # fmt: skip
        if entry.trunk is not None or not alike:
            continue
        theirs = models[other].state_dict()
        for cut in list(mine.inception)[:-1]:
            names = Trunk(mine, cut).state_dict()
            if not all(torch.equal(own[name], theirs[name]) for name in names):
                break
            trunk = SharedTrunk(other, cut)
    return trunk


def _heads(bundles: Sequence[Bundle]) -> Fitted:
    """SVMs and regressions, renumbered; of each kind all or none."""
    found: Fitted = []
    count = 0
    for bundle in bundles:
        for head, values in zip(bundle.manifest.heads, bundle.heads, strict=True):
            moved = head.model_copy(update={"member": head.member + count, **_NO_FILE})
            found.append((moved, values))
        count += len(bundle.models)
    full = {kind for kind in _KINDS if sum(head.kind == kind for head, _ in found) == count}
    return [(head, values) for head, values in found if head.kind in full]


def _provenance(parts: Sequence[Provenance]) -> Provenance:
    return Provenance(
        training_data=_each_once(part.training_data for part in parts),
        licence=_each_once(part.licence for part in parts),
        started_from=_each_once(part.started_from for part in parts),
        recipe={"members": [part.recipe for part in parts]},
        pictures=tuple(sorted({one for part in parts for one in part.pictures})[:10_000]),
        unfinished=_each_once(part.unfinished for part in parts if part.unfinished),
    )


def _each_once(texts: Iterable[str]) -> str:
    return "; then ".join(dict.fromkeys(texts))
