"""Fit linear heads on a bundle's features: SVMs and box regression, or one class more in minutes.

    python tools/fit_heads.py --data VOC2012 --split train --out runs/with_heads
    python tools/fit_heads.py --bank runs/voc --weights runs/voc/bundle --out runs/with_heads
    python tools/fit_heads.py --add mug --data few_images/ --out runs/with_mugs
    python tools/detect.py image.jpg --weights runs/with_heads --svm --regression

The networks stay as they are. SVMs and regression keep the features that they see in OUT.features:
run the same command again to go on after an interruption.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    from head_fitting.bank_features import BankFeatures

    from detector.bundle import BundleManifest, Thresholds
    from detector.datasets import Dataset, Sample
    from detector.heads import BoxRegression, HeadManifest, LinearScores
    from detector.heads.regions import DescribedImage
    from detector.models.inference import Precision
    from detector.pipeline import Detector
    from detector.region_features import FeatureStore
    from detector.structures import Array, Proposals

    Fitted = list[tuple[HeadManifest, LinearScores | BoxRegression]]


def main(
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    data: Annotated[
        Path | None, typer.Option(help="Data set: folder, COCO .json or YOLO .yaml.")
    ] = None,
    bank: Annotated[
        Path | None,
        typer.Option(help="In place of --data: a training's OUT, whose maps were kept; minutes."),
    ] = None,
    data_root: Annotated[
        Path, typer.Option(help="With --bank: where that training's data paths begin.")
    ] = Path("."),
    split: Annotated[str | None, typer.Option(help="Which part, such as train.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Bundle to fit on. [the one that ships with the package]")
    ] = None,
    add: Annotated[
        str | None, typer.Option(help="Add this class of the data set, from 5 to 100 boxes.")
    ] = None,
    boxes: Annotated[int, typer.Option(min=5, help="With --add: most boxes used.")] = 100,
    crops: Annotated[
        int, typer.Option(min=100, help="With --add: most regions described, about.")
    ] = 3000,
    background: Annotated[
        list[str], typer.Option(help="With --add: photographs without the class; may repeat.")
    ] = [],  # noqa: B006
    svm: Annotated[bool, typer.Option(help="Fit SVMs.")] = True,
    regression: Annotated[bool, typer.Option(help="Fit box regression.")] = True,
    enable: Annotated[
        bool, typer.Option(help="The new bundle uses them unless told not to.")
    ] = False,
    images: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, evenly spaced.")
    ] = None,
    max_proposals: Annotated[
        int | None,
        typer.Option(min=0, help="Most regions of one image; 0 is all. [the bundle's]"),
    ] = None,
    ensemble: Annotated[str, typer.Option(help="Number of members to fit on, or all.")] = "1",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features and proposals. [OUT.features]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [all cores]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is drawn.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> int:
    """Fit heads on a bundle's features."""
    from detector.build import SHIPPED
    from detector.bundle import read_manifest, save_heads
    from detector.datasets import COCO_TO_VOC, read_dataset

    started = time.perf_counter()
    bundle = weights or SHIPPED
    manifest = read_manifest(bundle)
    if (data is None) == (bank is None) or (add is not None and data is None):
        raise typer.BadParameter("give --data DATA, or for SVMs and regression --bank RUN")
    if add is None and not (svm or regression):
        raise typer.BadParameter("--no-svm --no-regression leaves nothing to fit")
    if bank is not None:
        kept = features_of_bank(
            bank, bundle, data_root, ensemble, device, precision, threads, quiet
        )
        recipe = {"data": f"{len(kept.dataset)} images of the bank of {bank.name}", "seed": seed}
        fitted = fit_all(kept, kept.classes, svm, regression, seed, recipe)
        save_heads(bundle, out, fitted, thresholds_with(manifest, fitted, enable))
        return say_written(out, started)
    assert data is not None
    dataset = read_dataset(data, split)
    if add is not None:
        check_new_class(add, manifest.classes, dataset)
        dataset = few_images(dataset.with_classes((add,)), boxes)
        dataset = with_background(dataset, background) if background else dataset
    else:
        rename = {old: new for old, new in COCO_TO_VOC.items() if old not in manifest.classes}
        dataset = dataset.with_classes(manifest.network_classes, rename)
        dataset = dataset if images is None else dataset.subset(images)
    detector = load(bundle, ensemble, device, precision, threads, max_proposals, quiet)
    recipe = {"data": f"{len(dataset)} images of {dataset.name}", "seed": seed}
    thresholds = manifest.thresholds
    if add is not None:
        samples = proposals_of(dataset, detector, None, quiet)
        fitted = [learn_class(add, samples, detector, crops, seed, recipe, quiet)]
    else:
        folder = cache or out.with_name(out.name + ".features")
        folder.mkdir(parents=True, exist_ok=True)
        samples = proposals_of(dataset, detector, folder / "proposals.sqlite", quiet)
        hashes = [member.sha256 for member in manifest.members][: len(detector.ensemble.members)]
        store = feature_store(folder, detector, hashes, precision)
        described = DataFeatures(samples, detector, store, quiet)
        fitted = fit_all(described, dataset.classes, svm, regression, seed, recipe)
        thresholds = thresholds_with(manifest, fitted, enable)
    save_heads(bundle, out, fitted, thresholds)
    say_written(out, started)
    return 1 if len(samples) < len(dataset) else 0


def thresholds_with(manifest: BundleManifest, fitted: Fitted, enable: bool) -> Thresholds:
    """The bundle's, with the fitted heads in use where they are to be."""
    now: dict[str, bool] = {head.kind: True for head, _ in fitted} if enable else {}
    return manifest.thresholds.model_copy(update=now)


def say_written(out: Path, started: float) -> int:
    taken = time.perf_counter() - started
    typer.echo(f"wrote {out} in {taken:.0f} s; try: python tools/detect.py IMAGE --weights {out}")
    return 0


def features_of_bank(
    run: Path, bundle: Path, data_root: Path, ensemble: str, device: str, precision: str,
    threads: int | None, quiet: bool,
) -> BankFeatures:  # fmt: skip
    """What SVMs and regression are fitted on where a training kept its maps."""
    import torch
    from head_fitting.bank_features import BankFeatures

    from detector.bundle import load_bundle
    from detector.hardware import choose_device
    from detector.models.inference import fastest_precision

    if precision == "auto":
        precision = fastest_precision(choose_device(device))
    if precision not in ("float32", "bfloat16"):
        raise typer.BadParameter(f"--precision {precision}: with --bank auto, float32 or bfloat16")
    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    loaded = load_bundle(bundle, members_of(ensemble))
    return BankFeatures(
        run, loaded, data_root, choose_device(device), threads, quiet,
        cast("Precision", precision),
    )  # fmt: skip


def members_of(ensemble: str) -> int | None:
    """--ensemble as a number of members; None is all."""
    if ensemble != "all" and not (ensemble.isdecimal() and int(ensemble) > 0):
        raise typer.BadParameter(f"--ensemble {ensemble}: expected a number of members, or all")
    return None if ensemble == "all" else int(ensemble)


def check_new_class(name: str, known: tuple[str, ...], dataset: Dataset) -> None:
    """The name can be added, and there is something to learn it from."""
    from detector.errors import DatasetError, SettingsError

    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise SettingsError(f"--add {name!r}: a class name is 1 to 100 printable characters")
    if name in known:
        raise SettingsError(f"--add {name}: the bundle has this class already")
    if name not in dataset.classes:
        some = ", ".join(dataset.classes[:8])
        raise DatasetError(f"{dataset.name}: no class {name!r}; it has {some}")


def few_images(dataset: Dataset, boxes: int) -> Dataset:
    """Evenly spaced images of those with the one class, as many as hold at most `boxes` objects."""
    from detector.errors import TrainingError
    from detector.heads.one_class import LEAST_BOXES

    def objects(part: Dataset) -> int:
        return sum(map(real_objects, part.samples))

    name = dataset.classes[0]
    having = dataset.subset([s.image_id for s in dataset.samples if real_objects(s)])
    if (found := objects(having)) < LEAST_BOXES:
        raise TrainingError(
            f"{dataset.name}: {found} boxes of {name} (difficult ones and crowds do not count);"
            f" at least {LEAST_BOXES} are needed"
        )
    parts = (having.subset(count) for count in range(min(len(having), boxes), 1, -1))
    part = next((part for part in parts if LEAST_BOXES <= objects(part) <= boxes), None)
    if part is None:
        raise TrainingError(
            f"{dataset.name}: {found} boxes of {name} in {len(having)} images: at least two images"
            f" with {LEAST_BOXES} to {boxes} boxes in all are needed, because scores are calibrated"
            " on images that the fit has not seen"
        )
    return part


def with_background(dataset: Dataset, photographs: list[str]) -> Dataset:
    """The data set and, evenly spaced, at most as many photographs without its class."""
    from dataclasses import replace

    from detector.datasets import Sample
    from detector.reporting.inputs import image_paths
    from detector.structures import Annotations

    paths = image_paths(photographs)
    count = min(len(paths), len(dataset))
    extra = tuple(
        Sample(f"background {i}", paths[i * len(paths) // count], None, Annotations.empty())
        for i in range(count)
    )
    return replace(dataset, samples=dataset.samples + extra)


def real_objects(sample: Sample) -> int:
    """How many objects are neither difficult nor crowds."""
    return int((~(sample.annotations.difficult | sample.annotations.crowd)).sum())


def load(
    bundle: Path, ensemble: str, device: str, precision: str, threads: int | None,
    max_proposals: int | None, quiet: bool,
) -> Detector:  # fmt: skip
    import torch

    from detector.build import load_detector
    from detector.hardware import choose_device

    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    settings: dict[str, Any] = {"svm": False, "regression": False}
    if max_proposals is not None:
        settings["max_proposals"] = max_proposals or None
    return load_detector(
        bundle,
        device=choose_device(device),
        precision=precision,
        members=members_of(ensemble),
        settings=settings,
        threads=threads,
        announce=None if quiet else lambda text: print(text, file=sys.stderr),
    )


def proposals_of(
    dataset: Dataset, detector: Detector, cache: Path | None, quiet: bool
) -> list[tuple[Sample, Proposals]]:
    """Each image that can be read with its proposals; the others are said on stderr."""
    from contextlib import nullcontext

    from detector.errors import DatasetError, ImageError
    from detector.proposals.gather import gather
    from detector.proposals.stored import ProposalStore
    from detector.reporting.cli import say_error
    from detector.reporting.progress import progress

    found = []
    paths = [sample.path for sample in dataset.samples]
    propose = detector.propose_regions
    with nullcontext() if cache is None else ProposalStore(cache, "rw") as store:
        results = gather(paths, propose, store, threads=detector.threads)
        told = progress(results, "proposals", len(paths), quiet)
        for sample, (_, result) in zip(dataset.samples, told, strict=True):
            if isinstance(result, ImageError):
                say_error(result)
            else:
                found.append((sample, result[: detector.settings.max_proposals]))
    if not found:
        raise DatasetError(f"{dataset.name}: none of its {len(paths)} images can be read")
    return found


def feature_store(
    folder: Path, detector: Detector, members: list[str], precision: str
) -> FeatureStore:
    """Where features are kept, by all that decides them; `members` are the networks' hashes."""
    from detector.models.inference import fastest_precision
    from detector.region_features import FeatureStore, feature_settings

    if precision == "auto":
        precision = fastest_precision(detector.device)
    return FeatureStore(folder, feature_settings(detector, members, precision))


class DataFeatures:
    """Images with the features of their regions, as often as they are asked for."""

    def __init__(
        self, samples: list[tuple[Sample, Proposals]], detector: Detector, store: FeatureStore,
        quiet: bool,
    ) -> None:  # fmt: skip
        self.samples, self.detector, self.store, self.quiet = samples, detector, store, quiet
        self.members = len(detector.ensemble.members)

    def images(self, member: int, label: str) -> Iterable[DescribedImage]:
        """All images, with the features of one member."""
        from detector.heads.regions import DescribedImage
        from detector.region_features import kept_features
        from detector.reporting.progress import progress

        label = label if self.members == 1 else f"member {member}: {label}"
        for sample, proposals in progress(self.samples, label, quiet=self.quiet):
            boxes = DescribedImage.regions(sample.annotations, proposals.boxes)
            features = kept_features(self.store, self.detector, sample.path, boxes)[member]
            yield DescribedImage(boxes, features, sample.annotations, sample.annotated)


def fit_all(
    described: DataFeatures | BankFeatures, classes: tuple[str, ...], svm: bool, regression: bool,
    seed: int, recipe: dict[str, Any],
) -> Fitted:  # fmt: skip
    """SVMs and box regression of all classes, on each member."""
    from functools import partial

    from detector.heads import HeadManifest, RegressionSettings, SvmSettings
    from detector.heads.fit import fit_regressions, fit_svms, mean_norm

    fitted: Fitted = []
    for member in range(described.members):
        images = partial(described.images, member)
        norm = mean_norm(images("features"))
        if svm:
            settings = SvmSettings(seed=seed)
            head = HeadManifest(kind="svm", member=member, recipe=recipe | settings.model_dump())
            fitted.append((head, fit_svms(images, classes, norm, settings)))
        if regression:
            how = RegressionSettings()
            head = HeadManifest(kind="regression", member=member, recipe=recipe | how.model_dump())
            fitted.append((head, fit_regressions(images, classes, norm, how)))
    return fitted


def learn_class(
    name: str, samples: list[tuple[Sample, Proposals]], detector: Detector, crops: int, seed: int,
    recipe: dict[str, Any], quiet: bool,
) -> tuple[HeadManifest, LinearScores]:  # fmt: skip
    """One class more, on the first member: choose regions, describe them, fit."""
    import numpy as np

    from detector.heads import HeadManifest, SvmSettings
    from detector.heads.one_class import (
        Described,
        OneClassSettings,
        background_order,
        choose_positives,
        fit_one_class,
    )
    from detector.images import read_image
    from detector.region_features import describe_regions
    from detector.reporting.progress import progress

    settings = OneClassSettings(crops=crops, svm=SvmSettings(seed=seed))
    rng = np.random.default_rng(seed)
    objects = [
        choose_positives(sample.annotations, found.boxes, found.size, settings, rng)
        for sample, found in samples
    ]
    share = max(20, (crops - sum(len(one.boxes) for one in objects)) // len(samples))
    early = round(share * settings.first_share)
    parts: tuple[list[Array], ...] = ([], [], [])  # objects, first background, the rest of it
    pairs = list(zip(samples, objects, strict=True))
    for (sample, found), own in progress(pairs, "regions", quiet=quiet):
        order = background_order(sample.annotations, found.boxes, settings, rng)[:share]
        boxes = np.concatenate([own.boxes, found.boxes[order]])
        mirrored = np.concatenate([own.mirrored, np.zeros(len(order), bool)])
        features = describe_regions(detector, read_image(sample.path), boxes, mirrored)[0]
        ends = [len(own.boxes), len(own.boxes) + early]
        for part, rows in zip(parts, np.split(features, ends), strict=True):
            part.append(rows)
    positives, first, second = (Described.stacked(part) for part in parts)
    head = fit_one_class(positives, first, second, settings)
    counts = {"boxes": sum(real_objects(sample) for sample, _ in samples)}
    recipe = recipe | counts | settings.model_dump()
    return HeadManifest(kind="class", name=name, recipe=recipe), head


if __name__ == "__main__":
    run_tool(main)
