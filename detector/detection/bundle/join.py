"""Joining trained detectors into one ensemble; identical layers are stored, and run, once."""

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
    """Write all members of the bundles, in order, as bundle `out`.

    Thresholds, proposals and the prior of sizes are those of the first, but a pre-scorer is to be
    fitted again; SVMs and box regression come along where every member has them. Raises BundleError
    where the classes differ, where `out` is one of the bundles, and where one network comes twice:
    it would count twice and cost twice the time.
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
    _refuse_duplicates([s for bundle in bundles for s in _scoring_settings(bundle)], models)
    members: list[MemberManifest] = []
    for position, entry in enumerate(entries):
        trunk = _common_trunk(position, entries, models, members)
        members.append(entry.model_copy(update={"trunk": trunk, **_NO_FILE}))
    fitted = _heads(bundles)
    has = {head.kind for head, _ in fitted}
    used = {kind: getattr(first.thresholds, kind) and kind in has for kind in _KINDS}
    thresholds = first.thresholds.model_copy(update={**used, "prescore": None})
    manifest = BundleManifest(
        classes=first.network_classes, members=tuple(members), proposals=first.proposals,
        thresholds=thresholds, prior=first.prior,
        provenance=_provenance([bundle.manifest.provenance for bundle in bundles]),
    )  # fmt: skip
    return save_bundle(out, manifest, [dict(model.state_dict()) for model in models], fitted=fitted)


def _scoring_settings(bundle: Bundle) -> Iterator[object]:
    """Yield for each member all that decides its scores besides the network's weights."""
    stored = {"trunk", "stored_as", "activation_ranges", *_NO_FILE}
    for position, entry in enumerate(bundle.manifest.members):
        heads = {
            head.kind: head.sha256 for head in bundle.manifest.heads if head.member == position
        }
        yield entry.model_dump(exclude=stored), heads


def _refuse_duplicates(settings: Sequence[object], models: Sequence[nn.Module]) -> None:
    for position, other in combinations(range(len(models)), 2):
        if settings[position] != settings[other]:
            continue
        state, theirs = models[position].state_dict(), models[other].state_dict()
        if all(torch.equal(value, theirs[name]) for name, value in state.items()):
            raise BundleError(
                f"members {position} and {other} of the ensemble would be one network; join others"
            )


# save_bundle fills these in.
_NO_FILE = {"file": "", "bytes": 0, "sha256": ""}
_KINDS = ("svm", "regression")


def _common_trunk(
    position: int,
    entries: Sequence[MemberManifest],
    models: Sequence[nn.Module],
    before: Sequence[MemberManifest],
) -> SharedTrunk | None:
    """The longest trunk that a member shares with an earlier member that owns all of its layers.

    At most one earlier member qualifies: two that share layers with this one would share them with
    each other, and the later would not own its trunk.
    """
    model = models[position]
    if not isinstance(model, GoogLeNet) or model.auxiliary:  # only plain GoogLeNets can be cut
        return None
    state, trunk = model.state_dict(), None
    for other, entry in enumerate(before):
        alike = (entry.architecture, entry.options) == (
            entries[position].architecture, entries[position].options,
        )  # fmt: skip
        if entry.trunk is not None or not alike:
            continue
        theirs = models[other].state_dict()
        for cut in list(model.inception)[:-1]:
            names = Trunk(model, cut).state_dict()
            if not all(torch.equal(state[name], theirs[name]) for name in names):
                break  # longer trunks hold these layers too
            trunk = SharedTrunk(other, cut)
    return trunk


def _heads(bundles: Sequence[Bundle]) -> Fitted:
    """The SVMs and regressions of all bundles, renumbered; of each kind all or none."""
    heads: Fitted = []
    count = 0
    for bundle in bundles:
        for head, values in zip(bundle.manifest.heads, bundle.heads, strict=True):
            renumbered = head.model_copy(update={"member": head.member + count, **_NO_FILE})
            heads.append((renumbered, values))
        count += len(bundle.models)
    full = {kind for kind in _KINDS if sum(head.kind == kind for head, _ in heads) == count}
    return [(head, values) for head, values in heads if head.kind in full]


def _provenance(parts: Sequence[Provenance]) -> Provenance:
    return Provenance(
        training_data=_each_once(part.training_data for part in parts),
        licence=_each_once(part.licence for part in parts),
        started_from=_each_once(part.started_from for part in parts),
        recipe={"members": [part.recipe for part in parts]},
        # As many as a manifest may hold.
        pictures=tuple(sorted({picture for part in parts for picture in part.pictures})[:10_000]),
        unfinished=_each_once(part.unfinished for part in parts if part.unfinished),
    )


def _each_once(texts: Iterable[str]) -> str:
    return "; then ".join(dict.fromkeys(texts))
