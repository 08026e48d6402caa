"""Detect objects in pictures: a table, annotated pictures, detections.json and run.json.

    inception-rcnn detect image.jpg
    inception-rcnn detect photos/ 'more/*.png' --out found --threshold 0.3
    find . -name '*.jpg' | inception-rcnn detect -
    inception-rcnn detect photos/ --out found --format labelme  # to correct in a tool

A file that cannot be read is reported and the rest go on (exit code 1). After an interruption, even
by a kill, the same command goes on. Results do not depend on the order or the company of the
images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector import __version__
from detector.cli import options as option
from detector.cli.app import exclusive_out, reject_unused
from detector.progress.interruption import Stop, stop_gently
from detector.progress.messages import pluralise, say

if TYPE_CHECKING:
    from detector.cli.detecting.settings import DetectSettings
    from detector.cli.detecting.work import Work


SETTINGS = "detector.cli.detecting.settings.DetectSettings"


@exclusive_out
def main(
    context: typer.Context,
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
    proposals: option.Proposals = None,
    ensemble: option.Ensemble = "1",
    device: option.Device = "auto",
    threads: option.Threads = None,
    pictures: Annotated[bool, typer.Option(help="Write annotated pictures.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the detections as JSON, no table.")
    ] = False,
    change: Annotated[list[str], option.settings_of(SETTINGS)] = [],  # noqa: B006
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors.")] = False,
) -> int:
    """Detect objects in pictures."""
    from detector.cli.detecting.records import keep_inputs, records_of
    from detector.cli.detecting.settings import DetectSettings
    from detector.results.label_files import refuse_written

    started, chosen = time.perf_counter(), option.chosen(DetectSettings, change)
    check_options(context, chosen)
    records, missed = records_of(images, out, quiet)
    if pictures:
        keep_inputs(out, records)
    for format in chosen.format:
        refuse_written(out / format)
    if not any(record.waits for record in records):  # before seconds of loading
        if as_json:
            print("[]")
        return 3
    from detector.cli.detecting.boxes import foreign_boxes
    from detector.cli.detecting.loading import load, within
    from detector.cli.detecting.results import clear, sorted_rows, write_results
    from detector.cli.detecting.resume import done_images, key_of
    from detector.cli.detecting.work import Work

    given = chosen.of_detection(threshold)
    detector, store = load(
        weights, quiet, ensemble=ensemble, device=device, precision=chosen.precision,
        threads=threads, settings=given, proposals=proposals, batch_size=chosen.batch_size,
        engine=chosen.engine,
    )  # fmt: skip
    detector = within(detector, chosen.budget)
    boxes = foreign_boxes(chosen, records, detector)
    detector = boxes.opinion.detector if boxes else detector
    loaded = time.perf_counter()
    key = key_of(detector, store, weights, boxes.describe() if boxes else None)
    with done_images(out, key) as done, stop_gently() as stop:
        work = Work(detector, store, records, out if pictures else None, done, boxes)
        before = _detect(work, quiet, stop)
        finished = time.perf_counter()
        rows = sorted_rows(records)
        if stop or any(record.rows is not None for record in records):
            seconds = {"load": round(loaded - started, 3), "detect": round(finished - loaded, 3)}
            run = _describe(work, weights, given)
            write_results(out, rows, {**run, "seconds": seconds, "done_before": before})
            clear(out, records, key, pictures=pictures, results=False)
        code = _finish(work, out, chosen.format, rows if as_json else None, quiet)
    return max(code, int(missed > 0))


def check_options(context: typer.Context, chosen: DetectSettings) -> None:
    """Refuse a file in the place of --out, and settings that would change nothing."""
    from detector.cli.detecting.settings import OF_PROPOSALS

    out = context.params["out"]
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"--out {out} is a file; give a folder")
    if chosen.boxes:
        reject_unused(context, OF_PROPOSALS, "with boxes, which another detector found")
    else:
        reject_unused(context, ["region_weight", "categories"], "without boxes")
    if context.params["ensemble"] == "1":
        reject_unused(context, ["cascade"], "with one member; give --ensemble all")


def _detect(work: Work, quiet: bool, stop: Stop) -> int:
    """Detect in the images until somebody stops it; returns how many an earlier run had done."""
    from detector.cli.detecting.boxes import tell_outside
    from detector.images.lettering import remark_on

    remark = remark_on(work.undrawable)
    if remark:
        say(f"warning: {remark}")
    before = work.restore()
    if before and not quiet:
        say(f"going on: {before} of {pluralise(len(work.records), 'image')} were done before")
    for _ in work.run(quiet):
        if stop:
            break
    if work.boxes:
        tell_outside(work.boxes.path, work.boxes.outside)
    return before


def _finish(
    work: Work, out: Path, formats: Sequence[str], shown: list[dict[str, Any]] | None, quiet: bool
) -> int:
    """Write the label files of a complete run, and tell about it; returns the exit code.

    shown  rows to print as JSON, in place of a table
    """
    from detector.cli.detecting.results import tell, write_labels

    records = work.records
    if not any(record.waits for record in records):
        for format in formats:
            write_labels(out / format, records, work.classes, format, quiet)
        work.done.forget()  # a finished run has nothing to go on from
    if shown is not None:
        print(json.dumps(shown))
    if all(record.error is not None for record in records):
        say("none of the images could be read; nothing was written")
        return 3
    if not quiet:
        threshold = work.detector.settings.score_threshold if shown is None else None
        tell(records, out, threshold, work.pictures is not None)
    return int(any(record.error for record in records))


def _describe(work: Work, weights: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """The run as run.json holds it."""
    from detector.detection.load import SHIPPED

    detector, records = work.detector, work.records
    return {
        "version": __version__,
        "weights": str(weights or SHIPPED),
        "settings": detector.settings.model_dump(mode="json"),
        "given": given,
        "budget": detector.budget,
        "proposals": _origin(work),
        "classes": list(work.classes),
        "members": len(detector.ensemble.members),
        "device": str(detector.device),
        "precision": detector.ensemble.arithmetic,
        "not_looked_at": [str(record.path) for record in records if record.waits],
        "inputs": [record.describe() for record in records],
    }


def _origin(work: Work) -> dict[str, Any] | None:
    from detector.proposals.cache.stored import describe

    if work.boxes:
        return {"file": str(work.boxes.path), **work.boxes.describe()}
    if (store := work.store) is not None:
        return {"file": str(store.store.path), "key": store.key, "settings": store.settings}
    detector = work.detector
    return describe(detector.search) if hasattr(detector.proposer, "settings") else None
