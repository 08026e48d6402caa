"""A MultiBox that is small and untrained, on a narrow GoogLeNet."""

import numpy as np
import torch

from detector.proposals.multibox.network import HeadSettings
from detector.proposals.multibox.priors import Priors, free_priors, grid_priors
from detector.proposals.multibox.weights import MultiBoxHeader, TrainedMultiBox, build_network


def some_boxes(count: int, seed: int = 0) -> np.ndarray:
    """(count, 4) fractions of an image."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.05, 0.4, (count, 2))], 1)


def priors_on(grids: tuple[int, ...]) -> Priors:
    """On grids; 50 free ones for ()."""
    boxes = some_boxes(120)
    return grid_priors(boxes, grids=grids) if grids else free_priors(boxes, 50)


def small(grids: tuple[int, ...] = (2, 1), stored_as: str = "float32") -> TrainedMultiBox:
    priors = priors_on(grids)
    header = MultiBoxHeader(
        architecture="googlenet", options={"width": 0.125}, after="3b", input_size=64,
        heads=HeadSettings(priors="grids" if grids else 50, width=16, hidden=16),
        grids=grids, stored_as=stored_as,
    )  # fmt: skip
    torch.manual_seed(0)
    return TrainedMultiBox(build_network(header, priors).eval(), priors, header, "0" * 64)
