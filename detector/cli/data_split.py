"""Split a data set so that every class occurs about equally often in each part.

    inception-rcnn data split --data MY_DATA --val 0.2  # train, val
    inception-rcnn data split --data MY_DATA --folds 5  # fold1_train, fold1_val, ...
    inception-rcnn data split --data ILSVRC --split val --out lists/  # R-CNN's val1 and val2

By --val and --folds near-duplicates (copies, other sizes, mirrored, frames of one film) stay on one
side. VOC's XML gets lists of names, ILSVRC of names and numbers, YOLO of image files for its
data.yaml; COCO and the labelling tools' files get a COCO JSON file a part. Without --out they are
written where the data set's reader looks for them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli import options as option
from detector.errors import DatasetError
from detector.progress.messages import escape_controls, pluralise, say
from detector.seeds import LARGEST

if TYPE_CHECKING:
    from detector.datasets import Dataset
    from detector.datasets.balanced_split import Halves
    from detector.datasets.formats.recognise import DetectedFormat
    from detector.structures import Array


def main(
    data: option.Data,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the lists. [where the reader looks]")
    ] = None,
    split: option.Split = None,
    val: Annotated[
        float | None, typer.Option(help="Share of the images that val gets; train has the others.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Parts of which each is val once, train the others.")
    ] = None,
    together: Annotated[
        bool,
        typer.Option(
            "--near-duplicates/--no-near-duplicates",
            help="Of --val and --folds: look for near-duplicates and keep them on one side.",
        ),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST, help="Of the search.")] = 0,
    candidates: Annotated[int, typer.Option(min=1, help="Halves to choose from.")] = 4,
    quiet: option.Quiet = False,
) -> None:
    """Write the parts of a data set, and say how balanced they are."""
    from detector.datasets import read_dataset
    from detector.datasets.balanced_split import balanced_halves, class_counts

    if val is not None and folds is not None:
        raise typer.BadParameter("--val and --folds are two ways to split; choose one")
    if val is not None and not 0 < val < 1:
        raise typer.BadParameter(f"--val is {val:g}; give a share between 0 and 1, such as 0.2")
    dataset = read_dataset(data, split)
    out = out or usual_folder(data, split)
    counts = class_counts(dataset)
    if val is None and folds is None:
        halves = balanced_halves(counts, seed, candidates)
        stem = dataset.name.rpartition("/")[2]
        parts = {f"{stem}1": halves.first, f"{stem}2": ~halves.first}  # of val: val1 and val2
        hint = write(data, split, dataset, parts, out)
        report_halves(dataset, halves)
    else:
        parts = dealt(dataset, counts, val, folds, together, seed, quiet)
        hint = write(data, split, dataset, parts, out)
        report(dataset, counts, parts)
    if hint:
        typer.echo(hint)


def dealt(
    dataset: Dataset, counts: Array, val: float | None, folds: int | None, together: bool,
    seed: int, quiet: bool,
) -> dict[str, Array]:  # fmt: skip
    """(B,) bool by the name of each part."""
    import numpy as np

    from detector.datasets.balanced_split import stratified_parts
    from detector.datasets.near_duplicates import near_duplicates
    from detector.progress.bar import progress

    groups = np.arange(len(dataset))
    if together:
        paths = [sample.path for sample in dataset.samples]
        groups = near_duplicates(progress(paths, "look for near-duplicates", quiet=quiet))
        times = np.bincount(groups)
        if (times > 1).any():
            alike = times[times > 1]
            typer.echo(
                f"{pluralise(len(alike), 'group')} of near-duplicates, {alike.sum()} images in all,"
                " each kept on one side"
            )
    if val is not None:
        part = stratified_parts(counts, (1 - val, val), groups, seed)
        return {"train": part == 0, "val": part == 1}
    assert folds is not None
    part = stratified_parts(counts, [1.0] * folds, groups, seed)
    return {
        # Val is the fold itself, train all the others.
        f"fold{fold + 1}_{name}": (part == fold) == (name == "val")
        for fold in range(folds)
        for name in ("train", "val")
    }


def write(
    data: Path, split: str | None, dataset: Dataset, parts: dict[str, Array], out: Path
) -> str:
    """Write one file a part, for the format's own reader; returns how to go on. Raises DatasetError
    where another file is.
    """
    from detector.datasets.formats.recognise import TOOLS, detect_format
    from detector.files import exclusive_lock, write_atomically

    found = detect_format(data)
    in_coco = found.format == "coco" or found.format in TOOLS
    if in_coco:
        content = content_of(found, split)
        texts = {f"instances_{n}.json": t for n, t in of_coco(content, dataset, parts).items()}
    elif found.format == "yolo":
        texts = {f"{name}.txt": of_yolo(dataset, mine) for name, mine in parts.items()}
    else:
        numbered = found.format == "ilsvrc"
        texts = {f"{name}.txt": listing(dataset, mine, numbered) for name, mine in parts.items()}
    for name, text in texts.items():
        # The same text again is no harm: the command may be repeated.
        if (out / name).exists() and (out / name).read_text("utf-8", "replace") != text:
            raise DatasetError(f"{out / name}: is there already; move it, or choose another --out")
    with exclusive_lock(out):
        for name, text in texts.items():
            write_atomically(out / name, text)
    first = next(iter(texts))
    if in_coco:
        say_if_lost(out / first, data, next(iter(parts.values())).sum())
        return f"next: inception-rcnn train regions --data {out / first}"
    if found.format == "yolo":
        lists = ", ".join(f"{Path(one).stem}: {out / one}" for one in texts)
        return f"in data.yaml: {lists}"
    if found.format == "ilsvrc":  # R-CNN's lists: their owner knows where they go
        return ""
    return f"next: inception-rcnn train regions --data {data} --split {Path(first).stem}"


def usual_folder(data: Path, split: str | None) -> Path:
    """The folder in which the reader of a data set looks for lists and files of annotations."""
    from detector.datasets.formats.recognise import coco_file, detect_format

    found = detect_format(data)
    if found.format == "ilsvrc":
        raise typer.BadParameter("--out FOLDER is needed: ILSVRC's lists are nobody's to replace")
    if found.format == "coco":
        return coco_file(found, split).parent
    return found.home / "ImageSets" / "Main" if found.format == "voc" else found.home


def say_if_lost(path: Path, data: Path, images: int) -> None:
    """Warn where the images of a part are not found from the part's place."""
    from detector.datasets import read_dataset

    try:
        found = sum(sample.path.is_file() for sample in read_dataset(path).samples)
    except DatasetError:
        found = 0
    if found < images:
        say(
            f"warning: from {path} its reader finds {found} of {images} images; without --out the"
            f" parts go where those of {data} are found"
        )


def listing(dataset: Dataset, mine: Array, numbered: bool) -> str:
    rows = zip(dataset.samples, dataset.indices(), mine, strict=True)
    named = [(sample.image_id, f" {index}" * numbered) for sample, index, here in rows if here]
    return "".join(f"{name}{number}\n" for name, number in named)


def of_yolo(dataset: Dataset, mine: Array) -> str:
    rows = zip(dataset.samples, mine, strict=True)
    # Whole paths, so that the list may lie anywhere.
    return "".join(f"{sample.path.resolve()}\n" for sample, here in rows if here)


def content_of(detected: DetectedFormat, split: str | None) -> dict[str, Any]:
    """The file of a split in COCO's layout, into which labelling tools' files are put."""
    from detector.datasets.dataset import Ledger
    from detector.datasets.formats.coco import read_json
    from detector.datasets.formats.coco_entries import parts_of
    from detector.datasets.formats.recognise import coco_file, contents_in, only_split

    if detected.format == "coco":
        source = coco_file(detected, split)
        content = read_json(source)
        return {**content, **parts_of(content, source)}
    ledger = Ledger(detected.home)
    ((_, lists), *_) = contents_in(detected, ledger, split=only_split(detected, split)).values()
    return dict(lists)


def of_coco(content: dict[str, Any], dataset: Dataset, parts: dict[str, Array]) -> dict[str, str]:
    """The file's text by part, with only the part's images and their annotations."""
    from detector.datasets.formats.coco_entries import Owners, key_of

    owners = Owners(content["images"], {})
    texts = {}
    for name, mine in parts.items():
        ids = {one.image_id for one, here in zip(dataset.samples, mine, strict=True) if here}
        images = [entry for entry in content["images"] if key_of(entry, "id") in ids]
        rows = [entry for entry in content["annotations"] if owners.of(entry)[0] in ids]
        # A shape that is no object has no box there, so that it is left out again.
        part = {**content, "images": images, "annotations": rows}
        texts[name] = json.dumps(part, default=str) + "\n"
    return texts


def report_halves(dataset: Dataset, halves: Halves) -> None:
    worst = dataset.classes[halves.worst]
    typer.echo(
        f"{halves.first.sum()} and {pluralise((~halves.first).sum(), 'image')} of {dataset.name}"
    )
    typer.echo(
        f"relative imbalance of a class: at most {100 * halves.largest:.1f} % ({worst}), "
        f"median {100 * halves.median:.1f} %"
    )


def report(dataset: Dataset, counts: Array, parts: dict[str, Array]) -> None:
    for name, mine in parts.items():
        typer.echo(
            f"{name}: {pluralise(mine.sum(), 'image')}, {pluralise(counts[mine].sum(), 'object')}"
        )
    absent = absent_classes(dataset.classes, counts, [parts[n] for n in parts if n.endswith("val")])
    if absent:
        typer.echo(escape_controls(f"no object to judge by in some val: {', '.join(absent)}"))


def absent_classes(classes: Sequence[str], counts: Array, parts: Sequence[Array]) -> list[str]:
    """The classes that some part has no object of, though the set has."""
    lacking = [counts[mine].sum(0) == 0 for mine in parts]
    return [
        name
        for label, name in enumerate(classes)
        if counts[:, label].any() and any(one[label] for one in lacking)
    ]
