"""The fit of new classes: regions and their features, heads, reports, and the bundle."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets import Dataset, Sample
from detector.detection.bundle import BundleManifest, save_heads
from detector.detection.detector import Detector
from detector.errors import DatasetError, ImageError
from detector.evaluation.result import without_nan
from detector.heads import HeadManifest, SvmSettings
from detector.heads.class_examples import ClassExamples
from detector.heads.few_shot import FittedClass, OneClassSettings, fit_one_class
from detector.heads.stored import load_examples
from detector.images.decoding import read_image
from detector.progress.bar import duration, progress
from detector.progress.messages import pluralise, say
from detector.proposals.engines import ProposalConfig, build_engine
from detector.settings import validate
from detector.structures import Proposals
from detector.training.heads.class_data import contradictions
from detector.training.heads.class_regions import (
    DescribedRegions,
    describe,
    examples_of_class,
    plan_regions,
)
from detector.training.heads.class_report import ClassReport, report_on
from detector.training.heads.data_features import describe_regions, load, proposals_of
from detector.training.heads.settings import FitClassesSettings

MIN_CROPS = 300
# Regions by which the speed is measured.
PACE_REGIONS = 64
# Objects below this quantile of sides may be too small for the search; no side is below MIN_SIDE.
SMALL_SHARE, MIN_SIDE = 0.1, 4


class ClassLearner:
    """One fit of new classes, from the images to the bundle."""

    def __init__(
        self, dataset: Dataset, bundle: Path, manifest: BundleManifest,
        settings: FitClassesSettings, device: str, quiet: bool, started: float,
    ) -> None:  # fmt: skip
        self.dataset, self.bundle, self.manifest = dataset, bundle, manifest
        self.settings, self.quiet, self.started = settings, quiet, started
        self.detector = load(
            bundle, 1, settings.max_proposals, device, settings.precision, settings.threads
        )
        self.options: dict[str, Any] | None = None  # of the proposals, where they change
        self.examples = OneClassSettings(svm=SvmSettings(seed=settings.seed))
        self.earlier = {
            head.name: (head, load_examples(bundle, head.examples, self._features))
            for head in manifest.heads
            if head.name in dataset.classes and head.examples is not None
        }

    @property
    def _features(self) -> int:
        last = self.detector.ensemble.members[0].model.get_submodule("classifier")
        return int(getattr(last, "in_features"))  # noqa: B009 a module's attributes are untyped

    def run(
        self, out: Path, remove: Sequence[str]
    ) -> tuple[tuple[ClassReport, ...], tuple[str, ...], bool]:
        """Fit the classes and write the bundle; returns the reports, warnings about the data, and
        True if all images could be read.
        """
        warnings = contradictions(self.dataset)
        crops = self._crops()
        samples = proposals_of(self.dataset, self.detector, None, self.quiet)
        side = min_side(samples, getattr(self.detector.proposer, "settings", None))
        if side is not None:
            warnings.append(self._with_smaller_proposals(side))
            samples = proposals_of(self.dataset, self.detector, None, self.quiet)
        if self.manifest.thresholds.prescore is not None:
            warnings.append(
                "the pre-scorer does not know the new classes: all regions are classified again,"
                " unless --prescore asks for the best"
            )
        examples = self.examples.model_copy(update={"crops": crops})
        rng = np.random.default_rng(self.settings.seed)
        plans = plan_regions(samples, len(self.dataset.classes), examples, rng)
        images = [
            describe(self.detector, plan) for plan in progress(plans, "regions", quiet=self.quiet)
        ]
        fitted = [
            fit_one_class(self._examples_of(images, label, examples, rng), examples)
            for label in progress(range(len(self.dataset.classes)), "fits", quiet=self.quiet)
        ]
        reports = [
            report_on(
                images, self.dataset.classes, label, fitted, self.detector, self._counts(name)
            )
            for label, name in enumerate(self.dataset.classes)
        ]
        self._save(out, fitted, reports, examples, remove)
        complete = len(samples) == len(self.dataset)
        return tuple(reports), tuple(warnings), complete

    def _crops(self) -> int:
        """The number of regions: as set, or as the budget allows; says how long it will take."""
        settings = self.settings
        crops = settings.crops or self.examples.crops
        if settings.budget is None and self.quiet:
            return crops
        search, rate = _pace(self.detector, self.dataset)
        searches = search * len(self.dataset) / max(1, self.detector.threads)
        if settings.budget is not None and settings.crops is None:
            left = settings.budget - (time.perf_counter() - self.started) - searches
            # The fits take about a quarter of the time.
            crops = max(MIN_CROPS, int(0.75 * left * rate))
        if not self.quiet:
            names = ", ".join(self.dataset.classes)
            total = 1.3 * (searches + crops / rate)
            say(
                f"learning {names} from {pluralise(len(self.dataset), 'image')}, at most"
                f" {crops:,} regions: about {duration(total)}"
            )
        return crops

    def _with_smaller_proposals(self, side: int) -> str:
        stored = validate(ProposalConfig, self.manifest.proposals, "proposals")
        self.options = {**stored.options, "min_box_side": side}
        threads = {"threads": self.detector.threads}
        proposer = build_engine(stored.engine, {**self.options, **threads})
        before = getattr(self.detector.proposer, "settings").min_box_side  # noqa: B009
        self.detector = replace(self.detector, proposer=proposer)
        return (
            f"some objects are small: the new bundle proposes regions from {side} pixels on (before"
            f" {before}), for its other classes, too"
        )

    def _examples_of(
        self, images: Sequence[DescribedRegions], label: int, settings: OneClassSettings,
        rng: np.random.Generator,
    ) -> ClassExamples:  # fmt: skip
        new = examples_of_class(images, label, settings, rng)
        if (earlier := self.earlier.get(self.dataset.classes[label])) is None:
            return new
        # New images keep their numbers, on which the folds depend.
        return new.with_earlier(earlier[1], len(images))

    def _counts(self, name: str) -> tuple[int, int]:
        """Boxes and images of earlier fits of a class."""
        if name not in self.earlier:
            return 0, 0
        recipe = self.earlier[name][0].recipe
        return int(recipe.get("boxes", 0)), int(recipe.get("images", 0))

    def _save(
        self, out: Path, fitted: Sequence[FittedClass], reports: Sequence[ClassReport],
        settings: OneClassSettings, remove: Sequence[str],
    ) -> None:  # fmt: skip
        pairs = []
        for report, one in zip(reports, fitted, strict=True):
            ap = report.average_precision
            recipe = {
                "data": self.dataset.name, "boxes": report.boxes, "images": report.images,
                "average_precision": ap and asdict(ap), "threshold": report.threshold,
                "reached": report.reached if report.boxes else None, **settings.model_dump(),
            }  # fmt: skip
            manifest = HeadManifest(kind="class", name=report.name, recipe=without_nan(recipe))
            pairs.append((manifest, one.head))
        proposals = None
        if self.options is not None:
            proposals = {**self.manifest.proposals, "options": self.options}
        chosen: dict[str, Any] = {"prescore": None}
        if self.settings.max_proposals is not None:
            chosen["max_proposals"] = self.settings.max_proposals
        thresholds = self.manifest.thresholds.model_copy(update=chosen)
        examples = {report.name: one.examples for report, one in zip(reports, fitted, strict=True)}
        save_heads(
            self.bundle, out, pairs, thresholds, examples=examples, remove=remove,
            proposals=proposals,
        )  # fmt: skip


def min_side(samples: Sequence[tuple[Sample, Proposals]], settings: Any) -> int | None:
    """The least side of proposals that small objects need, in pixels of the search; None where they
    are large enough for the engine's `settings`, or these have no such limit.
    """
    least, longest = (
        getattr(settings, "min_box_side", None),
        getattr(settings, "longest_side", None),
    )
    sides = [np.zeros(0)]
    for sample, found in samples:
        boxes = sample.annotations.boxes[sample.annotations.real]
        scale = min(1.0, longest / max(found.size)) if longest else 1.0
        sides.append(scale * (boxes[:, 2:] - boxes[:, :2]).min(1))
    every = np.concatenate(sides)
    if least is None or not len(every):
        return None
    small = float(np.quantile(every, SMALL_SHARE))
    return max(MIN_SIDE, int(0.8 * small)) if small < least else None


def _pace(detector: Detector, dataset: Dataset) -> tuple[float, float]:
    """Seconds of a search, and regions a second, measured on the first image that can be read."""
    for sample in dataset.samples:
        try:
            image = read_image(sample.path)
        except ImageError:
            continue
        for _ in range(2):  # the first time includes what is done once
            started = time.perf_counter()
            found = detector.propose(image)
            searched = time.perf_counter()
            boxes = np.resize(found.boxes, (PACE_REGIONS, 4))
            describe_regions(detector, image, boxes)
            described = time.perf_counter()
        return searched - started, PACE_REGIONS / (described - searched)
    raise DatasetError(f"{dataset.name}: none of its images can be read")
