"""Views of images, the examples of a box proposer, and the objects in them.

A view is a part of an image, perhaps mirrored, stretched to the network's square; boxes are
fractions of the view's sides. Parts hold most of at least one object (Szegedy et al., arXiv
1412.1441, train on such crops; the coverage 0.7 and the limits of area and aspect are those of the
public trainer gvanhorn38/multibox).

Everything about view v of image i is a function of (seed, i, v).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from detector import boxes as box_ops
from detector.crops.warp import crop_into
from detector.datasets import Dataset, Sample
from detector.errors import ImageError
from detector.images.decoding import content_hash, read_bytes
from detector.progress.bar import progress
from detector.structures import Array
from detector.training.augment import AugmentSettings, distort
from detector.training.classifier.patches import PartSettings, draw_patch
from detector.training.engine.checkpoint import digest_of
from detector.training.engine.image_cache import ImageCache

_TRIES = 20
# Threads that read files: several requests keep a disk busy.
_READERS = 4


class ViewSettings(PartSettings):
    """Limits of the part of an image that a view shows."""

    whole_share: float = Field(0.5, ge=0, le=1)
    """So many of the views that are drawn show the whole image, as at inference."""
    min_area: float = Field(0.5, gt=0, le=1)
    min_aspect: float = Field(0.7, gt=0)
    max_aspect: float = Field(1.4, gt=0)
    min_object_covered: float = Field(0.7, ge=0, le=1)
    """A view shows at least so much of at least one object, where the image has any."""
    keep_covered: float = Field(0.5, gt=0, le=1)
    """An object of which less is in view does not count as one."""


class View(NamedTuple):
    """A part of an image.

    window  (4,) xyxy, fractions of the image
    mirror  whether left and right are exchanged
    boxes   (M, 4) xyxy of the objects in view, clipped to it, fractions of the mirrored view
    """

    window: Array
    mirror: bool
    boxes: Array


def whole_view(boxes: Array, mirror: bool = False) -> View:
    """The view of a whole image whose objects are (M, 4) fractions of it."""
    window = np.array([0.0, 0.0, 1.0, 1.0])
    return _make_view(window, mirror, boxes, 0.0)


def draw_view(
    boxes: Array,
    size: tuple[int, int],
    settings: ViewSettings,
    rng: np.random.Generator,
    flip: bool = True,
) -> View:
    """Draw a part of an image of `size` (H, W) whose objects are (M, 4) fractions of it.

    Falls back to the whole image where twenty tries cover no object enough. Without `flip` the
    parts are the same, but never mirrored.
    """
    height, width = size
    mirror = bool(rng.random() < 0.5) and flip  # drawn in any case: the parts stay the same
    for _ in range(_TRIES):
        patch = draw_patch(size, settings, rng)
        corners = [patch.x, patch.y, patch.x + patch.width, patch.y + patch.height]
        window = np.array(corners) / [width, height, width, height]
        covered = _covered(boxes, window)
        if not len(boxes) or covered.max() >= settings.min_object_covered:
            return _make_view(window, mirror, boxes, settings.keep_covered)
    return whole_view(boxes, mirror)


def _covered(boxes: Array, window: Array) -> Array:
    """Share (M,) of each box inside the window."""
    return box_ops.intersection(boxes, window[None])[:, 0] / box_ops.area(boxes)


def _make_view(window: Array, mirror: bool, boxes: Array, keep_covered: float) -> View:
    visible = boxes[_covered(boxes, window) >= keep_covered]
    corner, sides = window[[0, 1, 0, 1]], (window[2:] - window[:2])[[0, 1, 0, 1]]
    visible = np.clip((visible - corner) / sides, 0, 1)
    if mirror:
        visible = np.stack([1 - visible[:, 2], visible[:, 1], 1 - visible[:, 0], visible[:, 3]], 1)
    return View(window, mirror, visible)


def object_fractions(sample: Sample, size: tuple[int, int]) -> Array:
    """Boxes (M, 4) of an image's objects of every class, as fractions of its `size` (H, W).

    All are objects; crowds are not. Boxes are clipped to the image; those that clipping leaves
    without area are left out.
    """
    height, width = size
    boxes = sample.annotations.boxes[~sample.annotations.crowd].astype(np.float64)
    boxes = np.clip(boxes / [width, height, width, height], 0, 1)
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]


@dataclass
class Views:
    """The views of a data set's images.

    A view is a centred crop (3, S, S) float32 with its boxes; an image that cannot be read has none
    and is listed in `broken` with the reason. Unless `quiet`, the digest shows the
    progress of its reading.
    """

    dataset: Dataset
    size: int
    settings: ViewSettings
    augment: AugmentSettings
    seed: int
    images: ImageCache = field(default_factory=ImageCache)
    broken: dict[Path, str] = field(default_factory=dict)
    quiet: bool = True
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict)

    def kept(self, image: int, number: int) -> View:
        """View `number` of a fixed set: the whole image, its mirror image (the image again if
        nothing is mirrored), then parts.
        """
        boxes, size, flip = self._objects(image), self._size(image), self.augment.flip
        if number < 2:
            return whole_view(boxes, mirror=number == 1 and flip)
        return draw_view(boxes, size, self.settings, self._chance(image, number, 0), flip)

    def drawn(self, image: int, number: int) -> View:
        """View `number` of an endless set: the whole image or a random part."""
        boxes, size = self._objects(image), self._size(image)
        rng = self._chance(image, number, 2)
        if rng.random() < self.settings.whole_share:
            return whole_view(boxes, mirror=bool(self.augment.flip and rng.random() < 0.5))
        return draw_view(boxes, size, self.settings, rng, self.augment.flip)

    def complete(self, image: int) -> bool:
        """True if all objects of an image are annotated: an unmatched prediction is wrong."""
        return self.dataset.samples[image].annotated is None

    def crop(self, image: int, number: int, view: View, *, distorted: bool = True) -> Tensor:
        """The crop (3, S, S) of a view."""
        pixels = self.images.read(self.dataset.samples[image].path)
        height, width = pixels.shape[:2]
        box = view.window * [width, height, width, height]
        made = np.empty((1, self.size, self.size, 3), np.float32)
        crop_into(pixels, box[None], made, context=0)
        if view.mirror:
            made = made[:, :, ::-1].copy()  # torch takes no negative strides
        crop = torch.from_numpy(made).permute(0, 3, 1, 2)
        if distorted:
            crop = distort(crop, self.augment, self._chance(image, number, 1))
        return crop[0]

    def readable(self, image: int) -> bool:
        """True if the image can be decoded; otherwise it is recorded in `broken`."""
        sample = self.dataset.samples[image]
        if sample.path in self.broken:
            return False
        try:
            self.images.read(sample.path)
        except ImageError as error:
            self.broken[sample.path] = str(error)
            return False
        return True

    @cached_property
    def contents(self) -> list[str]:
        """The hash of each image file; empty where it cannot be opened."""
        paths = [sample.path for sample in self.dataset.samples]
        with ThreadPoolExecutor(_READERS) as pool:
            hashes = pool.map(_content_of, paths)
            return list(progress(hashes, "image files", len(paths), self.quiet))

    def digest(self) -> str:
        """A hash of the image files and of the boxes annotated in each."""
        samples = self.dataset.samples
        objects = [sample.annotations for sample in samples]
        # With the contents: an image may be replaced under its name and size.
        return digest_of(
            [sample.image_id for sample in samples],
            self.contents,
            np.array([sample.size or (0, 0) for sample in samples]),
            np.array([len(annotations) for annotations in objects]),
            np.concatenate([np.zeros((0, 4)), *(annotations.boxes for annotations in objects)]),
            np.concatenate([np.zeros(0, bool), *(annotations.crowd for annotations in objects)]),
        )

    def _objects(self, image: int) -> Array:
        return object_fractions(self.dataset.samples[image], self._size(image))

    def _size(self, image: int) -> tuple[int, int]:
        if image not in self._sizes:
            sample = self.dataset.samples[image]
            size = sample.size or self.images.read(sample.path).shape[:2]
            self._sizes[image] = (size[0], size[1])
        return self._sizes[image]

    def _chance(self, image: int, number: int, use: int) -> np.random.Generator:
        # Uses draw apart from each other: 0 a kept view, 1 a view's colours, 2 a drawn view.
        return np.random.default_rng([self.seed, image, number, use])


def _content_of(path: Path) -> str:
    try:
        return content_hash(read_bytes(path))
    except ImageError:
        return ""
