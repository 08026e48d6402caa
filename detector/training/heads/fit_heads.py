"""Fitting of SVMs and box regression for all classes, on features from any source."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import typer

from detector.datasets import Dataset
from detector.detection.bundle import BundleManifest, load_bundle, read_manifest, save_heads
from detector.detection.settings import DetectionSettings
from detector.errors import SettingsError, TrainingError
from detector.hardware import use_device, use_threads
from detector.heads import (
    BoxRegression,
    HeadManifest,
    LinearScores,
    RegressionSettings,
    SvmSettings,
)
from detector.heads.region_features import DescribedImage
from detector.heads.svm_and_regression import fit_regressions, fit_svms, mean_norm, need_every_class
from detector.models.inference.prepare import Precision, fastest_precision
from detector.progress.messages import pluralise
from detector.training.engine.context import RunContext
from detector.training.heads.bank_features import BankFeatures, features_of_run
from detector.training.heads.data_features import DataFeatures, load, proposals_of
from detector.training.regions.bank import RegionBank
from detector.training.regions.settings import HeadsConfig, RegionTrainingConfig

Fitted = list[tuple[HeadManifest, LinearScores | BoxRegression]]


class Described(Protocol):
    """Images with the features of their regions; they can be iterated repeatedly."""

    members: int

    def images(self, member: int, label: str) -> Iterable[DescribedImage]:
        """All images, with the features of one member; `label` is for the progress."""


def fit_all(
    described: Described, classes: tuple[str, ...], heads: HeadsConfig, data: str
) -> Fitted:
    """Fit SVMs and box regression of all classes for each member; `data` says on what."""
    fitted: Fitted = []
    recipe = {"data": data, "seed": heads.seed}
    for member in range(described.members):
        images = partial(described.images, member)
        norm = mean_norm(images("features"))
        if heads.svm:
            settings = SvmSettings(seed=heads.seed)
            head = HeadManifest(kind="svm", member=member, recipe=recipe | settings.model_dump())
            fitted.append((head, fit_svms(images, classes, norm, settings)))
        if heads.regression:
            ridge = RegressionSettings()
            head = HeadManifest(
                kind="regression", member=member, recipe=recipe | ridge.model_dump()
            )
            fitted.append((head, fit_regressions(images, classes, norm, ridge)))
    return fitted


def thresholds_with(manifest: BundleManifest, fitted: Fitted, enable: bool) -> DetectionSettings:
    """The bundle's thresholds, with the fitted heads enabled if asked for."""
    enabled: dict[str, bool] = {head.kind: True for head, _ in fitted} if enable else {}
    return manifest.thresholds.model_copy(update=enabled)


def fit_heads(
    dataset: Dataset, bundle: Path, cache: Path, heads: HeadsConfig, *, members: int | None = 1,
    max_proposals: int | None = None, device: str = "auto", precision: str = "auto",
    threads: int | None = None, quiet: bool = True,
) -> tuple[Fitted, bool]:  # fmt: skip
    """Fit heads for the first `members` networks of a bundle on annotated images; returns them with
    their manifests, for `save_heads`, and True if all images could be read.

    cache  folder of features and proposals; the same fit goes on from there
    """
    if heads.svm:
        need_every_class((sample.annotations for sample in dataset.samples), dataset.classes)
    detector = load(bundle, members, max_proposals, device, precision, threads)
    cache.mkdir(parents=True, exist_ok=True)
    samples = proposals_of(dataset, detector, cache / "proposals.sqlite", quiet)
    # Features are cached under the hashes of the weights that make them.
    entries = read_manifest(bundle).members[: len(detector.ensemble.members)]
    networks = [entry.sha256 for entry in entries]
    described = DataFeatures(samples, detector, cache, networks, precision, quiet)
    data = f"{pluralise(len(dataset), 'image')} of {dataset.name}"
    return fit_all(described, dataset.classes, heads, data), len(samples) == len(dataset)


def fit_heads_on_bank(
    run: Path, bundle: Path, heads: HeadsConfig, *, data_root: Path = Path(),
    members: int | None = 1, device: str = "auto", precision: str = "auto",
    threads: int | None = None, quiet: bool = True,
) -> tuple[Fitted, bool]:  # fmt: skip
    """Fit heads on the maps that a training in the folder `run` kept, in minutes; returns the same
    as `fit_heads`.
    """
    where = use_device(device)
    if precision == "auto":
        precision = fastest_precision(where)
    if precision not in ("float32", "bfloat16"):
        raise SettingsError(f"precision {precision}: with --bank auto, float32 or bfloat16")
    context = RunContext(run, data_root, where, use_threads(threads), quiet)
    loaded = load_bundle(bundle, members)
    kept, unread = features_of_run(
        loaded.manifest.network_classes, loaded.models, context, cast("Precision", precision),
        every_class=heads.svm,
    )  # fmt: skip
    if unread:
        typer.echo(
            f"left out: {pluralise(unread, 'image')} that cannot be read; inception-rcnn data check"
            " tells which",
            err=True,
        )
    data = f"{pluralise(len(kept.dataset), 'image')} of the bank of {run.name}"
    return fit_all(kept, kept.dataset.classes, heads, data), not unread


def fit_heads_of_run(
    settings: RegionTrainingConfig, dataset: Dataset, bank: RegionBank, context: RunContext
) -> bool:
    """Fit the heads that `settings.heads` requests at the end of a training, and enable them in its
    bundle. Returns False, after a sentence on stderr, where there is too little to fit on; the
    bundle then stays without them.
    """
    requested, bundle = settings.heads, context.out / "bundle"
    if settings.bank is None or not (requested.svm or requested.regression):
        return True
    loaded, after = load_bundle(bundle), settings.bank.after
    # Never int8, which is for whole networks only.
    precision: Precision = (
        "bfloat16" if fastest_precision(context.device) == "bfloat16" else "float32"
    )
    features = BankFeatures(dataset, bank, loaded.models, after, context, precision)
    data = f"{pluralise(len(dataset), 'image')}, the bank of the training"
    try:
        fitted = fit_all(features, dataset.classes, requested, data)
    except TrainingError as error:
        typer.echo(f"{bundle} is without heads: {error}", err=True)
        return False
    # Into the same bundle: one command ends with the whole detector.
    save_heads(bundle, bundle, fitted, thresholds_with(loaded.manifest, fitted, True))
    if not context.quiet:
        typer.echo(f"fitted {', '.join(sorted({head.kind for head, _ in fitted}))}", err=True)
    return True
