"""Writes small data sets in the four layouts, for the tests of their readers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def write_image(path: Path, width: int = 100, height: int = 80, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), (90, 120, 60)).save(path, exif=exif)
    return path


def voc_object(
    name: str = "cat", box: Sequence[object] = (11, 21, 30, 40), difficult: object = 0
) -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{inside}</bndbox></object>"
    )


def voc_xml(*objects: str, width: object = 100, height: object = 80) -> str:
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def write_voc(root: Path, annotations: dict[str, str], split: str | None = "train") -> Path:
    """One image of 100 x 80 pixels beside each annotation."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for identifier, text in annotations.items():
        write_image(root / "JPEGImages" / f"{identifier}.jpg")
        (root / "Annotations" / f"{identifier}.xml").write_text(text)
    if split is not None:
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(annotations) + "\n")
    return root


def coco_content(
    images: Sequence[dict[str, Any]] = (), annotations: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    return {
        "images": list(images) or [coco_image()],
        "annotations": list(annotations),
        "categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}],
    }


def coco_image(identifier: Any = 1, name: Any = "1.jpg", **change: Any) -> dict[str, Any]:
    return {"id": identifier, "file_name": name, "width": 100, "height": 80, **change}


def coco_object(identifier: Any = 1, **change: Any) -> dict[str, Any]:
    row = {"id": identifier, "image_id": 1, "category_id": 17, "bbox": [10, 20, 20, 20]}
    return {**row, **change}


def write_coco(root: Path, content: Any, name: str = "instances_train.json") -> Path:
    """The annotation file under root/annotations, and images 1.jpg and 2.jpg under root/train."""
    for one in ("1.jpg", "2.jpg"):
        write_image(root / "train" / one)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    path = root / "annotations" / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write_yolo(root: Path, labels: dict[str, str | None], names: object = ("car", "cat")) -> Path:
    """data.yaml and one image of 100 x 80 pixels beside each label file (None: no file)."""
    (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
    for stem, text in labels.items():
        write_image(root / "images" / "train" / f"{stem}.jpg")
        if text is not None:
            (root / "labels" / "train" / f"{stem}.txt").write_text(text)
    listed = list(names) if isinstance(names, tuple) else names
    path = root / "data.yaml"
    path.write_text(f"path: .\ntrain: images/train\nnames: {json.dumps(listed)}\n")
    return path


Boxes = Sequence[tuple[str, tuple[int, int, int, int]]]
"""Objects of one image: WordNet id, and corners as ILSVRC writes them."""


def write_ilsvrc(
    root: Path,
    val: Mapping[str, Boxes],
    train: Mapping[str, Boxes] | None = None,
    lists: Mapping[str, Mapping[str, int]] | None = None,
) -> Path:
    """The official layout: an image of 100 x 80 pixels beside each annotation, and val.txt.

    train  names with their folders, such as ILSVRC2013_train/n02672831/n02672831_7
    lists  further lists by name, such as train_1: image -> second column
    """
    for part, images in (("val", val), ("train", train or {})):
        for name, boxes in images.items():
            write_image(root / "Data" / "DET" / part / f"{name}.JPEG")
            xml = root / "Annotations" / "DET" / part / f"{name}.xml"
            xml.parent.mkdir(parents=True, exist_ok=True)
            xml.write_text(voc_xml(*(voc_object(wnid, box) for wnid, box in boxes)))
    numbered = {name: index for index, name in enumerate(val, start=1)}
    for name, rows in {"val": numbered, **(lists or {})}.items():
        path = root / "ImageSets" / "DET" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{image} {number}\n" for image, number in rows.items()))
    return root
