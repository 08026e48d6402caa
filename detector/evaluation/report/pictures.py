"""The worst images of a report with their found, missed and false boxes, drawn small and embedded
in the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import ImageError
from detector.evaluation.diagnosis.diagnosis import Diagnosis, worst_images
from detector.evaluation.protocols.matching import RIGHT, WRONG
from detector.evaluation.report.parts import text
from detector.images.decoding import read_image
from detector.images.drawing import Tag, place_tag, shared, write_tag
from detector.images.lettering import drawable
from detector.structures import Array

COUNT = 20
SIDE = 420  # pixels of the longer side
QUALITY = 72
LETTERS = 12  # pixels; a name that would lie on another is left out
FOUND, ALARM, MISSED = (47, 190, 100), (235, 80, 55), (70, 150, 255)
MOST_BOXES = 30  # of one image and kind: more hide each other


def worst_pictures(dataset: Dataset, diagnosis: Diagnosis, count: int = COUNT) -> str:
    """HTML of the images with most errors; unreadable ones say so."""
    classes, _ = drawable(dataset.classes)
    cells = list(_cells(dataset, classes, diagnosis, count))
    if not cells:
        return '<p class="note">No image has an error at this threshold.</p>'
    keys = "".join(
        f'<span class="key" style="border-color:rgb{colour}"></span>{name}'
        for name, colour in (("found", FOUND), ("false alarm", ALARM), ("missed", MISSED))
    )
    return f'<p class="note">{keys}</p><div class="worst">{"".join(cells)}</div>'


def _cells(
    dataset: Dataset, classes: Sequence[str], diagnosis: Diagnosis, count: int
) -> Iterator[str]:
    for index, missed, alarms in worst_images(diagnosis, count):
        sample = dataset.samples[index]
        try:
            shown = _drawn(read_image(sample.path), index, classes, diagnosis)
        except ImageError:
            shown = '<p class="note">cannot be read</p>'
        yield f"<div>{shown}<b>{text(sample.image_id)}</b> {missed} missed, {alarms} false</div>"


def _drawn(image: Array, index: int, classes: Sequence[str], diagnosis: Diagnosis) -> str:
    from PIL import Image, ImageDraw

    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    canvas = ImageDraw.Draw(picture)
    layers = [
        (list(zip((boxes[:MOST_BOXES] * scale).tolist(), names, strict=False)), colour)
        for boxes, names, colour in _layers(index, classes, diagnosis)
    ]
    for rows, colour in layers:
        for (x1, y1, x2, y2), _ in reversed(rows):
            canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=2)
    tags: list[Tag] = []
    for rows, colour in reversed(layers):  # the most telling choose their places first
        for box, name in rows:
            tag = place_tag(canvas, name, box, LETTERS, size, tags)
            if not any(shared(tag.block, other.block) for other in tags):
                write_tag(canvas, tag, colour)
                tags.append(tag)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, optimize=True)
    data = base64.b64encode(content.getvalue()).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" width="{size[0]}" height="{size[1]}" '
        'loading="eager" alt="the image with its errors drawn">'
    )


def _layers(
    index: int, classes: Sequence[str], diagnosis: Diagnosis
) -> Iterator[tuple[Array, list[str], tuple[int, int, int]]]:
    """Boxes (N, 4), their names and their colour, the most telling last."""
    matching = diagnosis.matching
    here = (matching.images == index) & (matching.scores >= diagnosis.threshold)
    for verdict, colour in ((RIGHT, FOUND), (WRONG, ALARM)):
        rows = np.flatnonzero(here & (matching.verdicts == verdict))
        names = [f"{classes[matching.labels[row]]} {matching.scores[row]:.2f}" for row in rows]
        yield matching.boxes[rows], names, colour
    objects = matching.objects
    rows = np.flatnonzero((objects.images == index) & (diagnosis.reasons >= 0))
    yield objects.boxes[rows], [classes[label] for label in objects.labels[rows]], MISSED
