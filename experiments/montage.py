"""Photographs shrunk and laid side by side into large ones, with labels: small things to find.

    python experiments/montage.py --data VOC2012 --split val --across 4 --side 250 --out montage
    inception-rcnn evaluate detections --data montage --split val --tile 500 --out tiled
    python experiments/montage.py --data VOC2012 --split val --across 4 --side 250 \
        --detections tiled/detections.json --out tiled.json

Each photograph fits into a cell of --side pixels; --across by --across cells are one picture, in
the order of the data set. The result is in PASCAL VOC's layout, `difficult` included. With
--detections, those of the large pictures are given back to the photographs: so intervals are over
photographs, of which there are many.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from xml.sax.saxutils import escape

import typer

from detector.cli import options as option
from detector.cli.app import run_tool

if TYPE_CHECKING:
    from detector.datasets import Dataset

_OBJECT = """<object><name>{}</name><difficult>{:d}</difficult><bndbox>\
<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>
"""
_PICTURE = """<annotation><folder>montage</folder><filename>{}.png</filename>
<size><width>{}</width><height>{}</height><depth>3</depth></size>
{}</annotation>
"""


def main(
    data: option.Data,
    out: Annotated[Path, typer.Option(help="Folder of the new data set, or file of detections.")],
    split: option.Split = None,
    across: Annotated[int, typer.Option(min=1, help="Photographs side by side.")] = 4,
    side: Annotated[int, typer.Option(min=16, help="Longest side of each in pixels.")] = 250,
    detections: Annotated[
        Path | None, typer.Option(help="detections.json of the large pictures.")
    ] = None,
) -> None:
    """Lay photographs and their labels side by side."""
    from detector.datasets import read_dataset

    dataset = read_dataset(data, split)
    if detections is None:
        lay(dataset, out, split or "all", across, side)
    else:
        give_back(dataset, detections, out, across, side)


def lay(dataset: Dataset, out: Path, split: str, across: int, side: int) -> None:
    """Write the large pictures and their labels."""
    from PIL import Image

    from detector.images.decoding import read_image

    images, labels, lists = out / "JPEGImages", out / "Annotations", out / "ImageSets/Main"
    for folder in (images, labels, lists):
        folder.mkdir(parents=True, exist_ok=True)
    names = []
    for start in range(0, len(dataset), across * across):
        name, objects = f"{start:06d}", []
        canvas = Image.new("RGB", (across * side, across * side), (123, 117, 104))
        for cell, sample in enumerate(dataset.samples[start : start + across * across]):
            photograph = Image.fromarray(read_image(sample.path))
            scale = side / max(photograph.size)
            x, y = cell % across * side, cell // across * side
            small = photograph.resize([max(1, round(scale * n)) for n in photograph.size])
            canvas.paste(small, (x, y))
            truth = sample.annotations
            boxes = truth.boxes * scale + [x + 1, y + 1, x, y]  # VOC's are 1-based and inclusive
            rows = zip(truth.labels, truth.difficult, boxes.round(2).tolist(), strict=True)
            objects += [(escape(dataset.classes[label]), hard, *box) for label, hard, box in rows]
        canvas.save(images / f"{name}.png")
        described = "".join(_OBJECT.format(*one) for one in objects)
        (labels / f"{name}.xml").write_text(_PICTURE.format(name, *canvas.size, described))
        names.append(name)
    (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    print(f"{out}: {len(names)} pictures of {len(dataset)} photographs")


def give_back(dataset: Dataset, detections: Path, out: Path, across: int, side: int) -> None:
    """Write the detections of the large pictures as those of the photographs that hold their
    centres.
    """
    import json

    import numpy as np

    from detector.boxes import clip, xyxy_from_coco
    from detector.images.decoding import read_image
    from detector.results.coco_json import write_results
    from detector.structures import Detections

    by_picture: dict[int, list[dict[str, Any]]] = {}
    for row in json.loads(detections.read_text()):
        by_picture.setdefault(int(row["image_id"]), []).append(row)
    results = {}
    for position, sample in enumerate(dataset.samples):
        cell = position % (across * across)
        size = read_image(sample.path).shape[:2]
        rows = by_picture.get(position - cell, [])
        boxes = xyxy_from_coco(np.array([row["bbox"] for row in rows]).reshape(-1, 4))
        boxes -= np.tile([cell % across * side, cell // across * side], 2)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        boxes = clip(boxes * (max(size) / side), size)
        mine = ((centres >= 0) & (centres < side)).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        labels = np.array([dataset.classes.index(row["category_name"]) for row in rows], np.int64)
        scores = np.array([row["score"] for row in rows])
        results[sample.image_id] = Detections(boxes[mine], scores[mine], labels[mine])
    write_results(out, dataset, results)


if __name__ == "__main__":
    run_tool(main, sys.argv[1:])
