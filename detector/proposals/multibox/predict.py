"""MultiBox as a proposer: the whole image in one pass, the most confident boxes kept.

arXiv 1312.2249, section 3.3. With `scales` above 1, crops of the image are looked at too (arXiv
1412.1441, section 3.4): 2 adds four, 3 adds nine more, each overlapping its neighbours by half.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from detector import boxes as box_ops
from detector.crops.warp import crop_batch
from detector.errors import SettingsError, brief
from detector.images.decoding import check_pixels
from detector.models.inference.prepare import FixedBatches, prepare_for_inference
from detector.proposals.merge import with_scores
from detector.proposals.multibox.network import MultiBoxNetwork
from detector.proposals.multibox.weights import TrainedMultiBox, load_multibox, normalisation_of
from detector.settings import Settings
from detector.structures import Array, Proposals

SHIPPED = Path(__file__).parents[2] / "weights" / "multibox" / "multibox.safetensors"
"""Where weights lie that come with the package."""
BORDER = 0.02
"""A box that ends so near (in shares of a crop) where its crop does was probably cut off there."""


class MultiBoxSettings(Settings):
    """What decides the boxes; `weights` is the SHA-256 of their file."""

    engine: Literal["multibox"] = "multibox"
    weights: str = ""
    keep: int = Field(200, ge=1, le=100_000)
    """Of one image; GoogLeNet's entry added 200 to selective search."""
    near_duplicates: float | None = Field(0.75, gt=0, le=1)
    """A box whose IoU with a more confident one is above this goes; None keeps all."""
    scales: int = Field(1, ge=1, le=3)
    """1 sees the whole image only."""


class MultiBox:
    """Image (H, W, 3) uint8 RGB -> Proposals with confidences, best first.

    The result is a function of the image: `threads` changes only the time.
    """

    def __init__(
        self,
        weights: TrainedMultiBox | str | Path | None = None,
        *,
        threads: int = 1,
        device: torch.device | str = "cpu",
        **settings: Any,
    ) -> None:
        """`weights` of tools/train_multibox.py; None: those that come with the package."""
        self.device = torch.device(device)
        if weights is None and not SHIPPED.is_file():
            raise SettingsError(
                "multibox: no weights come with this package; train some with"
                " inception-rcnn train multibox and name them: multibox:weights=FILE"
            )
        if not isinstance(weights, TrainedMultiBox):
            weights = load_multibox(weights or SHIPPED)
        self.trained = weights
        self.settings = _validated({**settings, "weights": weights.sha256})
        model = prepare_for_inference(
            Joined(weights.network).to(self.device), "float32", normalisation_of(weights.network)
        )
        self.batches = FixedBatches(model, batch_size=1, workers=threads)

    def __call__(self, image: Array) -> Proposals:
        check_pixels(image)
        boxes, scores = self._predicted(image)
        chosen = np.argsort(-scores, kind="stable")[: 4 * self.settings.keep]
        boxes, scores = boxes[chosen], scores[chosen]
        if self.settings.near_duplicates is not None:
            kept = box_ops.nms(boxes, scores, self.settings.near_duplicates)
            boxes, scores = boxes[kept], scores[kept]
        return with_scores(boxes, scores, image.shape[:2], self.settings.keep)

    def _predicted(self, image: Array) -> tuple[Array, Array]:
        """(N, 4) boxes in the image's pixels, cut to it, and their confidences (N,)."""
        height, width = image.shape[:2]
        windows = _windows(self.settings.scales)
        side = self.trained.header.input_size
        places = windows * [width, height, width, height]
        crops = crop_batch(image, places, side, context=0, device=self.device)
        found = self.batches(crops).numpy().astype(np.float64)
        priors = self.trained.priors
        inside = np.clip(found[..., :4] * priors.deviation + priors.boxes, 0, 1)
        scores = 1 / (1 + np.exp(-np.clip(found[..., 4], -500, 500)))
        corner, sides = places[:, None, [0, 1, 0, 1]], (places[:, 2:] - places[:, :2])
        boxes = corner + inside * sides[:, None, [0, 1, 0, 1]]
        cut = _cut_off(inside, windows)
        area = (boxes[..., 2:] - boxes[..., :2] >= 1).all(-1)
        return boxes[area & ~cut], scores[area & ~cut]


def _windows(scales: int) -> Array:
    """(W, 4) fractions of the image: all of it, then 2 x 2 and 3 x 3 parts that overlap by half."""
    found = []
    for count in range(1, scales + 1):
        side = 2 / (count + 1)
        starts = np.linspace(0, 1 - side, count) if count > 1 else np.zeros(1)
        found += [[x, y, x + side, y + side] for y in starts for x in starts]
    return np.array(found)


def _cut_off(inside: Array, windows: Array) -> Array:
    """(W, K) whether a box (W, K, 4), in fractions of its window, ends where the window does though
    the image goes on.
    """
    near = np.concatenate([inside[..., :2] < BORDER, inside[..., 2:] > 1 - BORDER], -1)
    goes_on = np.concatenate([windows[:, :2] > 1e-9, windows[:, 2:] < 1 - 1e-9], -1)
    found: Array = (near & goes_on[:, None]).any(-1)
    return found


class Joined(nn.Module):
    """Crops (N, 3, S, S) to (N, K, 5): locations and the logit, in one tensor."""

    def __init__(self, network: MultiBoxNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        location, logits = self.network(crops)
        return torch.cat([location, logits[..., None]], -1)


def _validated(values: dict[str, Any]) -> MultiBoxSettings:
    try:
        return MultiBoxSettings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part)[:80] for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = ", ".join(MultiBoxSettings.model_fields)
            raise SettingsError(f"multibox has no setting {name!r}; there are: {known}") from None
        raise SettingsError(f"multibox: {name} = {brief(fault['input'])}: {fault['msg']}") from None
