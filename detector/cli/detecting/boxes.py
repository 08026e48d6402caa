"""Another detector's boxes of the images of a run, read beside them and judged in their turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.cli.detecting.records import Record
from detector.cli.detecting.settings import DetectSettings
from detector.detection.aggregate import RegionOutputs
from detector.detection.detector import Detector
from detector.detection.second_opinion import SecondOpinion, check_foreign
from detector.files import read_regular
from detector.images.decoding import content_hash
from detector.progress.messages import pluralise, say
from detector.results.foreign import ForeignDetections, read_foreign
from detector.results.unmatched import Unmatched
from detector.structures import Detections, Proposals


@dataclass
class ForeignBoxes:
    """The boxes of a file, and the detector that gives a second opinion on them.

    outside  boxes without area in their images, so far
    """

    path: Path
    foreign: ForeignDetections
    opinion: SecondOpinion
    outside: int = 0

    def regions(self, record: Record, size: tuple[int, int]) -> Proposals:
        """The boxes to classify in an image of `size` (H, W)."""
        detections = self._of(record)
        self.outside += self.opinion.outside(detections, size)
        return self.opinion.regions(detections, size)

    def detections(self, record: Record, outputs: RegionOutputs) -> Detections:
        scored = self.opinion.detector.aggregate(outputs)
        return self.opinion.fuse(scored, self._of(record))

    def describe(self) -> dict[str, Any]:
        """Everything that decides the fused scores beside the detector."""
        digest = content_hash(read_regular(self.path))
        return {"boxes": digest, "region_weight": self.opinion.weight}

    def _of(self, record: Record) -> Detections:
        return self.foreign.results.get(record.image_id, Detections.empty())


def foreign_boxes(
    chosen: DetectSettings, records: Sequence[Record], detector: Detector
) -> ForeignBoxes | None:
    """Read the boxes of the images that wait, if there is a file of them; stderr tells which rows
    are of others.
    """
    path = chosen.boxes
    if path is None:
        return None
    files = {record.image_id: record.path for record in records if record.waits}
    unmatched = Unmatched()
    foreign = read_foreign(path, files, unmatched, chosen.categories)
    check_foreign(str(path), foreign.results)
    opinion = SecondOpinion(detector, foreign.classes, chosen.region_weight)
    if count := unmatched.images.total():
        images = pluralise(len(unmatched.images), "image")
        say(f"left out: {path}: {pluralise(count, 'detection')} of {images} not given here")
    if unknown := opinion.unknown:
        say(f"note: the weights do not know {', '.join(unknown)}: their scores stay")
    return ForeignBoxes(path, foreign, opinion)


def tell_outside(path: Path, count: int) -> None:
    """Say how many boxes had no area in their images, with the likeliest reason."""
    if count:
        are = "is without area in its image and" if count == 1 else "are without area there and"
        say(
            f"left out: {path}: {pluralise(count, 'box')} {are} cannot be judged; COCO's bbox is"
            " x, y, width, height in pixels of the upright image"
        )
