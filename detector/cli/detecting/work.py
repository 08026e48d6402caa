"""The images of a detection on their way: read, detected, drawn, noted as done."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from detector.cli.detecting.boxes import ForeignBoxes
from detector.cli.detecting.records import Record
from detector.cli.detecting.results import clear, write_picture
from detector.cli.detecting.resume import DoneImages, hash_of
from detector.detection.detector import Detector
from detector.detection.forward import ClassifiedImage, Job
from detector.errors import ImageError, ProposalError
from detector.images.decoding import content_hash, decode, read_bytes
from detector.images.lettering import drawable
from detector.progress.bar import progress
from detector.progress.messages import say
from detector.proposals.gather import StoredProposals
from detector.results.coco_json import detection_rows


@dataclass
class Work:
    """The images of a run on their way through the detector.

    pictures  the folder of annotated ones, if there are to be some
    boxes     another detector's, which are judged in place of proposals
    """

    detector: Detector
    store: StoredProposals | None
    records: list[Record]
    pictures: Path | None
    done: DoneImages
    boxes: ForeignBoxes | None = None
    fresh: bool = True

    def __post_init__(self) -> None:
        self.classes = self.boxes.foreign.classes if self.boxes else self.detector.classes
        self.names, self.undrawable = drawable(self.classes if self.pictures else ())

    def restore(self) -> int:
        """Fill the records of images that an interrupted run has done; their number."""
        found = 0
        for record in self.records if self.done.count else ():
            if record.waits:
                try:
                    found += self.done.restore(record, self.pictures, self.store)
                except (ImageError, ProposalError) as error:
                    record.fail(error)
        self.fresh = not found
        return found

    def run(self, quiet: bool) -> Iterator[Record]:
        """Fill the other records, in order; yields each as it is done."""
        todo = [record for record in self.records if record.waits]
        found = self.detector.stream(job for record in todo if (job := self._read(record)))
        for one in progress(found, "detect", len(todo), quiet or len(todo) < 2):
            self.finish(one)
            yield one.tag

    def finish(self, found: ClassifiedImage) -> None:
        """Write the picture, then the line that says that this image is done."""
        started = time.perf_counter()
        record, key = found.tag, self.done.key
        detections = (
            self.boxes.detections(record, found) if self.boxes else self.detector.detections(found)
        )
        record.rows = detection_rows(
            record.image_id, record.path.name, detections, self.classes,
            self.boxes.foreign.category_ids if self.boxes else None,
        )  # fmt: skip
        if self.pictures is not None:
            write_picture(self.pictures / record.picture, found.image, detections, self.names, key)
            if self.fresh:  # from now on what is there would be of two runs
                clear(self.pictures, self.records, key, pictures=True, results=True)
                self.fresh = False
        record.proposals = len(found.proposals)
        record.seconds = round(found.seconds + time.perf_counter() - started, 3)
        # Last, so that an image whose picture a kill cut short is detected again.
        self.done.add(record)

    def _read(self, record: Record) -> Job | None:
        """Decode one image into a job; None, with the error in its record, where that fails."""
        started, given = time.perf_counter(), None
        try:
            data = read_bytes(record.path)
            record.content = content_hash(data)
            decoded = decode(data, str(record.path))
            if self.boxes:
                given = self.boxes.regions(record, decoded.size)
            elif self.store:
                given = self.store.of(record.content, decoded.size, str(record.path))
        except (ImageError, ProposalError) as error:
            record.fail(error)
            return None
        record.regions = None if given is None else hash_of(given)
        record.size, record.raw_size = decoded.size, decoded.raw_size
        record.orientation, record.warnings = decoded.orientation, decoded.warnings
        for warning in decoded.warnings:
            say(f"warning: {record.path}: {warning}")
        return Job(decoded.pixels, given, record, time.perf_counter() - started)
