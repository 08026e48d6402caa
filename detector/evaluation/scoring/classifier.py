"""Class probabilities of labelled images: the mean over an image's crops, for one network.

Section 7 of arXiv 1409.4842: "the softmax probabilities are averaged over multiple crops"; members
are averaged the same way afterwards, so each is computed alone and cached.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from detector.datasets.labelled.images import LabelledImages
from detector.detection.ensemble import Ensemble, Member
from detector.errors import ImageError
from detector.evaluation.scoring.probability_cache import ProbabilityCache
from detector.evaluation.views import views
from detector.images.decoding import decode
from detector.models.inference.prepare import Precision
from detector.models.input_normalisation import CENTRED
from detector.models.weights.classifier_file import Classifier
from detector.progress.prefetch import prefetched
from detector.structures import Array

# About so many crops are computed at once: one image's single crop would leave a batch empty.
_TOGETHER = 64


@dataclass
class ClassifierScores:
    """Computes the cached probabilities of one network; unreadable files are listed in `broken` and
    stay unknown.
    """

    classifier: Classifier
    images: LabelledImages
    kept: ProbabilityCache
    crops: int
    short_side: int
    broken: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = self.kept.missing()
        step = max(1, _TOGETHER // self.crops)
        self.groups = [missing[i : i + step] for i in range(0, len(missing), step)]

    def __len__(self) -> int:
        return len(self.groups)

    def run(self, precision: Precision, device: torch.device, threads: int) -> Iterator[int]:
        """Compute the missing probabilities; yields after each group of images, whose results are
        then cached.
        """
        model, size = self.classifier.model, self.classifier.input_size
        member = Member(model, size, getattr(model, "normalisation", CENTRED))
        ensemble = Ensemble([member], precision=precision, device=device, workers=threads)
        ready = prefetched(self._views, self.groups, threads=min(threads, 4))
        for number, (rows, pixels) in enumerate(ready):
            if len(rows):  # none where every file of the group is broken
                probability = ensemble({member.spec: torch.from_numpy(pixels)})
                mean = probability.view(len(rows), self.crops, -1).mean(1)
                self.kept.put(rows, mean.numpy())
            yield number

    def _views(self, group: Array) -> tuple[Array, Array]:
        size = self.classifier.input_size
        rows, pixels = [], [np.zeros((0, 3, size, size), np.float32)]
        for row in group:
            file = self.images.files[row]
            try:
                image = decode(self.images.read(file), file).pixels
            except ImageError as error:
                self.broken[file] = str(error)
                continue
            rows.append(row)
            pixels.append(views(image, self.crops, size, self.short_side))
        return np.array(rows, np.int64), np.concatenate(pixels)
