"""The worst images of an evaluation with their found, missed and false boxes, drawn small."""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from detector.datasets.dataset import Dataset
from detector.errors import ImageError
from detector.evaluation.diagnosis.diagnosis import Diagnosis, worst_images
from detector.evaluation.protocols.matching import RIGHT, WRONG
from detector.images.decoding import read_image
from detector.images.drawing import Colour, Tag, place_tag, shared, write_tag
from detector.images.lettering import drawable
from detector.structures import Array

COUNT = 20
SIDE = 420  # pixels of the longer side
QUALITY = 72
LETTERS = 12  # pixels; a name that would lie on another is left out
FOUND, ALARM, MISSED = (47, 190, 100), (235, 80, 55), (70, 150, 255)  # as report.html.j2 says
MAX_BOXES = 30  # of one image and kind: more hide each other


class Layer(NamedTuple):
    """Boxes (N, 4) in pixels of the image, their names, and their colour."""

    boxes: Array
    names: Sequence[str]
    colour: Colour


class WorstPicture(NamedTuple):
    """An image with its errors drawn: a JPEG of `size` (W, H), empty where it cannot be read."""

    name: str
    missed: int
    alarms: int
    jpeg: bytes
    size: tuple[int, int]

    @property
    def base64(self) -> str:
        return base64.b64encode(self.jpeg).decode()


def worst_pictures(
    dataset: Dataset, diagnosis: Diagnosis, count: int = COUNT
) -> Iterator[WorstPicture]:
    """Draw the images with most errors, worst first."""
    classes, _ = drawable(dataset.classes)
    for index, missed, alarms in worst_images(diagnosis, count):
        sample, jpeg, size = dataset.samples[index], b"", (0, 0)
        with suppress(ImageError):  # gone since it was judged: that costs only its picture
            layers = list(_layers(index, classes, diagnosis))
            jpeg, size = small_picture(read_image(sample.path), layers, SIDE)
        yield WorstPicture(sample.image_id, missed, alarms, jpeg, size)


def small_picture(
    image: Array, layers: Sequence[Layer], side: int
) -> tuple[bytes, tuple[int, int]]:
    """Draw layers, the most telling last, on an image (H, W, 3) shrunk to `side` pixels: a JPEG and
    its size (W, H).
    """
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    canvas = ImageDraw.Draw(picture)
    shrunk = [
        (list(zip((boxes[:MAX_BOXES] * scale).tolist(), names, strict=False)), colour)
        for boxes, names, colour in layers
    ]
    for rows, colour in shrunk:
        for (x1, y1, x2, y2), _ in reversed(rows):  # the best lies on top
            # Pillow draws the end pixel, too; x2 and y2 are beyond it.
            canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=2)
    tags: list[Tag] = []
    for rows, colour in reversed(shrunk):  # the most telling choose their places first
        for box, name in rows:
            tag = place_tag(canvas, name, box, LETTERS, size, tags)
            if not any(shared(tag.block, other.block) for other in tags):
                write_tag(canvas, tag, colour)
                tags.append(tag)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, optimize=True)
    return content.getvalue(), size


def _layers(index: int, classes: Sequence[str], diagnosis: Diagnosis) -> Iterator[Layer]:
    matching = diagnosis.matching
    here = (matching.images == index) & (matching.scores >= diagnosis.threshold)
    for verdict, colour in ((RIGHT, FOUND), (WRONG, ALARM)):
        rows = np.flatnonzero(here & (matching.verdicts == verdict))
        names = [f"{classes[matching.labels[row]]} {matching.scores[row]:.2f}" for row in rows]
        yield Layer(matching.boxes[rows], names, colour)
    objects = matching.objects
    rows = np.flatnonzero((objects.images == index) & (diagnosis.reasons >= 0))
    yield Layer(objects.boxes[rows], [classes[label] for label in objects.labels[rows]], MISSED)
