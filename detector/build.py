"""Settings to parts: builds what a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from detector.configuration import validated
from detector.datasets import COCO_TO_VOC, VOC_CLASSES, Dataset, join, read_dataset
from detector.datasets.blacklist import read_blacklist, without_blacklisted
from detector.datasets.box_caps import cap_boxes
from detector.errors import SettingsError
from detector.proposals.merge import Proposer
from detector.training.region_settings import (
    DataSource,
    MemberConfig,
    ProposalConfig,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from detector.ensemble import Ensemble
    from detector.pipeline import Detector

SHIPPED = Path(__file__).parent / "weights" / "default"
"""The bundle that comes with the package."""


def build_dataset(
    sources: Sequence[DataSource], classes: str | tuple[str, ...], root: str | Path = "."
) -> Dataset:
    """The joined data sets under one class list; relative paths are taken from `root`."""
    root = Path(root)
    return join([obeying(one, read_source(one, root), root, classes) for one in sources])


def read_source(source: DataSource, root: Path) -> Dataset:
    """One data set as its files have it."""
    return read_dataset(root / source.path, source.split)


def obeying(
    source: DataSource, found: Dataset, root: Path, classes: str | tuple[str, ...] = "own"
) -> Dataset:
    """A data set under the class list, with everything that its settings say of it."""
    if source.blacklist is not None:
        found = without_blacklisted(found, read_blacklist(root / source.blacklist))
    if classes != "own":
        names = VOC_CLASSES if classes == "voc" else tuple(classes)
        found = found.with_classes(names, COCO_TO_VOC if source.rename == "coco-to-voc" else {})
    if source.partial:
        found = found.partial(source.partial)
    if source.positives_only is not None:
        found = found.with_positives_only(source.positives_only)
    if source.cap_per_class is not None:
        found = cap_boxes(found, source.cap_per_class, source.cap_seed)
    return found.subset(source.images) if source.images else found


def build_proposer(engine: str, options: Mapping[str, Any]) -> Proposer:
    """A proposer by name: "selective-search" (ours), "opencv" (the peer), "multibox" or "both"."""
    from detector.proposals.engines import ENGINES, build_engine

    if engine not in ENGINES:
        known = ", ".join(ENGINES)
        raise SettingsError(f"proposals {engine!r} are not known; known: {known}")
    proposer: Proposer = build_engine(engine, options)
    return proposer


def build_network(member: MemberConfig, num_outputs: int, root: str | Path = ".") -> nn.Module:
    """The network of a member, started from its weights where it names some.

    The last layer is a fresh one unless a bundle with as many outputs is the start.
    """
    from detector.models import build_model
    from detector.models.start import load_start

    path = None if member.weights is None else Path(root) / member.weights
    if member.start_member and (path is None or not path.is_dir()):
        raise SettingsError(
            f"member.start_member is {member.start_member}, but the start is"
            f" {path or 'random'}; give a bundle that has such a member"
        )
    if path is None:
        return build_model(member.architecture, num_outputs, **member.options)
    if path.is_dir():
        return _network_of_bundle(path, member, num_outputs)
    return load_start(path, member.architecture, num_outputs, member.options)


def _network_of_bundle(path: Path, member: MemberConfig, num_outputs: int) -> nn.Module:
    from detector.bundle import load_bundle
    from detector.models import build_model
    from detector.models.pretrained import replace_classifier

    bundle = load_bundle(path, members=member.start_member + 1)
    found = bundle.manifest.members[member.start_member]
    if found.architecture != member.architecture:
        raise SettingsError(
            f"{path} holds a {found.architecture}, but member.architecture is {member.architecture}"
        )
    outputs = len(bundle.manifest.network_classes) + 1
    network = build_model(member.architecture, outputs, **member.options)
    try:
        network.load_state_dict(bundle.models[member.start_member].state_dict())
    except RuntimeError:
        raise SettingsError(
            f"{path} holds a network of options {found.options or 'none'}, whose layers are others"
            f" than those of member.options {member.options or 'none'}"
        ) from None
    network.normalisation = found.normalisation  # type: ignore[assignment]
    if outputs != num_outputs:
        replace_classifier(network, num_outputs)
    return network


def _engine_of(text: str) -> tuple[str, dict[str, Any]]:
    from detector.proposals.engines import parse_engine

    return parse_engine(text) or (text, {})


def load_detector(
    bundle: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    members: int | None = 1,
    proposer: Proposer | None = None,
    proposals: str | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    announce: Callable[[str], None] | None = None,
    proposals_given: bool = False,
) -> Detector:
    """The detector of a bundle; without one, of the bundle that ships with the package.

    members     how many of the ensemble's networks to use; None is all
    proposals   an engine, NAME or NAME:SETTING=VALUE,...; where it is the bundle's own, what is not
                named stays as in the bundle. Or give a `proposer`
    settings    DetectionSettings by name, in place of the bundle's thresholds
    threads     on the CPU, of the networks, the crops and the search for proposals alike; None: all
                cores for the search, one for the others
    announce    is told, in a sentence, when kernels must be compiled first
    proposals_given  every image will come with its proposals: none of the proposer's are needed
    """
    from detector.bundle import load_bundle
    from detector.ensemble import Ensemble, Member
    from detector.models.inference import Precision, fastest_precision
    from detector.pipeline import DetectionSettings, Detector

    loaded = load_bundle(bundle or SHIPPED, members)
    manifest = loaded.manifest
    values = {
        "score_threshold": manifest.thresholds.score,
        "nms_threshold": manifest.thresholds.nms,
        "voting_iou": manifest.thresholds.voting,
        "max_detections": manifest.thresholds.max_detections,
        "max_proposals": manifest.thresholds.max_proposals,
        "svm": manifest.thresholds.svm,
        "regression": manifest.thresholds.regression,
        **(settings or {}),
    }
    chosen = validated(DetectionSettings, values, "detection settings")
    if proposer is None:
        stored = validated(ProposalConfig, manifest.proposals, f"{bundle or SHIPPED}: proposals")
        engine, asked = _engine_of(proposals or stored.engine)
        own = stored.options if engine == stored.engine else {}
        workers = {} if threads is None else {"threads": threads}
        proposer = build_proposer(engine, {**own, **workers, **asked})
    if precision == "auto":
        precision = fastest_precision(device)
    known = get_args(Precision)
    if precision not in known:
        raise SettingsError(f"precision {precision!r} is not one of auto, {', '.join(known)}")
    heads = manifest.heads_in_use(svm=chosen.svm, regression=chosen.regression)
    pairs = enumerate(zip(loaded.models, manifest.members, strict=True))
    ensemble = Ensemble(
        [
            Member(
                model,
                one.input_size,
                one.normalisation,
                one.activation_ranges,
                loaded.heads_of(position, heads),
                one.context,
                one.trunk,
                one.temperature,
            )
            for position, (model, one) in pairs
        ],
        precision=cast("Precision", precision),
        device=device,
        batch_size=batch_size,
        workers=threads or 1,
    )
    if announce is not None:
        from detector.compiled import on_disk

        if not on_disk(kernels_in_use(None if proposals_given else proposer, ensemble, device)):
            announce("first run: compiling kernels for this machine, once (about 20 s)")
    return Detector(
        proposer, ensemble, manifest.classes, chosen,
        prior=manifest.prior, device=device, threads=threads or 1,
    )  # fmt: skip


def kernels_in_use(
    proposer: Proposer | None, ensemble: Ensemble, device: torch.device | str
) -> list[Any]:
    """The compiled kernels that a run calls. Others may be imported, such as those that write a
    proposal cache, and never be compiled.
    """
    from detector.compiled import kernels_of

    search = getattr(proposer, "search", proposer)
    room = "detector.proposals.selective_search"
    used = kernels_of(room) if type(search).__module__.startswith(room) else []
    if str(device).startswith("cpu"):
        import detector.native_crops  # noqa: F401  (imported at the first crop otherwise)

        used += kernels_of("detector.native_crops")
        groups = ensemble.groups
        networks = [one for group in groups for one in (group.batches.model, *group.networks)]
        called = {
            id(getattr(part, "run", None)) for network in networks for part in network.modules()
        }
        used += [one for one in kernels_of("detector.models.native") if id(one) in called]
    return used
