"""Validation during training: top-1 and top-5 accuracy on one central crop of each image."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detector.datasets.labelled.images import LabelledImages
from detector.errors import ImageError
from detector.evaluation.classification import hits
from detector.evaluation.views import views
from detector.images.decoding import decode
from detector.progress.prefetch import prefetched
from detector.training.engine.distributed import Group


class Accuracy(NamedTuple):
    """Shares of the `images` that could be read; NaN if there were none."""

    top1: float
    top5: float
    images: int

    def __str__(self) -> str:
        if not self.images:
            return "no image could be read"
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%}"


def validate(
    network: nn.Module,
    images: LabelledImages,
    size: int,
    feed: Callable[[Tensor], Tensor],
    *,
    group: Group,
    threads: int = 1,
    batch: int = 64,
    broken: dict[str, str] | None = None,
) -> Accuracy:
    """The accuracy of a network in evaluation mode; each process takes its share of the images.

    feed    centred crops (N, 3, S, S) -> the network's input, on its device
    broken  receives the unreadable files of this process's share, and why
    """
    unread = {} if broken is None else broken
    share = np.arange(len(images))[group.rank :: group.world_size]
    batches = [share[start : start + batch] for start in range(0, len(share), batch)]

    def load_crops(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        return _central_crops(images, rows, size, unread)

    sums = torch.zeros(3, dtype=torch.float64)
    with torch.inference_mode():
        for crops, labels in prefetched(load_crops, batches, threads=threads):
            if not len(labels):  # none of these could be read
                continue
            scores, truth = network(feed(crops)).float().cpu().numpy(), labels.numpy()
            right = [hits(scores, truth, k).sum() for k in (1, 5)]
            sums += torch.tensor([*right, len(truth)], dtype=torch.float64)
    device = next(network.parameters()).device
    # Sums, not shares: processes may have read different numbers of images.
    top1, top5, count = group.all_reduce(sums.float().to(device)).tolist()
    if not count:
        return Accuracy(math.nan, math.nan, 0)
    return Accuracy(top1 / count, top5 / count, int(count))


def _central_crops(
    images: LabelledImages, rows: np.ndarray, size: int, broken: dict[str, str]
) -> tuple[Tensor, Tensor]:
    crops, labels = [], []
    for row in rows:
        file = images.files[row]
        try:
            pixels = decode(images.read(file), file).pixels
        except ImageError as error:
            broken[file] = str(error)
            continue
        crops.append(views(pixels, 1, size)[0])
        labels.append(int(images.labels[row]))
    stacked = np.stack(crops) if crops else np.zeros((0, 3, size, size), np.float32)
    return torch.from_numpy(stacked), torch.tensor(labels, dtype=torch.int64)
