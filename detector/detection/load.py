"""Loading: from a bundle to a detector that is ready to run."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

# The kernels of the crops: a loaded detector imports nothing more, whatever thread runs it.
from detector.crops import warp_numba  # noqa: F401
from detector.detection.bundle import Bundle, bundle_sha256, load_bundle
from detector.detection.detector import Detector
from detector.detection.engine_choice import Engines
from detector.detection.ensemble import Member
from detector.detection.prescored import RegionScorer, WholeImages
from detector.detection.settings import DetectionSettings
from detector.errors import DetectorWarning, SettingsError
from detector.hardware import choose_device, usable_cores
from detector.heads.prescorer import load_prescorer
from detector.heads.stored import HeadManifest
from detector.models.inference.int8 import has_int8_convolution, has_vnni
from detector.models.inference.prepare import Precision
from detector.proposals.engines import ProposalConfig, build_engine, parse_engine
from detector.proposals.merge import Proposer
from detector.settings import validate

# The bundle that comes with the package.
SHIPPED = Path(__file__).parents[1] / "weights" / "default"


def load_detector(
    bundle: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    engine: str = "torch",
    engine_folder: Path | None = None,
    members: int | None = 1,
    proposer: Proposer | None = None,
    proposals: str | None = None,
    threshold: float | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
) -> Detector:
    """Load the detector of a bundle; without one, of the bundle that ships with the package.

    bundle      the folder; None is the bundle that ships
    device      torch's name, or auto; SettingsError where it does not exist
    members     how many of the ensemble's networks to use; None is all
    proposals   an engine, NAME or NAME:SETTING=VALUE,...; where it is the bundle's engine, settings
                that are not named are the bundle's. `proposer` takes its place
    threshold   detections below it are dropped; None is the bundle's own
    settings    DetectionSettings by name, in place of the bundle's thresholds
    precision   float32, bfloat16 or int8; auto is bfloat16 where the processor multiplies it fast
    engine      of the networks, on a CPU: torch, openvino or onnxruntime; auto is the fastest by a
                measurement, which `engine_folder` keeps together with the converted networks
    batch_size  crops in one pass; None is 8 on a CPU, 128 elsewhere
    threads     on the CPU, of the networks, the crops and the search for proposals alike; None is
                one for each core that the process may use
    """
    if threads is not None and threads < 1:
        raise SettingsError(f"threads is {threads}; it must be at least 1")
    cores = threads or usable_cores()
    device = choose_device(device) if isinstance(device, str) else device
    folder = Path(bundle or SHIPPED)
    loaded = load_bundle(folder, members)
    manifest = loaded.manifest
    overrides = dict(settings or {})
    if threshold is not None and overrides.setdefault("score_threshold", threshold) != threshold:
        raise SettingsError("threshold and settings' score_threshold differ; give one of them")
    given = validate(DetectionSettings, overrides, "detection settings")
    # Only what is set: the defaults of this class are not the bundle's thresholds.
    chosen = manifest.thresholds.model_copy(update=given.model_dump(exclude_unset=True))
    if proposer is None:
        stored = validate(ProposalConfig, manifest.proposals, f"{folder}: proposals")
        proposer = _proposer(stored, proposals, threads)
    heads = manifest.heads_in_use(svm=chosen.svm, regression=chosen.regression)
    hashes = [head.sha256 for head in heads]
    decides = {"bundle": bundle_sha256(folder), "members": members, "heads": hashes}
    ensemble = Engines(
        members_of(loaded, heads), decides, engine_folder, _checked_precision(precision, device),
        device, batch_size, cores,
    ).build(engine)  # fmt: skip
    used = chosen.prescore is not None
    scorer = _region_scorer(folder, loaded, ensemble.precision, device, cores) if used else None
    return Detector(
        proposer, ensemble, manifest.classes, chosen,
        prior=manifest.prior, device=device, threads=cores, prescorer=scorer,
    )  # fmt: skip


def _region_scorer(
    folder: Path, bundle: Bundle, precision: Precision, device: torch.device, threads: int
) -> RegionScorer | None:
    about = bundle.manifest.prescorer
    if about is None:
        return None
    maps = WholeImages.of(bundle, about.side, precision, device, threads)
    return RegionScorer(load_prescorer(folder, about, maps.channels), maps, about.sha256)


def _proposer(stored: ProposalConfig, named: str | None, threads: int | None) -> Proposer:
    text = named or stored.engine
    engine, options = parse_engine(text) or (text, {})
    inherited = stored.options if engine == stored.engine else {}  # another has other options
    workers = {} if threads is None else {"threads": threads}
    return build_engine(engine, {**inherited, **workers, **options})


def _checked_precision(name: str, device: torch.device) -> str:
    known = ("auto", *get_args(Precision))
    if name not in known:
        raise SettingsError(f"precision {name!r} is not one of {', '.join(known)}")
    if name == "int8" and device.type == "cpu" and has_vnni() and not has_int8_convolution():
        warnings.warn(
            "this torch lacks the 8-bit convolutions of precision int8; auto takes its place",
            DetectorWarning, stacklevel=3,
        )  # fmt: skip
        return "auto"
    return name


def members_of(bundle: Bundle, heads: Sequence[HeadManifest]) -> list[Member]:
    """The networks of a bundle, with those of its heads that are in use."""
    pairs = zip(bundle.models, bundle.manifest.members, strict=True)
    return [
        Member(
            model, entry.input_size, entry.normalisation, entry.activation_ranges,
            bundle.heads_of(position, heads), entry.context, entry.trunk, entry.temperature,
        )
        for position, (model, entry) in enumerate(pairs)
    ]  # fmt: skip
