"""Propose regions in any number of images, into one cache file that the other commands read.

    inception-rcnn propose run photos/ 'more/*.jpg' --out proposals.sqlite
    find . -name '*.jpg' | inception-rcnn propose run - --out proposals.sqlite --workers 8
    inception-rcnn propose import voc_2007_test.mat JPEGImages/ --out proposals.sqlite \\
        --order yxyx --base 1 --inclusive
    inception-rcnn propose export proposals.sqlite --to detectron2 --file train.pkl
    inception-rcnn propose verify proposals.sqlite

Started again, it goes on where it stopped. A file that gives no proposals is reported and the rest
go on (exit code 1).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli.app import reject_unused
from detector.errors import ImageError, ProposalError
from detector.files import make_place_for, read_regular, write_atomically
from detector.progress.interruption import stop_gently
from detector.progress.messages import pluralise, say_error

if TYPE_CHECKING:
    from detector.proposals.cache.stored import ProposalStore
    from detector.proposals.gather import Recorder
    from detector.structures import Proposals

Cache = Annotated[Path, typer.Option(help="The cache: one SQLite file.")]


def main(
    images: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, or - for a list on stdin.")
    ],
    out: Cache = Path("proposals.sqlite"),
    engine: Annotated[str, typer.Option(help="selective-search, multibox, both or opencv.")] = (
        "selective-search"
    ),
    preset: Annotated[str | None, typer.Option(help="single, fast or quality. [fast]")] = None,
    superpixel_scale: Annotated[
        float | None, typer.Option(help="1: the paper's; 2: GoogLeNet's. [2]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the random part of the ranking. [0]")] = None,
    longest_side: Annotated[
        int | None, typer.Option(help="Compute at this size; 0: full size. [500]")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="Another setting of the engine: NAME=VALUE.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 1,
    time_limit: Annotated[float, typer.Option(min=0.1, help="Seconds for one image.")] = 300.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> int:
    """Propose regions in images."""
    from detector.images.paths import image_paths
    from detector.proposals.cache.stored import ProposalStore
    from detector.proposals.engines import parse_options

    searching = {
        "preset": preset, "superpixel_scale": superpixel_scale, "seed": seed,
        "longest_side": longest_side,
    }  # fmt: skip
    given: dict[str, Any] = {k: value for k, value in searching.items() if value is not None}
    if engine == "multibox" and given.keys() - {"seed"}:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given if name != "seed")
        raise typer.BadParameter(f"{names}: --engine multibox has no such option; see --set")
    if longest_side == 0:
        given["longest_side"] = None  # null of the setting: full size
    paths = [str(path) for path in image_paths(images, sys.stdin)]
    chosen = given | parse_options(options or [], "--set")
    recorder = prepare(out, engine, chosen, quiet)
    with ProposalStore(out, "rw") as store:
        counts = record_all(paths, recorder, store, workers, time_limit, quiet)
        if not quiet:
            print(summary(store, counts, out))
    return 3 if counts.failed == len(paths) else int(counts.failed > 0)


# Wrong settings are found, and kernels compiled, once, before the workers start.
def prepare(out: Path, engine: str, chosen: dict[str, Any], quiet: bool) -> Recorder:
    from detector.proposals.cache.stored import describe
    from detector.proposals.engines import build_engine, warm_up
    from detector.proposals.gather import Recorder

    # Each worker keeps to one processor; the number of threads changes no box.
    given = {**chosen, "threads": 1}
    settings = describe(build_engine(engine, given))
    warm_up(engine, None if quiet else lambda text: print(text, file=sys.stderr))
    return Recorder(out, engine, given, settings)


@dataclass
class Counts:
    """Images of one run, with the boxes and the seconds of their searches."""

    made: int = 0
    known: int = 0
    failed: int = 0
    boxes: int = 0
    seconds: float = 0.0


def record_all(
    paths: list[str],
    recorder: Recorder,
    store: ProposalStore,
    workers: int,
    time_limit: float,
    quiet: bool,
) -> Counts:
    from detector.progress.bar import progress
    from detector.proposals.gather import Record
    from detector.proposals.workers import Lost, work_on

    counts = Counts()
    store.put_settings(recorder.settings)
    with stop_gently("the images under way") as stop:
        done = work_on(paths, recorder, workers, time_limit, lambda: bool(stop))
        for path, record in progress(done, "propose", len(paths), quiet):
            if isinstance(record, Lost):
                record = Record(path, error=f"{path}: {record.reason}")
            if record.error is not None:
                counts.failed += 1
                say_error(ProposalError(record.error))
                continue
            counts.known += record.seconds is None  # no search: the cache has it
            counts.made += record.seconds is not None
            counts.boxes += record.boxes
            counts.seconds += record.seconds or 0.0
    return counts


def summary(store: ProposalStore, counts: Counts, out: Path) -> str:
    stored = counts.made + counts.known
    made = pluralise(counts.made, "image")
    text = f"{made} done, {counts.known} known already, {counts.failed} failed"
    if counts.made:
        text += f"; {counts.seconds / counts.made:.3f} s of search an image"
    if stored:
        text += f"; {pluralise(round(counts.boxes / stored), 'box')} an image"
    boxes, size = store.total_boxes(), store.size_on_disk()
    about = f"{pluralise(store.count(), 'image')}, {pluralise(boxes, 'box')}"
    text += f"\n{out}: {about}, {size / 1e6:.1f} MB"
    return f"{text}, {size / boxes:.2f} bytes a box" if boxes else text


def import_foreign(
    file: Annotated[Path, typer.Argument(help="A .mat, .pkl, .npz or .json of proposals.")],
    images: Annotated[list[str], typer.Argument(help="The images: files, folders, globs, or -.")],
    *,
    order: Annotated[str, typer.Option(help="xyxy, yxyx or xywh, as in the file.")],
    base: Annotated[int, typer.Option(min=0, max=1, help="What the first pixel is called.")],
    out: Cache = Path("proposals.sqlite"),
    inclusive: Annotated[
        bool | None,
        typer.Option("--inclusive/--exclusive", help="Whether the end pixel belongs to a box."),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="Image list, for files that hold no names.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> int:
    """Put proposals that others made into a cache. R-CNN's: --order yxyx --base 1 --inclusive."""
    from detector.images.decoding import content_hash, read_bytes
    from detector.images.paths import image_paths
    from detector.progress.bar import progress
    from detector.proposals.cache.stored import ProposalStore
    from detector.proposals.interchange.export import read_index
    from detector.proposals.interchange.layout import Layout, convert
    from detector.proposals.interchange.reading import match_names, read_foreign

    layout = Layout(order, base, inclusive)  # type: ignore[arg-type]
    foreign = read_foreign(file, read_index(names).names if names else None)
    paths = match_names(list(foreign), image_paths(images, sys.stdin))
    if not paths:
        raise ProposalError(
            f"{file}: none of its {len(foreign)} image names (such as {next(iter(foreign))}) is"
            " among the images given"
        )
    sizes = sizes_of(paths, quiet)
    imported = convert({name: foreign[name] for name in sizes}, sizes, layout)
    settings = {
        "engine": "imported", "file": file.name, "sha256": content_hash(read_regular(file)),
        "layout": str(layout),
    }  # fmt: skip
    with ProposalStore(out, "rw") as store:
        key = store.put_settings(settings)
        for name, proposals in progress(imported.proposals.items(), "store", len(sizes), quiet):
            content = content_hash(read_bytes(paths[name]))
            store.put(content, key, proposals, paths[name].name)
    absent = len(foreign) - len(sizes)
    if not quiet:
        boxes = pluralise(sum(map(len, imported.proposals.values())), "box")
        print(f"{pluralise(len(sizes), 'image')} with {boxes} imported into {out}")
    notes = {
        imported.remark: bool(imported.remark),
        f"left out: {pluralise(imported.dropped, 'box')} without area": bool(imported.dropped),
        f"{absent} of {len(foreign)} images in {file.name} were not found or not readable": absent,
    }
    for note in filter(notes.get, notes):
        print(f"note: {note}", file=sys.stderr)
    return int(absent > 0)


def sizes_of(paths: dict[str, Path], quiet: bool) -> dict[str, tuple[int, int]]:
    """(H, W) of each image that can be read, upright; the others are said on stderr."""
    from detector.images.decoding import read_image
    from detector.progress.bar import progress

    sizes = {}
    for name, path in progress(paths.items(), "look at images", len(paths), quiet):
        try:
            height, width = read_image(path).shape[:2]
            sizes[name] = (height, width)
        except ImageError as error:
            say_error(error)
    if not sizes:
        raise ImageError("none of the images could be read")
    return sizes


def export_foreign(
    context: typer.Context,
    cache: Annotated[Path, typer.Argument(help="The cache.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Only these, by their names of today: files, folders, globs, or -. [all]"
        ),
    ] = None,
    *,
    to: Annotated[str, typer.Option(help="detectron2, mmdetection (3) or mmdetection2.")],
    file: Annotated[Path, typer.Option(help="Where to write, such as train.pkl.")],
    index: Annotated[
        Path | None,
        typer.Option(help="COCO .json or image list: gives order and ids. [file stems]"),
    ] = None,
    folder: Annotated[str, typer.Option(help="MMDetection 3: the images' folder.")] = "",
    settings: Annotated[
        str | None, typer.Option(help="Hash of the settings, where the cache has several.")
    ] = None,
) -> int:
    """Write a cache's proposals as Detectron2 or MMDetection read them."""
    from detector.images.paths import image_paths
    from detector.proposals.cache.stored import ProposalStore
    from detector.proposals.interchange.export import by_name, export, read_index

    if to != "mmdetection":
        reject_unused(context, ["folder"], "without --to mmdetection")
    with ProposalStore(cache) as store:
        key = store.only_settings(settings)
        items = store.items(key)
        if images:
            items = items_of(store, key, image_paths(images, sys.stdin))
        proposals = by_name(items)
    order = read_index(index) if index else None
    content = export(proposals, to, order, folder)
    make_place_for(file)
    write_atomically(file, content)
    number = len(proposals if order is None else order.names)
    print(f"{file}: proposals of {pluralise(number, 'image')} for {to}")
    return 0


def items_of(store: ProposalStore, key: str, paths: list[Path]) -> Iterator[tuple[str, Proposals]]:
    """(name, proposals) of image files, found by what is in them."""
    from detector.images.decoding import content_hash, read_bytes

    for path in paths:
        proposals = store.get(content_hash(read_bytes(path)), key)
        if proposals is None:
            raise ProposalError(
                f"{store.path}: no proposals for {path}; make them with inception-rcnn propose run"
            )
        yield path.name, proposals


def verify(cache: Annotated[Path, typer.Argument(help="The cache.")]) -> int:
    """Decode every row of a cache; damaged ones are listed (run propose again to redo them)."""
    from detector.proposals.cache.stored import ProposalStore

    with ProposalStore(cache) as store:
        damaged = store.verify()
        for one in damaged:
            print(f"damaged: image {one.content}, settings {one.settings[:16]}: {one.reason}")
        for key, settings in store.settings().items():
            print(f"{pluralise(store.count(key), 'image')} under {key[:16]}: {settings}")
    return int(bool(damaged))
