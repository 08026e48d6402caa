"""Results of a detection: detections.json, run.json, annotated pictures, and a table."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from detector.boxes import xyxy_from_coco
from detector.cli.detecting.records import Record, place
from detector.datasets import Dataset, Sample
from detector.files import open_regular, write_atomically
from detector.images.drawing import draw
from detector.images.paths import short_names
from detector.progress.messages import escape_controls, pluralise, say
from detector.results.coco_json import FILE, write_detections
from detector.results.label_files import write_label_files
from detector.structures import Annotations, Array, Detections

RUN = "run.json"
# Begins the comment in an annotated picture; the key of its run follows (resume.py).
_MARK = b"inception-rcnn detect "


def write_picture(
    path: Path, image: Array, found: Detections, names: Sequence[str], key: str
) -> None:
    buffer = io.BytesIO()
    comment = _MARK + key.encode()
    draw(image, found, names).save(buffer, "JPEG", quality=92, comment=comment)
    write_atomically(path, buffer.getvalue())


def mark_of(picture: Path) -> str | None:
    """The key of the run that annotated a picture; None of any other file."""
    try:
        with open_regular(picture) as file:
            start = file.read(256)
    except OSError:
        return None
    _, found, after = start.partition(_MARK)
    return after[:32].decode("ascii", "replace") if found else None  # a key has 32


def clear(out: Path, records: Sequence[Record], key: str, *, pictures: bool, results: bool) -> None:
    """Remove what would contradict the results of this run: pictures annotated by other settings,
    and those of its own images that it has not annotated; with `results` also the JSON files of
    before. Nothing that was given as an image goes, nor anybody else's file.

    pictures  whether it annotates any
    """
    inputs = {place(record.path) for record in records}
    written = {record.picture for record in records if pictures and record.rows is not None}
    stale = {record.picture for record in records} - written
    for path in out.glob("*.jpg"):
        mark = mark_of(path)
        if mark is not None and (mark != key or path.name in stale) and place(path) not in inputs:
            path.unlink(missing_ok=True)
    for name in (FILE, RUN) if results else ():
        (out / name).unlink(missing_ok=True)


def sorted_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Every detection, best first; equal scores by image and class, so that the order of the inputs
    does not show.
    """
    rows = [row for record in records for row in record.rows or ()]
    return sorted(
        rows, key=lambda row: (-row["score"], str(row["image_id"]), row["category_id"], row["bbox"])
    )


def write_results(out: Path, rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> None:
    """Write detections.json and run.json; no older run.json stays beside new detections."""
    write_detections(out / FILE, rows)
    try:
        write_atomically(out / RUN, json.dumps(run, indent=1) + "\n")
    except BaseException:  # an interruption, too
        with suppress(OSError):
            (out / RUN).unlink()
        raise


def write_labels(
    folder: Path, records: Sequence[Record], classes: Sequence[str], format: str, quiet: bool
) -> None:
    """Write the label files of all images that were looked at, and say which have none."""
    done = [record for record in records if record.rows is not None]
    samples = tuple(
        Sample(record.image_id, record.path, record.size, Annotations.empty()) for record in done
    )
    results = {record.image_id: _detections_in(record.rows or (), classes) for record in done}
    dataset = Dataset(folder.name, tuple(classes), samples)
    left_out = write_label_files(folder, dataset, results, format) if samples else []
    for sentence in left_out:
        say(f"warning: no label file: {sentence}")
    if samples and not quiet:
        say(f"{folder}/: label files of {pluralise(len(samples) - len(left_out), 'image')}")


def _detections_in(rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Detections:
    xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    scores = np.array([row["score"] for row in rows])
    # By name: the ids may be those of another detector's file.
    labels = np.array([classes.index(row["category_name"]) for row in rows], np.int64)
    return Detections(xyxy_from_coco(xywh), scores, labels, written=xywh)


def tell(records: Sequence[Record], out: Path, threshold: float | None, pictures: bool) -> None:
    """Print a table of all detections, unless `threshold` is None, and say what was written."""
    missing = sum(record.waits for record in records)
    if threshold is not None:
        show(records, threshold)
        empty = "" if any(record.rows for record in records) else " (empty)"
        say(f"{out}/: detections.json{empty}, run.json{', pictures' if pictures else ''}")
    if missing:
        say(f"{missing} of {len(records)} not looked at; the same command goes on")


def show(records: Sequence[Record], threshold: float) -> None:
    done = [record for record in records if record.rows is not None]
    if not any(record.rows for record in done):
        print(
            f"nothing found in {pluralise(len(done), 'image')} with a score of {threshold:.2f} or"
            " more; a lower --threshold shows what is less certain"
        )
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("image", "object"):
        table.add_column(name, overflow="fold")
    for name in ("score", "x1", "y1", "x2", "y2"):
        table.add_column(name, justify="right")
    # By identity: records change, so they have no hash.
    names = dict(zip(map(id, records), short_names([one.path for one in records]), strict=True))
    for record in done:
        image = escape_controls(names[id(record)])
        if not record.rows:
            table.add_row(image, "nothing above the threshold", "", "", "", "", "")
        for row in record.rows or ():
            x, y, width, height = row["bbox"]
            box = [f"{value:.0f}" for value in (x, y, x + width, y + height)]
            table.add_row(image, escape_controls(row["category_name"]), f"{row['score']:.2f}", *box)
    Console(markup=False, highlight=False, soft_wrap=True).print(table)
