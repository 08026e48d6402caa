"""MultiBox as a proposer: one pass over the whole image, then the most confident boxes.

arXiv 1312.2249, section 3.3. With `scales` above 1 the network also sees crops of the image (arXiv
1412.1441, section 3.4): 2 adds four, 3 adds nine more, each overlapping its neighbours by half.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from detector import boxes as box_ops
from detector.crops.warp import crop_batch
from detector.errors import SettingsError
from detector.images.decoding import check_pixels
from detector.models.inference.prepare import FixedBatches, prepare_for_inference
from detector.proposals.merge import proposals_by_score
from detector.proposals.multibox.network import MultiBoxNetwork
from detector.proposals.multibox.weights import TrainedMultiBox, load_multibox
from detector.settings import Settings, validate
from detector.structures import Array, Proposals

# Path of the weights that come with the package.
SHIPPED = Path(__file__).parents[2] / "weights" / "multibox" / "multibox.safetensors"
# A box that ends nearer than this to the border of its crop (in fractions) was probably cut.
BORDER = 0.02


class MultiBoxSettings(Settings):
    """Settings that determine the boxes; `weights` is the SHA-256 of the weights' file."""

    engine: Literal["multibox"] = "multibox"
    weights: str = ""
    keep: int = Field(200, ge=1, le=100_000)
    """Boxes of one image; GoogLeNet's entry added 200 to selective search."""
    near_duplicates: float | None = Field(0.75, gt=0, le=1)
    """Drop a box whose IoU with a more confident one is above this; None keeps all."""
    scales: int = Field(1, ge=1, le=3)
    """Scales of the multi-crop evaluation; 1 is the whole image only."""


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
        """`weights` of inception-rcnn train multibox; None for those that come with the package."""
        self.device = torch.device(device)
        if weights is None and not SHIPPED.is_file():
            raise SettingsError(
                "multibox: no weights come with this package; train some with"
                " inception-rcnn train multibox and name them: multibox:weights=FILE"
            )
        if not isinstance(weights, TrainedMultiBox):
            weights = load_multibox(weights or SHIPPED)
        self.trained = weights
        values = {**settings, "weights": weights.sha256}
        self.settings = validate(MultiBoxSettings, values, "multibox")
        model = prepare_for_inference(
            SingleOutput(weights.network).to(self.device),
            "float32",
            weights.network.trunk.normalisation,
        )
        # One image has one crop by default; a larger batch would be padded with zeros.
        self.batches = FixedBatches(model, batch_size=1, workers=threads)

    def __call__(self, image: Array) -> Proposals:
        check_pixels(image)
        boxes, scores = self._predict(image)
        # Four times as many as are returned: suppression must leave enough of them.
        chosen = np.argsort(-scores, kind="stable")[: 4 * self.settings.keep]
        boxes, scores = boxes[chosen], scores[chosen]
        if self.settings.near_duplicates is not None:
            keep = box_ops.nms(boxes, scores, self.settings.near_duplicates)
            boxes, scores = boxes[keep], scores[keep]
        return proposals_by_score(boxes, scores, image.shape[:2], self.settings.keep)

    def _predict(self, image: Array) -> tuple[Array, Array]:
        """Boxes (N, 4) in the image's pixels, clipped to it, and their confidences (N,)."""
        height, width = image.shape[:2]
        windows = _windows(self.settings.scales)
        side = self.trained.header.input_size
        regions = windows * [width, height, width, height]
        # No context: priors are fractions of exactly this window.
        crops = crop_batch(image, regions, side, context=0, device=self.device)
        outputs = self.batches(crops).numpy().astype(np.float64)
        priors = self.trained.priors
        inside = np.clip(outputs[..., :4] * priors.deviation + priors.boxes, 0, 1)
        # Clipped, since exp overflows beyond 709.
        scores = 1 / (1 + np.exp(-np.clip(outputs[..., 4], -500, 500)))
        corner, sides = regions[:, None, [0, 1, 0, 1]], (regions[:, 2:] - regions[:, :2])
        boxes = corner + inside * sides[:, None, [0, 1, 0, 1]]
        cut = _cut_off(inside, windows)
        area = (boxes[..., 2:] - boxes[..., :2] >= 1).all(-1)
        return boxes[area & ~cut], scores[area & ~cut]


def _windows(scales: int) -> Array:
    """Crops (W, 4) as fractions: the whole image, then 2 x 2 and 3 x 3 that overlap by half."""
    windows = []
    for count in range(1, scales + 1):
        side = 2 / (count + 1)
        starts = np.linspace(0, 1 - side, count)
        windows += [[x, y, x + side, y + side] for y in starts for x in starts]
    return np.array(windows)


def _cut_off(inside: Array, windows: Array) -> Array:
    """Mask (W, K) of boxes (W, K, 4), in fractions of their windows, that end at the border of
    their window although the image continues there.
    """
    near = np.concatenate([inside[..., :2] < BORDER, inside[..., 2:] > 1 - BORDER], -1)
    # 1e-9: the last window of a row ends at 1 up to rounding.
    goes_on = np.concatenate([windows[:, :2] > 1e-9, windows[:, 2:] < 1 - 1e-9], -1)
    return (near & goes_on[:, None]).any(-1)


class SingleOutput(nn.Module):
    """Crops (N, 3, S, S) to one tensor (N, K, 5): locations, then the logit."""

    def __init__(self, network: MultiBoxNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        location, logits = self.network(crops)
        return torch.cat([location, logits[..., None]], -1)
