"""A photograph whose regions were classified once. Everything that the page shows of it, for any
threshold, is computed from those scores.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from detector.crops.warp import crop_reference
from detector.detection.aggregate import RegionScores
from detector.detection.detector import Detector
from detector.detection.settings import DetectionSettings
from detector.detection.suppression import per_class, suppress
from detector.images.inputs import ImageLike, to_pixels
from detector.structures import FILL_MEAN, Array, Detections

# Drawn pictures are made no longer than this, in pixels: a page shows no more.
LONGEST = 1200
MAX_CLASSES = 5


@dataclass(frozen=True, eq=False)
class Look:
    """A photograph (H, W, 3) and the scores of its N regions, best ranked first; `left` are still
    to be judged.
    """

    image: Array
    scored: RegionScores
    detector: Detector
    left: int = 0

    def __len__(self) -> int:
        return len(self.scored.scores)

    def settings(self, threshold: float, overlap: float) -> DetectionSettings:
        """The detector's settings with another score threshold and another IoU of suppression."""
        chosen = {"score_threshold": threshold, "nms_threshold": overlap}
        return self.detector.settings.model_copy(update=chosen)

    def detections(self, threshold: float, overlap: float, regions: int) -> Detections:
        """The detections among the first `regions`."""
        scored, settings = self.scored, self.settings(threshold, overlap)
        boxes, scores = scored.boxes[:regions], scored.scores[:regions]
        return suppress(boxes, scores, settings, self.detector.classes)

    def suppressed(self, threshold: float, overlap: float, regions: int) -> Detections:
        """The regions above the threshold that a better one of the same class suppressed."""
        boxes, scores = self.scored.boxes[:regions], self.scored.scores[:regions]
        parts = [Detections.empty()]
        for label, class_boxes, _, rows in per_class(
            boxes, scores, self.settings(threshold, overlap)
        ):
            labels = np.full(len(rows), label)
            parts.append(Detections(class_boxes[rows], scores[rows, label], labels))
        every, values, labels = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("boxes", "scores", "labels")
        )
        return Detections(every, values, labels, classes=self.detector.classes)

    def region_at(self, x: float, y: float, regions: int) -> int | None:
        """The region around a point of the photograph that looks most like an object."""
        boxes = self.scored.proposals.boxes[:regions]
        inside = (boxes[:, :2] <= (x, y)).all(1) & (boxes[:, 2:] > (x, y)).all(1)
        if not inside.any():
            return None
        return int(np.where(inside, self.scored.scores[:regions, :-1].max(1), -1).argmax())

    def classes_of(self, region: int) -> dict[str, float]:
        """The best classes of a region, and its background, with their scores."""
        scores = self.scored.scores[region]
        best = np.argsort(-scores[:-1], kind="stable")[:MAX_CLASSES]
        named = {self.detector.classes[label]: float(scores[label]) for label in best.tolist()}
        return named | {"background": float(scores[-1])}

    def crop_of(self, region: int) -> Array:
        """The crop (S, S, 3) of a region as the first network sees it."""
        member = self.detector.ensemble.members[0]
        box = self.scored.proposals.boxes[region]
        crop = crop_reference(self.image, box, member.input_size, member.context)
        pixels: Array = np.clip(crop.transpose(1, 2, 0) + FILL_MEAN, 0, 1)
        return np.round(255 * pixels).astype(np.uint8)

    def draw_detections(self, found: Detections) -> Image.Image:
        """The detections with names and scores."""
        return shrunk(found.draw(self.image))

    def draw_suppressed(self, found: Detections, suppressed: Detections) -> Image.Image:
        """The suppressed regions as thin white lines below the detections."""
        picture = self._outlined(suppressed.boxes, [(255, 255, 255)] * len(suppressed))
        return shrunk(found.draw(np.asarray(picture)))

    def draw_proposals(self, regions: int) -> Image.Image:
        """The first regions, from the best in yellow to the last in blue."""
        boxes = self.scored.proposals.boxes[:regions]
        share = np.linspace(0, 1, len(boxes))
        colours = [(int(255 * (1 - s)), int(200 * (1 - s)), int(255 * s)) for s in share.tolist()]
        return shrunk(self._outlined(boxes, colours))

    def draw_region(self, region: int) -> Image.Image:
        """One region, with all around it darkened."""
        box = np.round(self.scored.proposals.boxes[region]).astype(int)
        x1, y1, x2, y2 = box.tolist()
        pixels = self.image // 3
        pixels[y1:y2, x1:x2] = self.image[y1:y2, x1:x2]
        return shrunk(Image.fromarray(pixels))

    def _outlined(self, boxes: Array, colours: list[tuple[int, int, int]]) -> Image.Image:
        picture = Image.fromarray(self.image)
        canvas = ImageDraw.Draw(picture)
        line = max(1, round(max(picture.size) / 800))
        for (x1, y1, x2, y2), colour in zip(boxes[::-1].tolist(), colours[::-1], strict=True):
            canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)
        return picture


def looks_at(detector: Detector, image: ImageLike, seconds: float) -> Iterator[Look]:
    """Propose the regions of a photograph and classify them: a look at the best of them after
    about so many seconds and, if any are left then, one at all. Raises ImageError.
    """
    pixels = to_pixels(image)
    proposals = detector.propose(pixels)
    first = replace(detector, budget=seconds).predict(pixels, proposals)
    others = proposals[len(first.scores) :]
    yield Look(pixels, first, detector, len(others))
    if len(others):
        rest = detector.predict(pixels, others)
        scores, boxes = (
            np.concatenate([getattr(first, name), getattr(rest, name)])
            for name in ("scores", "boxes")
        )
        yield Look(pixels, RegionScores(proposals, scores, boxes), detector)


def look_again(look: Look, detector: Detector) -> Look:
    """The same photograph and regions, seen by another detector."""
    return replace(
        look, detector=detector, scored=detector.predict(look.image, look.scored.proposals)
    )


def shrunk(picture: Image.Image) -> Image.Image:
    """The picture, made smaller where a page would not show all of it."""
    picture.thumbnail((LONGEST, LONGEST))
    return picture
