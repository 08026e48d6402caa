"""The page of suspects: each cut out of its picture, with the label and what the detector sees."""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from detector.datasets.dataset import Sample
from detector.errors import ImageError
from detector.evaluation.report.pictures import ALARM, MISSED, Layer, small_picture
from detector.evaluation.report.templates import template
from detector.evaluation.wrong_labels.suspects import KINDS, Suspect
from detector.images.decoding import read_image
from detector.images.lettering import drawable
from detector.progress.messages import pluralise
from detector.structures import Array

SIDE = 260  # pixels of the longer side
MARGIN = 0.35  # around the boxes, as a share of their longer side
MIN_MARGIN = 30  # pixels: a small thing is known by what is around it
OTHER = (150, 150, 150)


@dataclass(frozen=True, eq=False)
class Page:
    """The contents of the page.

    samples  by image id; their labels are indices of `names`
    judged   the bundle, and the data
    summary  a sentence on what was checked
    remarks  sentences that the reader should know, such as that the bundle learnt from these images
    """

    name: str
    suspects: Sequence[Suspect]
    samples: Mapping[str, Sample]
    names: Sequence[str]
    judged: str
    summary: str
    command: str
    remarks: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Picture:
    """A suspect with its picture: JPEG in base64, empty where it cannot be read; size (W, H)."""

    suspect: Suspect
    jpeg: str = ""
    size: tuple[int, int] = (0, 0)


def wrong_labels_html(page: Page, most: int) -> str:
    """The whole page with the first `most` suspects; all text from files is escaped."""
    shown = page.suspects[:most]
    counts = Counter(one.kind for one in shown)
    text = template("wrong_labels.html.j2").render(
        **{one: getattr(page, one) for one in ("name", "judged", "summary", "command", "remarks")},
        kinds=[(kind, counts[kind], meaning) for kind, meaning in KINDS.items()],
        pictures=list(_pictures(page, shown)),
        hidden=pluralise(hidden, "label") if (hidden := len(page.suspects) - len(shown)) else "",
    )
    return text.strip() + "\n"


def _pictures(page: Page, suspects: Sequence[Suspect]) -> Iterator[Picture]:
    names = drawable(page.names)[0]
    shown = dict(zip(page.names, names, strict=True))
    for suspect in suspects:
        jpeg, size = b"", (0, 0)
        with suppress(ImageError):  # gone since it was judged: that costs only its picture
            image = read_image(suspect.path)
            left, top, right, bottom = window(suspect, image.shape[:2])
            layers = _layers(suspect, page.samples[suspect.image_id], names, shown)
            corner = np.array([left, top, left, top])
            moved = [
                layer._replace(boxes=layer.boxes - corner) for layer in layers if len(layer[0])
            ]
            jpeg, size = small_picture(image[top:bottom, left:right], moved, SIDE)
        yield Picture(suspect, base64.b64encode(jpeg).decode(), size)


def window(suspect: Suspect, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part (x1, y1, x2, y2) of an image of `size` (H, W) that shows the suspect's boxes."""
    boxes = [box for box in (suspect.box, suspect.better_box) if box is not None]
    height, width = size
    if not boxes:
        return 0, 0, width, height
    both = np.stack(boxes).astype(np.float64)
    low, high = both[:, :2].min(0), both[:, 2:].max(0)
    margin = max(MIN_MARGIN, MARGIN * (high - low).max())
    x1, y1 = np.clip(np.floor(low - margin), 0, [width - 1, height - 1]).astype(int)
    x2, y2 = np.clip(np.ceil(high + margin), [x1 + 1, y1 + 1], [width, height]).astype(int)
    return int(x1), int(y1), int(x2), int(y2)


def _layers(
    suspect: Suspect, sample: Sample, names: Sequence[str], shown: Mapping[str, str]
) -> list[Layer]:
    truth = sample.annotations
    others = np.arange(len(truth)) != (-1 if suspect.row is None else suspect.row)
    layers = [Layer(truth.boxes[others], [names[k] for k in truth.labels[others]], OTHER)]
    suggestion = shown.get(suspect.suggestion, "")
    if suspect.box is not None and suspect.label is not None:
        layers.append(Layer(_one(suspect.box), [shown.get(suspect.label, "")], MISSED))
    elif suspect.box is not None:
        layers.append(Layer(_one(suspect.box), [suggestion], ALARM))
    if suspect.better_box is not None:
        layers.append(Layer(_one(suspect.better_box), [suggestion], ALARM))
    return layers


def _one(box: Array) -> Array:
    return np.asarray(box, np.float64)[None]
