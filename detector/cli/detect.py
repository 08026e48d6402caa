"""Detect objects in pictures: a table, annotated pictures, detections.json and run.json.

    python tools/detect.py image.jpg
    python tools/detect.py photos/ 'more/*.png' --out found --threshold 0.3
    find . -name '*.jpg' | python tools/detect.py -

A file that cannot be read is reported and the rest go on (exit code 1). After an interruption, even
by a kill, the same command goes on. Results do not depend on the order or the company of the
images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out

if TYPE_CHECKING:
    from detector.cli.detecting.done import DoneImages
    from detector.cli.detecting.records import Record
    from detector.detection.detector import DetectedImage, Detector
    from detector.proposals.gather import StoredProposals
    from detector.structures import Array, Proposals


@exclusive_out
def main(
    images: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, or - for a list on stdin.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for pictures, detections.json and run.json.")
    ] = Path("out"),
    weights: option.Weights = None,
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score shown. [the bundle's]")
    ] = None,
    nms: Annotated[
        float | None,
        typer.Option(help="IoU above which a worse box of a class goes. [the bundle's]"),
    ] = None,
    class_agnostic_nms: option.ClassAgnosticNms = None,
    max_detections: Annotated[
        int | None, typer.Option(help="Most detections of one image. [the bundle's]")
    ] = None,
    proposals: option.Proposals = None,
    max_proposals: option.MaxProposals = None,
    svm: option.Svm = None,
    regression: option.Regression = None,
    ensemble: option.Ensemble = "1",
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Crops in one pass. [8 on a CPU, 128 else]")
    ] = None,
    threads: option.Threads = None,
    pictures: Annotated[bool, typer.Option(help="Write annotated pictures.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the detections as JSON, no table.")
    ] = False,
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors.")] = False,
) -> int:
    """Detect objects in pictures."""
    from detector.cli.detecting.records import keep_inputs, records_of
    from detector.progress.messages import say

    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"--out {out} is a file; give a folder")
    started = time.perf_counter()
    records, missed = records_of(images, out, quiet)
    if pictures:
        keep_inputs(out, records)
    if not any(record.waits for record in records):  # before seconds of loading
        if as_json:
            print("[]")
        return 3
    from detector.cli.detecting.done import done_images, key_of
    from detector.cli.detecting.loading import Running, load, settings_given
    from detector.cli.detecting.results import clear, show, sorted_rows, write_results
    from detector.images.lettering import remark_on
    from detector.progress.interruption import stop_gently
    from detector.progress.messages import pluralise

    given = settings_given(
        max_proposals, score_threshold=threshold, nms_threshold=nms,
        class_agnostic_nms=class_agnostic_nms, max_detections=max_detections, svm=svm,
        regression=regression,
    )  # fmt: skip
    detector, store = load(
        Running(weights, ensemble, proposals, device, precision, threads, given, batch_size), quiet
    )
    loaded = time.perf_counter()
    key = key_of(detector, store, weights)
    with done_images(out, key) as done, stop_gently() as stop:
        work = Work(detector, store, records, out if pictures else None, done)
        remark = remark_on(work.undrawable)
        if remark:
            say(f"warning: {remark}")
        before = work.restore()
        if before and not quiet:
            say(f"going on: {before} of {pluralise(len(records), 'image')} were done before")
        for _ in work.run(quiet):
            if stop:
                break
        finished = time.perf_counter()
        rows, missing = sorted_rows(records), [one for one in records if one.waits]
        if stop or any(record.rows is not None for record in records):
            seconds = {"load": round(loaded - started, 3), "detect": round(finished - loaded, 3)}
            run = _describe(records, detector, store, weights, given)
            write_results(out, rows, {**run, "seconds": seconds, "done_before": before})
            clear(out, records, key, pictures=pictures, results=False)
        if not missing:
            done.forget()
        if as_json:
            print(json.dumps(rows))
        if all(record.error is not None for record in records):
            say("none of the images could be read; nothing was written")
            return 3
        if not as_json and not quiet:
            show(records, detector.settings.score_threshold)
            empty = "" if rows else " (empty)"
            wrote = (f"detections.json{empty}", "run.json", *(["pictures"] if pictures else []))
            say(f"{out}/: {', '.join(wrote)}")
        if missing and not quiet:
            say(f"{len(missing)} of {len(records)} not looked at; the same command goes on")
    return 1 if missed or any(one.error for one in records) else 0


@dataclass
class Work:
    """The images of a run on their way through the detector.

    pictures  the folder of annotated ones, if there are to be some
    """

    detector: Detector
    store: StoredProposals | None
    records: list[Record]
    pictures: Path | None
    done: DoneImages
    fresh: bool = True

    def __post_init__(self) -> None:
        from detector.images.lettering import drawable

        self.names, self.undrawable = drawable(self.detector.classes if self.pictures else ())

    def restore(self) -> int:
        """Fill the records of images that an interrupted run has done; their number."""
        from detector.errors import ImageError, ProposalError

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
        from detector.progress.bar import progress

        todo = [record for record in self.records if record.waits]
        waiting: list[tuple[Record, Read]] = []

        def readable() -> Iterator[tuple[Array, Proposals | None]]:
            for record in todo:
                read = _read(record, self.store)
                if read is not None:
                    waiting.append((record, read))
                    yield read.pixels, read.proposals

        results = self.detector.detect_pairs(readable())
        for scored in progress(results, "detect", len(todo), quiet or len(todo) < 2):
            record, read = waiting.pop(0)
            _finish(record, read, scored, self)
            yield record


class Read(NamedTuple):
    """An image as it was read; `proposals` where they were given."""

    pixels: Array
    content: str
    proposals: Proposals | None
    seconds: float


def _read(record: Record, store: StoredProposals | None) -> Read | None:
    from detector.errors import ImageError, ProposalError
    from detector.images.decoding import content_hash, decode, read_bytes
    from detector.progress.messages import say

    started = time.perf_counter()
    try:
        data = read_bytes(record.path)
        content = content_hash(data)
        decoded = decode(data, str(record.path))
        proposals = store.of(content, decoded.size, str(record.path)) if store else None
    except (ImageError, ProposalError) as error:
        record.fail(error)
        return None
    record.size, record.raw_size = decoded.size, decoded.raw_size
    record.orientation, record.warnings = decoded.orientation, decoded.warnings
    for warning in decoded.warnings:
        say(f"warning: {record.path}: {warning}")
    return Read(decoded.pixels, content, proposals, time.perf_counter() - started)


def _finish(record: Record, read: Read, scored: DetectedImage, work: Work) -> None:
    """Write the picture, then the line that says that this image is done."""
    from detector.cli.detecting.results import clear, write_picture
    from detector.results.coco_json import detection_rows

    started = time.perf_counter()
    found, classes, key = scored.detections, work.detector.classes, work.done.key
    record.rows = detection_rows(record.image_id, record.path.name, found, classes)
    if work.pictures is not None:
        write_picture(work.pictures / record.picture, read.pixels, found, work.names, key)
        if work.fresh:  # from now on what is there would be of two runs
            clear(work.pictures, work.records, key, pictures=True, results=True)
            work.fresh = False
    record.proposals = len(scored.proposals)
    writing = time.perf_counter() - started
    record.seconds = round(read.seconds + scored.seconds + writing, 3)
    work.done.add(record, read.content, read.proposals)


def _describe(
    records: list[Record], detector: Detector, store: StoredProposals | None,
    weights: Path | None, given: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The run as run.json holds it."""
    from detector import __version__
    from detector.detection.load import SHIPPED

    return {
        "version": __version__,
        "weights": str(weights or SHIPPED),
        "settings": detector.settings.model_dump(mode="json"),
        "given": given,
        "proposals": _origin(detector, store),
        "classes": list(detector.classes),
        "members": len(detector.ensemble.members),
        "device": str(detector.device),
        "precision": detector.ensemble.precision,
        "not_looked_at": [str(record.path) for record in records if record.waits],
        "inputs": [record.describe() for record in records],
    }


def _origin(detector: Detector, store: StoredProposals | None) -> dict[str, Any] | None:
    """Where the regions came from, as run.json holds it."""
    from detector.proposals.cache.stored import describe

    if store is not None:
        return {"file": str(store.store.path), "key": store.key, "settings": store.settings}
    proposer = detector.propose_regions
    return describe(proposer) if hasattr(proposer, "settings") else None
