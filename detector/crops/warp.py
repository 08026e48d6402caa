"""Crops: R-CNN's warp with context (Girshick et al. 2014, appendix A), without aliasing.

A region is stretched to a square of side S such that 16 of 227 pixels on each side are context from
around it; where that extends beyond the image, the mean colour is filled in. Crops are float32 RGB,
`pixel / 255 - FILL_MEAN`, so that the filling is exactly zero; each network converts this to its
own input (models/input_normalisation.py).

Departs from the paper: R-CNN sampled bilinearly at one point a pixel, which aliases when a large
region shrinks. Here the filter widens with the region (a triangle as wide as two output pixels),
and coordinates are not rounded.

Three versions of one definition: `crop_reference` (one region, dense weights, the reference of the
tests), a compiled one for the CPU that visits only the pixels under the filter, and one of matrix
products for every other device, of one image or of many (`crop_stack`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from detector.structures import FILL_MEAN, Array

if TYPE_CHECKING:
    import torch

# The filling as a uint8 pixel, for images that are padded to a larger array.
FILL_COLOUR = tuple(round(255 * level) for level in FILL_MEAN)

# Context on each side, as a share of the crop's side: R-CNN's 16 pixels at 227, for any S.
CONTEXT = 16 / 227
# Largest context: the region is a fiftieth of the crop then, and would vanish at a half.
MAX_CONTEXT = 0.49


def windows(boxes: Array, size: int, context: float = CONTEXT) -> tuple[Array, Array]:
    """Source windows of crops of side `size`: left-top corners (N, 2), and source pixels per output
    pixel (N, 2), both (x, y).
    """
    if not 0 <= context <= MAX_CONTEXT:
        raise ValueError(f"context {context} is not in [0, {MAX_CONTEXT}]")
    if size < 1:
        raise ValueError(f"crop side {size} is not at least 1")
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    border = context * size
    step = (boxes[:, 2:] - boxes[:, :2]) / (size - 2 * border)
    return boxes[:, :2] - border * step, step


def filter_weights(start: float, step: float, size: int, length: int) -> Array:
    """Weights (S, L) of a triangle filter at `size` points, `step` apart, over `length` pixels.

    Rows sum to one including the pixels outside [0, length), whose value is zero, the mean colour.
    """
    reach = max(1.0, step)
    centre = start + (np.arange(size) + 0.5) * step
    first = int(np.floor(centre[0] - reach - 1))
    last = int(np.ceil(centre[-1] + reach + 1))
    pixel = np.arange(min(first, 0), max(last, length))
    weight = np.clip(1 - np.abs(pixel + 0.5 - centre[:, None]) / reach, 0, None)
    weight /= weight.sum(1, keepdims=True)
    inside = (pixel >= 0) & (pixel < length)
    return weight[:, inside]


def crop_reference(image: Array, box: Array, size: int, context: float = CONTEXT) -> Array:
    """Crop one region of (H, W, 3) uint8 to (3, S, S) float32: slow, short and exact.

    The reference for the fast versions.
    """
    centred = image.astype(np.float64) / 255 - FILL_MEAN
    corner, step = windows(box, size, context)
    across = filter_weights(corner[0, 0], step[0, 0], size, image.shape[1])
    down = filter_weights(corner[0, 1], step[0, 1], size, image.shape[0])
    return np.einsum("ih,hwc,jw->cij", down, centred, across, optimize=True).astype(np.float32)


def crop_batch(
    image: Array,
    boxes: Array,
    size: int,
    *,
    context: float = CONTEXT,
    device: torch.device | str = "cpu",
    threads: int = 1,
) -> torch.Tensor:
    """Crop the regions (N, 4) xyxy of one image (H, W, 3) uint8 to (N, 3, S, S) float32.

    The result is on `device`, within 1/255 of `crop_reference`. On the CPU it is channels-last in
    memory, and `threads` share the regions; it is the same for any number of them.
    """
    import torch

    device = torch.device(device)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if device.type != "cpu":
        return _crop_dense(image, boxes, size, context, device)
    out = np.empty((len(boxes), size, size, 3), np.float32)
    crop_into(image, boxes, out, context=context, threads=threads)
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def crop_into(
    image: Array, boxes: Array, out: Array, *, context: float = CONTEXT, threads: int = 1
) -> None:
    """Crop on the CPU into `out` (N, S, S, 3) float32, such as a part of a larger batch."""
    # Here, so that importing the geometry alone does not import numba.
    from detector.crops.warp_numba import crop_regions

    image = np.ascontiguousarray(image)
    corner, step = windows(boxes, out.shape[1], context)
    mean = np.array(FILL_MEAN, np.float32)
    if threads <= 1 or len(corner) < 2 * threads:
        crop_regions(image, corner, step, mean, out)
        return
    parts = np.array_split(np.arange(len(corner)), threads)
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(
                crop_regions, image, corner[part], step[part], mean, out[part[0] : part[-1] + 1]
            )
            for part in parts
        ]
    for job in jobs:
        job.result()


def _crop_dense(
    image: Array, boxes: Array, size: int, context: float, device: torch.device
) -> torch.Tensor:
    """Crop by two matrix products with the whole image; weights are computed on the device."""
    import torch

    mean = torch.tensor(FILL_MEAN, device=device)
    centred = torch.as_tensor(np.ascontiguousarray(image), device=device).float() / 255 - mean
    planes = centred.permute(2, 0, 1).contiguous()
    start, pitch = _windows_on(device, boxes, size, context)
    out = torch.empty(len(boxes), 3, size, size, device=device)
    for first in range(0, len(boxes), 64):  # the rows (N, 3, S, W) of all regions are too large
        part = slice(first, first + 64)
        out[part] = _warp(planes, start[part], pitch[part], size)
    return out


# Bytes of float32 pixels that `crop_stack` processes at a time.
STACK_BYTES = 2**28


def crop_stack(
    images: torch.Tensor, which: Array, boxes: Array, size: int, *, context: float = CONTEXT
) -> torch.Tensor:
    """Crop regions of many images on their device, to (N, 3, S, S) float32.

    images  (B, 3, H, W) uint8
    which   (N,) image of each region
    boxes   (N, 4) xyxy

    An image smaller than (H, W) is in the left-top corner, padded with FILL_COLOUR. Within 1/255 of
    `crop_reference`; the products are in float16 on CUDA.
    """
    import torch

    device = images.device
    exact = torch.float16 if device.type == "cuda" else torch.float32
    height, width = images.shape[2:]
    mean = torch.tensor(FILL_MEAN, device=device).view(3, 1, 1)
    start, pitch = _windows_on(device, boxes, size, context)
    image_index = torch.as_tensor(which, device=device)
    out = torch.empty(len(boxes), 3, size, size, device=device)
    at_a_time = max(1, min(64, STACK_BYTES // (12 * height * width)))
    for first in range(0, len(boxes), at_a_time):
        part = slice(first, first + at_a_time)
        centred = images[image_index[part]].float().div_(255).sub_(mean).to(exact)
        out[part] = _warp(centred, start[part], pitch[part], size)
    return out


def _windows_on(
    device: torch.device, boxes: Array, size: int, context: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`windows` on a device, in float32, whose rounding error is below 1e-4 pixels."""
    import torch

    corner, step = windows(boxes, size, context)
    start = torch.as_tensor(corner, dtype=torch.float32, device=device)
    return start, torch.as_tensor(step, dtype=torch.float32, device=device)


def _warp(
    centred: torch.Tensor, start: torch.Tensor, pitch: torch.Tensor, size: int
) -> torch.Tensor:
    """Warp windows (N, 2) and (N, 2) to (N, 3, S, S), in the image's number format.

    `centred` is one image (3, H, W) minus the mean, or one for each window (N, 3, H, W).
    """
    import torch

    height, width = centred.shape[-2:]
    across = _dense_weights(start[:, 0], pitch[:, 0], size, width).to(centred.dtype)
    down = _dense_weights(start[:, 1], pitch[:, 1], size, height).to(centred.dtype)
    rows = torch.matmul(down[:, None], centred)  # (N, 3, S, W)
    return torch.matmul(rows, across[:, None].transpose(2, 3))


def _dense_weights(start: torch.Tensor, step: torch.Tensor, size: int, length: int) -> torch.Tensor:
    """`filter_weights` of N regions: (N, S, L)."""
    import torch

    device = start.device
    reach = step.clamp(min=1.0)[:, None, None]
    index = torch.arange(size, device=device) + 0.5
    centre = start[:, None, None] + index[None, :, None] * step[:, None, None]
    pixel = torch.arange(length, device=device) + 0.5
    weight = (1 - (pixel - centre).abs() / reach).clamp(min=0)
    return weight / _triangle_sum(centre, reach)


def _triangle_sum(centre: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Sum of max(0, 1 - |i + 0.5 - centre| / reach) over all integers i, in closed form."""
    # Not the sum of the weights at hand, which end with the image.
    offset = centre - 0.5 - (centre - 0.5).floor()  # distance to the pixel at or left of the centre
    left = (reach - offset).floor()  # further pixels i = 0, -1, ... -left are under the filter
    right = (reach - (1 - offset)).floor()  # and 1, 2, ... 1 + right
    total = (left + 1) * (1 - offset / reach) - left * (left + 1) / (2 * reach)
    return total + (right + 1) * (1 - (1 - offset) / reach) - right * (right + 1) / (2 * reach)
