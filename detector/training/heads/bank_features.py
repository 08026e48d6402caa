"""Features for heads from the maps of a training's bank: no crop is made and no trunk runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detector import boxes as box_ops
from detector.detection.bundle import Bundle
from detector.errors import SettingsError, TrainingError
from detector.heads.fit import need_every_class
from detector.heads.regions import DescribedImage
from detector.models.inference.prepare import FixedBatches, Precision, prepare_for_inference
from detector.models.split import Top
from detector.progress.bar import progress
from detector.settings import load_config, validate
from detector.structures import Annotations, Array
from detector.training.engine.context import RunContext
from detector.training.engine.feature_bank import FeatureBank, mirrored_rows
from detector.training.regions.inputs import build_setup, load_regions
from detector.training.regions.settings import RegionTrainingConfig


class BankFeatures:
    """The images of a training run with the features of the regions in its bank.

    A bank holds some regions mirrored. Those of an image come as an image of their own, with
    mirrored boxes and truth, so that box deltas have the right sign; an object comes once, with
    the regions that include its own box.
    """

    def __init__(
        self, bundle: Bundle, context: RunContext, precision: Precision = "float32", *,
        every_class: bool = False,
    ) -> None:  # fmt: skip
        """Read the training in `context.out`. With `every_class`, a class without objects is an
        error before any features are computed.
        """
        run, threads, quiet = context.out, context.threads, context.quiet
        settings = _settings_of(run).model_copy(update={"teacher": None})
        data = load_regions(settings, context, reported=True)
        dataset, pool = data.dataset, data.pool
        if every_class:
            need_every_class((sample.annotations for sample in dataset.samples), dataset.classes)
        setup = build_setup(settings, dataset, pool, context)
        if bundle.manifest.network_classes != dataset.classes:
            raise SettingsError(f"{run} was trained on other classes than the bundle's")
        if not isinstance(setup.make, FeatureBank) or settings.bank is None:
            raise TrainingError(f"{run} kept no maps: its config has no bank")
        self.classes, self.dataset, self.pool = dataset.classes, dataset, setup.pool
        self.mirrored = mirrored_rows(setup.pool.image, settings.bank.seed)
        if not settings.augment.flip:
            self.mirrored[:] = False
        self.members, self.read = len(bundle.models), setup.make.read
        tops = [Top(model.to(context.device), settings.bank.after) for model in bundle.models]
        count, unreadable = len(setup.pool.boxes), setup.pool.image[~self.read]
        self.unread = data.unread + len(np.unique(unreadable))
        """Images of the training that cannot be read now, or could not when the maps were made."""
        self._features = [
            _described(setup.make, count, top, threads, quiet, precision) for top in tops
        ]

    def images(self, member: int, label: str) -> Iterable[DescribedImage]:
        """All images, with the features of one member."""
        del label  # computed already: there is no progress to show
        for image in np.unique(self.pool.image[self.read]):
            yield from self._of_image(int(image), self._features[member])

    def _of_image(self, image: int, features: Array) -> Iterator[DescribedImage]:
        sample = self.dataset.samples[image]
        truth = sample.annotations
        rows = np.flatnonzero(self.pool.image == image)
        real = truth[truth.real]
        object_rows = _rows_of_objects(self.pool.boxes[rows], real.boxes)
        others = np.setdiff1d(np.arange(len(rows)), object_rows)
        for mirrored in (False, True):
            shown = self.mirrored[rows[object_rows]] == mirrored
            other_rows = rows[others[self.mirrored[rows[others]] == mirrored]]
            chosen, image_truth = np.concatenate([rows[object_rows[shown]], other_rows]), truth
            if not len(chosen):
                continue
            boxes = np.concatenate([real.boxes[shown], self.pool.boxes[other_rows]])
            if mirrored:
                width = int(np.ceil(max(boxes[:, 2].max(), truth.boxes[:, 2].max(initial=0))))
                boxes = box_ops.flip_horizontally(boxes, width)
                image_truth = _flipped(truth, width)
            yield DescribedImage(boxes, features[chosen], image_truth, sample.background_of, shown)


def _settings_of(run: Path) -> RegionTrainingConfig:
    path = run / "config.yaml"
    if not path.is_file():
        raise SettingsError(
            f"{path}: no such file; give the --out folder of a training with a bank"
        )
    settings: RegionTrainingConfig = validate(RegionTrainingConfig, load_config(path), str(path))
    return settings


def _described(
    bank: FeatureBank, count: int, top: Top, threads: int, quiet: bool, precision: Precision
) -> Array:
    """Features (count, F) float32 of all maps of a bank."""
    network: Any = prepare_for_inference(top, precision)
    run = FixedBatches(network, batch_size=64, workers=threads)
    chunks = np.array_split(np.arange(count), max(1, count // 512))
    parts = [
        run(bank.maps.read(rows), network.features).numpy()
        for rows in progress(chunks, "features", quiet=quiet)
    ]
    return np.concatenate(parts)


def _rows_of_objects(boxes: Array, objects: Array) -> Array:
    """For each object the row of the region that is its box; a bank has all of them."""
    if not len(objects):
        return np.zeros(0, np.int64)
    rows: Array = box_ops.iou(objects, boxes).argmax(1)
    return rows


def _flipped(truth: Annotations, width: int) -> Annotations:
    return Annotations(
        box_ops.flip_horizontally(truth.boxes, width), truth.labels, truth.difficult, truth.crowd,
        truth.areas,
    )  # fmt: skip
