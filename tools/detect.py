"""Detect objects in pictures: a table, annotated pictures, detections.json and run.json.

    python tools/detect.py image.jpg
    python tools/detect.py photos/ 'more/*.png' --out found --threshold 0.3
    find . -name '*.jpg' | python tools/detect.py -

A file that cannot be read is reported and the rest go on (exit code 1). Results do not depend on
the order or the company of the images.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from common import options as option

from detector.reporting.cli import alone_in_out, run_tool

if TYPE_CHECKING:
    from detector.pipeline import Detector
    from detector.proposals.gather import StoredProposals
    from detector.structures import Array, Detections, Proposals


@alone_in_out
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
    from detecting.loading import Running, load, settings_given

    from detector.reporting.cli import stop_gently

    started = time.perf_counter()
    records, missed = _records(images, out)
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"--out {out} is a file; give a folder")
    if pictures:
        _keep_inputs(out, records)
    given = settings_given(
        max_proposals, score_threshold=threshold, nms_threshold=nms,
        max_detections=max_detections, svm=svm, regression=regression,
    )  # fmt: skip
    detector, store = load(
        Running(weights, ensemble, proposals, device, precision, threads, given, batch_size), quiet
    )
    loaded = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    with stop_gently() as stop:
        for _ in _run(detector, store, records, out if pictures else None, quiet):
            if stop:
                break
        done = time.perf_counter()
        rows = _rows(records, detector.classes)
        seconds = {"load": round(loaded - started, 3), "detect": round(done - loaded, 3)}
        _write(out, rows, records, detector, store, weights, given, seconds)
        if as_json:
            print(json.dumps(rows))
        elif not quiet:
            _table(records, detector.classes)
            wrote = ("detections.json", "run.json", *(["pictures"] if pictures else []))
            print(f"{out}/: {', '.join(wrote)}", file=sys.stderr)
    if all(one.found is None for one in records):
        return 3
    return 1 if missed or any(one.error for one in records) else 0


@dataclass
class Record:
    """One input and what became of it."""

    path: Path
    image_id: str
    picture: str
    size: tuple[int, int] | None = None
    raw_size: tuple[int, int] | None = None
    orientation: int | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    proposals: int | None = None
    seconds: float | None = None
    found: Detections | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """The record as run.json holds it."""
        return {
            "image_id": self.image_id,
            "file": str(self.path),
            "picture": self.picture if self.found is not None else None,
            "size": self.size,
            "raw_size": self.raw_size,
            "orientation": self.orientation,
            "warnings": list(self.warnings),
            "error": self.error,
            "proposals": self.proposals,
            "detections": len(self.rows) if self.found is not None else None,
            "seconds": self.seconds,
        }


def _records(images: list[str], out: Path) -> tuple[list[Record], list[str]]:
    """A record for each image that the arguments name, and what is wrong with arguments that name
    none, which is said on stderr too.
    """
    from detector.reporting.cli import visible
    from detector.reporting.inputs import image_ids, image_paths, output_names

    if "" in images:
        raise typer.BadParameter("an empty name is no image; . is the current folder")
    missed: list[str] = []
    paths = image_paths(images, sys.stdin, missed, results=out)
    for message in missed:
        print(visible(f"error: {message}"), file=sys.stderr)
    ids = image_ids(paths)
    names = output_names(ids, ".jpg")
    return [Record(*one) for one in zip(paths, ids, names, strict=True)], missed


def _keep_inputs(out: Path, records: list[Record]) -> None:
    """Refuse an annotated picture in the place of one of the pictures given."""
    inputs = {_place(record.path): record.path for record in records}
    for record in records:
        written = out / record.picture
        given = inputs.get(_place(written))
        if given is not None:
            raise typer.BadParameter(
                f"the annotated picture {written} would replace {given}; give another --out"
            )


def _place(path: Path) -> object:
    """Equal for two names of one file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return str(path)
    return found.st_dev, found.st_ino


def _run(
    detector: Detector, store: Any, records: list[Record], pictures: Path | None, quiet: bool
) -> Iterator[Record]:
    """Fill the records, in order; yields each as it is done."""
    from detector.reporting.progress import progress

    waiting: list[tuple[Record, Array, float]] = []

    def readable() -> Iterator[tuple[Array, Proposals | None]]:
        for record in records:
            started = time.perf_counter()
            pair = _read(record, store)
            if pair is not None:
                waiting.append((record, pair[0], time.perf_counter() - started))
                yield pair

    results = detector.detect_pairs(readable())
    for scored in progress(results, "detect", len(records), quiet or len(records) < 2):
        record, image, reading = waiting.pop(0)
        started = time.perf_counter()
        record.found, record.proposals = scored.detections, len(scored.proposals)
        _finish(record, image, detector.classes, pictures)
        writing = time.perf_counter() - started
        record.seconds = round(reading + scored.seconds + writing, 3)
        yield record


def _read(record: Record, store: Any) -> tuple[Array, Proposals | None] | None:
    from detector.errors import ImageError, ProposalError
    from detector.images import content_hash, decode, read_bytes
    from detector.reporting.cli import visible

    try:
        data = read_bytes(record.path)
        decoded = decode(data, str(record.path))
        proposals = store.of(content_hash(data), decoded.size, str(record.path)) if store else None
    except (ImageError, ProposalError) as error:
        record.error = str(error)
        print(visible(f"error: {error}"), file=sys.stderr)
        return None
    record.size, record.raw_size = decoded.size, decoded.raw_size
    record.orientation, record.warnings = decoded.orientation, decoded.warnings
    for warning in decoded.warnings:
        print(visible(f"warning: {record.path}: {warning}"), file=sys.stderr)
    return decoded.pixels, proposals


def _finish(record: Record, image: Array, classes: tuple[str, ...], pictures: Path | None) -> None:
    import io

    from detector.files import write_atomically
    from detector.reporting.draw import draw

    assert record.found is not None
    if pictures is not None:
        buffer = io.BytesIO()
        draw(image, record.found, classes).save(buffer, "JPEG", quality=92)
        write_atomically(pictures / record.picture, buffer.getvalue())


def _rows(records: list[Record], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every detection, best first; equal scores by image and class, so that the order of the inputs
    does not show. Only images with results are given ids beside each other, so that a file that
    cannot be read does not rename another of its stem.
    """
    from detector.export.coco_json import detection_rows
    from detector.reporting.inputs import image_ids

    done = [record for record in records if record.found is not None]
    for record, one in zip(done, image_ids([record.path for record in done]), strict=True):
        assert record.found is not None
        record.image_id = one
        record.rows = detection_rows(one, record.path.name, record.found, classes)
    rows = [row for record in done for row in record.rows]
    return sorted(
        rows, key=lambda row: (-row["score"], str(row["image_id"]), row["category_id"], row["bbox"])
    )


def _write(
    out: Path, rows: list[dict[str, Any]], records: list[Record], detector: Detector,
    store: Any, weights: Path | None, given: dict[str, Any], seconds: dict[str, float],
) -> None:  # fmt: skip
    from detector import __version__
    from detector.export.coco_json import write_detections
    from detector.files import write_atomically
    from detector.loading import SHIPPED

    write_detections(out / "detections.json", rows)
    run = {
        "version": __version__,
        "weights": str(weights or SHIPPED),
        "settings": detector.settings.model_dump(mode="json"),
        "given": given,
        "proposals": _origin(detector, store),
        "classes": list(detector.classes),
        "members": len(detector.ensemble.members),
        "device": str(detector.device),
        "precision": detector.ensemble.precision,
        "seconds": seconds,
        "inputs": [record.describe() for record in records],
    }
    write_atomically(out / "run.json", json.dumps(run, indent=1) + "\n")


def _origin(detector: Detector, store: StoredProposals | None) -> dict[str, Any] | None:
    """Where the regions came from, as run.json holds it."""
    from detector.proposals.cache.stored import describe

    if store is not None:
        return {"file": str(store.store.path), "key": store.key, "settings": store.settings}
    proposer = detector.propose_regions
    return describe(proposer) if hasattr(proposer, "settings") else None


def _table(records: list[Record], classes: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    from detector.reporting.cli import visible
    from detector.reporting.inputs import short_names

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("image", "object"):
        table.add_column(name, overflow="fold")
    for name in ("score", "x1", "y1", "x2", "y2"):
        table.add_column(name, justify="right")
    names = short_names([record.path for record in records])
    for record, name in zip(records, names, strict=True):
        if record.found is None:
            continue
        image = visible(name)
        if not len(record.found):
            table.add_row(image, "nothing above the threshold", "", "", "", "", "")
        for row in range(len(record.found)):
            box = [f"{value:.0f}" for value in record.found.boxes[row]]
            name = visible(classes[record.found.labels[row]])
            table.add_row(image, name, f"{record.found.scores[row]:.2f}", *box)
    Console(markup=False, highlight=False, soft_wrap=True).print(table)


if __name__ == "__main__":
    run_tool(main)
