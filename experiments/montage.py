"""Photographs shrunk and laid side by side into large ones, with labels: small things to find.

    python experiments/montage.py --data VOC2012 --split val --across 4 --side 250 --out montage
    inception-rcnn evaluate detections --data montage --split val --tile 500

Each photograph fits into a cell of --side pixels; --across by --across cells are one picture, in
the order of the data set. The result is in PASCAL VOC's layout, `difficult` included.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated
from xml.sax.saxutils import escape

import typer

from detector.cli import options as option
from detector.cli.app import run_tool

_OBJECT = """<object><name>{}</name><difficult>{:d}</difficult><bndbox>\
<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>
"""
_PICTURE = """<annotation><folder>montage</folder><filename>{}.png</filename>
<size><width>{}</width><height>{}</height><depth>3</depth></size>
{}</annotation>
"""


def main(
    data: option.Data,
    out: Annotated[Path, typer.Option(help="Folder of the new data set.")],
    split: option.Split = None,
    across: Annotated[int, typer.Option(min=1, help="Photographs side by side.")] = 4,
    side: Annotated[int, typer.Option(min=16, help="Longest side of each in pixels.")] = 250,
) -> None:
    """Lay photographs and their labels side by side."""
    from PIL import Image

    from detector.datasets import read_dataset
    from detector.images.decoding import read_image

    dataset = read_dataset(data, split)
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
    (lists / f"{split or 'all'}.txt").write_text("".join(f"{name}\n" for name in names))
    print(f"{out}: {len(names)} pictures of {len(dataset)} photographs")


if __name__ == "__main__":
    run_tool(main, sys.argv[1:])
