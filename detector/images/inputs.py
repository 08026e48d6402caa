"""Conversion of images to pixels: from a path, a Pillow picture, an array or a tensor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np

from detector.errors import ImageError
from detector.images.decoding import check_pixels, picture_pixels, read_image
from detector.images.levels import Array

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

# A path, a Pillow picture, an array (H, W, 3) uint8, or a tensor (3, H, W), uint8 or floating point
# in [0, 1]; colours are RGB.
ImageLike: TypeAlias = Union[str, "os.PathLike[str]", "Image", Array, "torch.Tensor"]


def to_pixels(image: ImageLike) -> Array:
    """Convert an image to (H, W, 3) uint8 RGB. Raises ImageError.

    A file and a Pillow picture are turned upright by their EXIF orientation, and boxes are those of
    the upright image. An array is returned as it is.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image))
    if isinstance(image, np.ndarray):
        check_pixels(image)
        return image
    # A program that has a tensor or a picture has loaded its library: nothing is imported here.
    torch, pillow = sys.modules.get("torch"), sys.modules.get("PIL.Image")
    if torch is not None and isinstance(image, torch.Tensor):
        return _tensor_pixels(image)
    if pillow is not None and isinstance(image, pillow.Image):
        return picture_pixels(image)
    raise ImageError(
        f"an image is a path, a Pillow picture, a (H, W, 3) uint8 array or a (3, H, W) tensor, not"
        f" a {type(image).__name__}; several images go to detect_many"
    )


def _tensor_pixels(tensor: torch.Tensor) -> Array:
    shape = tuple(tensor.shape)
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        raise ImageError(
            f"a tensor of one image has shape (3, H, W), RGB, and at least one pixel; this one has"
            f" {shape}; give the images of a batch one by one"
        )
    if tensor.is_floating_point():
        values = tensor.detach().float()
        low, high = values.min().item(), values.max().item()
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise ImageError(
                f"a tensor of floating point holds values from 0 to 1; this one has {low:.3g} to"
                f" {high:.3g}; give it before it is normalised, or as uint8 from 0 to 255"
            )
        tensor = (values * 255).round().byte()
    elif str(tensor.dtype) != "torch.uint8":  # by name, since torch is not imported
        raise ImageError(
            f"a tensor of an image is uint8 from 0 to 255 or floating point from 0 to 1; this one"
            f" is {tensor.dtype}"
        )
    return np.ascontiguousarray(tensor.detach().permute(1, 2, 0).cpu().numpy())
