"""Top-1 and top-5 of a network in training, by one central crop of each validation image."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detector.datasets.labelled import LabelledImages
from detector.errors import ImageError
from detector.evaluation.classification import hits
from detector.evaluation.views import views
from detector.images import decode
from detector.training.batches import prefetched
from detector.training.distributed import Group


class Accuracy(NamedTuple):
    """Shares of the images that could be read."""

    top1: float
    top5: float
    images: int


def validate(
    network: nn.Module,
    images: LabelledImages,
    size: int,
    feed: Callable[[Tensor], Tensor],
    *,
    group: Group,
    threads: int = 1,
    batch: int = 64,
) -> Accuracy:
    """The accuracy of a network in evaluation mode; each process judges its share.

    feed  from centred crops (N, 3, S, S) to what the network takes, on its device
    """
    own = np.arange(len(images))[group.rank :: group.world]
    batches = [own[start : start + batch] for start in range(0, len(own), batch)]

    def made(number: int) -> tuple[Tensor, Tensor]:
        return _central_crops(images, batches[number], size)

    found = torch.zeros(3, dtype=torch.float64)
    with torch.inference_mode():
        for crops, labels in prefetched(made, 0, len(batches), threads=threads):
            if not len(labels):
                continue
            scores, truth = network(feed(crops)).float().cpu().numpy(), labels.numpy()
            right = [hits(scores, truth, k).sum() for k in (1, 5)]
            found += torch.tensor([*right, len(truth)], dtype=torch.float64)
    device = next(network.parameters()).device
    top1, top5, count = group.sum(found.float().to(device)).tolist()
    return Accuracy(top1 / max(count, 1), top5 / max(count, 1), int(count))


def _central_crops(images: LabelledImages, rows: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
    """(crops, labels) of the images that can be read."""
    crops, labels = [], []
    for row in rows:
        file = images.files[row]
        try:
            pixels = decode(images.read(file), file).pixels
        except ImageError:
            continue
        crops.append(views(pixels, 1, size)[0])
        labels.append(int(images.labels[row]))
    made = np.stack(crops) if crops else np.zeros((0, 3, size, size), np.float32)
    return torch.from_numpy(made), torch.tensor(labels, dtype=torch.int64)
