"""Features for heads from the maps of a training's bank: no crop is made and no trunk runs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import nn

from detector import boxes as box_ops
from detector.datasets import Dataset
from detector.errors import SettingsError, TrainingError
from detector.heads.region_features import DescribedImage
from detector.heads.svm_and_regression import need_every_class
from detector.models.inference.prepare import FixedBatches, Precision, prepare_for_inference
from detector.models.split import Top, Trunk
from detector.progress.bar import progress
from detector.settings import load_config, validate
from detector.structures import Annotations, Array
from detector.training.engine.context import RunContext
from detector.training.engine.run_folder import CONFIG
from detector.training.regions.bank import RegionBank
from detector.training.regions.data import load_regions
from detector.training.regions.member import open_bank, start_network
from detector.training.regions.settings import RegionTrainingConfig


class BankFeatures:
    """The images of a training run with the features of the regions in its bank.

    A bank holds some regions mirrored. Those of an image come as an image of their own, with
    mirrored boxes and truth, so that box deltas have the right sign; an object comes once, with
    the regions that include its own box.
    """

    def __init__(
        self, dataset: Dataset, bank: RegionBank, models: Sequence[nn.Module], after: str,
        context: RunContext, precision: Precision = "float32",
    ) -> None:  # fmt: skip
        """Run the layers of `models` above the module `after`, where the bank's trunk ends."""
        self.dataset, self.pool, self.read = dataset, bank.pool, bank.read
        # Lots are drawn even where nothing is flipped.
        self.mirrored = bank.mirrored & bank.crops.augment.flip
        self.members = len(models)
        self._features = [
            _described(bank, Top(model.to(context.device), after), context, precision)
            for model in models
        ]

    @property
    def unread(self) -> int:
        """The number of images that could not be read when the maps were made."""
        return len(np.unique(self.pool.image[~self.read]))

    def images(self, member: int, label: str) -> Iterable[DescribedImage]:
        """All images, with the features of one member."""
        del label  # the features are computed already: there is no progress to show
        for image in np.unique(self.pool.image[self.read]):
            yield from self._of_image(int(image), self._features[member])

    def _of_image(self, image: int, features: Array) -> Iterator[DescribedImage]:
        sample = self.dataset.samples[image]
        truth = sample.annotations
        rows = np.flatnonzero(self.pool.image == image)
        real = truth[truth.real]
        # A bank has the box of each object: the region that overlaps it most.
        at = np.zeros(0, np.int64)
        if len(real):
            at = box_ops.iou(real.boxes, self.pool.boxes[rows]).argmax(1)
        others = np.setdiff1d(np.arange(len(rows)), at)
        for mirrored in (False, True):
            shown = self.mirrored[rows[at]] == mirrored
            other_rows = rows[others[self.mirrored[rows[others]] == mirrored]]
            chosen, image_truth = np.concatenate([rows[at[shown]], other_rows]), truth
            if not len(chosen):
                continue
            boxes = np.concatenate([real.boxes[shown], self.pool.boxes[other_rows]])
            if mirrored:
                # Any width that holds all boxes will do: deltas are differences.
                width = int(np.ceil(max(boxes[:, 2].max(), truth.boxes[:, 2].max(initial=0))))
                boxes = box_ops.flip_horizontally(boxes, width)
                image_truth = Annotations(
                    box_ops.flip_horizontally(truth.boxes, width), truth.labels, truth.difficult,
                    truth.crowd, truth.areas,
                )  # fmt: skip
            yield DescribedImage(boxes, features[chosen], image_truth, sample.background_of, shown)


def features_of_run(
    classes: tuple[str, ...], models: Sequence[nn.Module], context: RunContext,
    precision: Precision = "float32", *, every_class: bool = False,
) -> tuple[BankFeatures, int]:  # fmt: skip
    """The features of the training in `context.out`, and how many of its images cannot be read.

    classes      of the networks `models`
    every_class  a class without objects is an error before any features are computed
    """
    path = context.out / CONFIG
    if not path.is_file():
        raise SettingsError(
            f"{path}: no such file; give the --out folder of a training with a bank"
        )
    settings = validate(RegionTrainingConfig, load_config(path), str(path))
    data = load_regions(settings, context, reported=True)  # the training has said it all
    if every_class:
        truths = (sample.annotations for sample in data.dataset.samples)
        need_every_class(truths, data.dataset.classes)
    if classes != data.dataset.classes:
        raise SettingsError(f"{context.out} was trained on other classes than the bundle's")
    if settings.bank is None:
        raise TrainingError(f"{context.out} kept no maps: its config has no bank")
    # The bank is bound to its trunk, which a bundle keeps with fewer digits than the start has.
    trunk = Trunk(start_network(settings, data.dataset, context), settings.bank.after)
    bank = open_bank(settings, trunk, data, context)
    found = BankFeatures(data.dataset, bank, models, settings.bank.after, context, precision)
    return found, data.unread + found.unread


def _described(bank: RegionBank, top: Top, context: RunContext, precision: Precision) -> Array:
    """Features (N, F) float32 of all maps of a bank."""
    network: Any = prepare_for_inference(top, precision)
    run = FixedBatches(network, batch_size=64, workers=context.threads)
    count = len(bank.pool.boxes)
    chunks = np.array_split(np.arange(count), max(1, count // 512))
    parts = [
        run(bank.cache.read(rows), network.features).numpy()
        for rows in progress(chunks, "features", quiet=context.quiet)
    ]
    return np.concatenate(parts)
