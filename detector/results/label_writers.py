"""Writers of pre-annotations, one a format: a folder of label files for pictures and their boxes.

Boxes are in hundredths of a pixel of the upright picture, which is the frame that the tools show.
"""

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from detector import __version__
from detector.boxes import voc_from_xyxy
from detector.files import write_json_rows


class Box(NamedTuple):
    """One detection; corners in pixels."""

    label: int
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class Picture(NamedTuple):
    """A picture and what was detected in it.

    name  its path below the folder of the pictures, with `/` between folders
    size  (H, W) of the upright picture
    """

    name: str
    size: tuple[int, int]
    boxes: Sequence[Box]

    @property
    def stem(self) -> str:
        return os.path.splitext(self.name)[0]


class LabelSet(NamedTuple):
    """Pictures with detections; `folder` is the name of the folder that they lie in."""

    classes: Sequence[str]
    category_ids: Sequence[int]
    folder: str
    pictures: Sequence[Picture]


def write_yolo(folder: Path, labels: LabelSet) -> None:
    """Write labels/NAME.txt, the names of the classes, and a data.yaml that lists the pictures."""
    for picture in labels.pictures:
        height, width = picture.size
        rows = [
            f"{box.label} {(box.x1 + box.x2) / 2 / width:.8f} {(box.y1 + box.y2) / 2 / height:.8f}"
            f" {(box.x2 - box.x1) / width:.8f} {(box.y2 - box.y1) / height:.8f}\n"
            for box in picture.boxes
        ]
        _write(folder / "labels" / f"{picture.stem}.txt", "".join(rows))
    # Among the labels, where LabelImg looks for it.
    _write(folder / "labels" / "classes.txt", "".join(f"{name}\n" for name in labels.classes))
    _write(folder / "train.txt", "".join(f"images/{p.name}\n" for p in labels.pictures))
    names = json.dumps(dict(enumerate(labels.classes)), ensure_ascii=False)
    _write(folder / "data.yaml", f"path: .\ntrain: train.txt\nnames: {names}\n")


def write_voc(folder: Path, labels: LabelSet) -> None:
    """Write Annotations/NAME.xml, and the list of the pictures, without which CVAT imports none."""
    stems = [picture.stem for picture in labels.pictures]
    _write(folder / "ImageSets" / "Main" / "train.txt", "".join(f"{stem}\n" for stem in stems))
    for picture in labels.pictures:
        root = ET.Element("annotation")
        _texts(root, folder="JPEGImages", filename=os.path.basename(picture.name))
        height, width = picture.size
        _texts(ET.SubElement(root, "size"), width=width, height=height, depth=3)
        for box in picture.boxes:
            node = ET.SubElement(root, "object")
            _texts(node, name=labels.classes[box.label], pose="Unspecified", truncated=0)
            _texts(node, difficult=0)
            xmin, ymin, xmax, ymax = voc_from_xyxy(np.array([box[2:]]))[0].tolist()
            # Readers take two corners that coincide for a click.
            xmax, ymax = xmax + 0.01 * (xmax == xmin), ymax + 0.01 * (ymax == ymin)
            corners = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
            _texts(ET.SubElement(node, "bndbox"), **{k: f"{v:.2f}" for k, v in corners.items()})
        _write(folder / "Annotations" / f"{picture.stem}.xml", _xml(root))


def write_coco(folder: Path, labels: LabelSet) -> None:
    """Write annotations.json: images, annotations, each with its score, and categories."""
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, picture in enumerate(labels.pictures, start=1):
        height, width = picture.size
        image = {"id": number, "file_name": picture.name, "width": width, "height": height}
        images.append(image)
        for box in picture.boxes:
            sides = [round(box.x2 - box.x1, 2), round(box.y2 - box.y1, 2)]
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": number,
                    "category_id": labels.category_ids[box.label],
                    "bbox": [box.x1, box.y1, *sides],
                    "area": round(sides[0] * sides[1], 4),
                    "iscrowd": 0,
                    "segmentation": [],
                    "score": box.score,
                }
            )
    numbered = zip(labels.category_ids, labels.classes, strict=True)
    categories = [{"id": number, "name": name} for number, name in numbered]
    content = {"images": images, "annotations": rows, "categories": categories}
    _write(folder / "annotations.json", json.dumps(content) + "\n")


def write_labelme(folder: Path, labels: LabelSet) -> None:
    """Write NAME.json, flat where no two pictures have one name, as `labelme --output` wants it."""
    bases = [os.path.basename(picture.stem) for picture in labels.pictures]
    flat = len(set(bases)) == len(bases)
    for picture, base in zip(labels.pictures, bases, strict=True):
        name = base if flat else picture.stem
        shapes: list[dict[str, Any]] = [
            {
                "label": labels.classes[box.label],
                "points": [[box.x1, box.y1], [box.x2, box.y2]],
                "group_id": None,
                "description": f"score {box.score:.3f}",
                "shape_type": "rectangle",
                "flags": {},
                "mask": None,
            }
            for box in picture.boxes
        ]
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": "../" * name.count("/") + f"images/{picture.name}",
            "imageData": None,
            "imageHeight": picture.size[0],
            "imageWidth": picture.size[1],
        }
        _write(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")


def write_label_studio(folder: Path, labels: LabelSet) -> None:
    """Write tasks.json, whose predictions name local files below the folder that holds the
    pictures' own, and the labelling interface that they are for.
    """
    rows = []
    for picture in labels.pictures:
        scores = [box.score for box in picture.boxes]
        path = "/".join(filter(None, (labels.folder, picture.name)))
        prediction = {
            "model_version": f"inception-rcnn {__version__}",
            "result": label_studio_result(picture, labels.classes),
            "score": round(sum(scores) / len(scores), 6) if scores else 0.0,
        }
        image = f"/data/local-files/?d={quote(path, errors='surrogateescape')}"
        rows.append({"data": {"image": image}, "predictions": [prediction]})
    write_json_rows(folder / "tasks.json", rows)
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image")
    choices = ET.SubElement(view, "RectangleLabels", name="label", toName="image")
    for name in labels.classes:
        ET.SubElement(choices, "Label", value=name)
    ET.indent(view)
    _write(folder / "interface.txt", ET.tostring(view, "unicode") + "\n")


def label_studio_result(picture: Picture, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The regions of a prediction, in percent, for `<RectangleLabels name="label" toName="image">`
    of Label Studio.
    """
    height, width = picture.size
    return [
        {
            "id": f"box{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": box.score,
            "value": {
                "x": round(100 * box.x1 / width, 6),
                "y": round(100 * box.y1 / height, 6),
                "width": round(100 * (box.x2 - box.x1) / width, 6),
                "height": round(100 * (box.y2 - box.y1) / height, 6),
                "rotation": 0,
                "rectanglelabels": [classes[box.label]],
            },
        }
        for number, box in enumerate(picture.boxes, start=1)
    ]


def write_cvat(folder: Path, labels: LabelSet) -> None:
    """Write annotations.xml, "CVAT for images 1.1"."""
    root = ET.Element("annotations")
    _texts(root, version="1.1")
    known = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for name in labels.classes:
        _texts(ET.SubElement(known, "label"), name=name, attributes="")
    for number, picture in enumerate(labels.pictures):
        height, width = map(str, picture.size)
        image = ET.SubElement(
            root, "image", id=str(number), name=picture.name, width=width, height=height
        )
        for box in picture.boxes:
            corners = zip(("xtl", "ytl", "xbr", "ybr"), box[2:], strict=True)
            ET.SubElement(
                image,
                "box",
                {
                    "label": labels.classes[box.label],
                    "source": "auto",
                    "occluded": "0",
                    **{name: f"{side:.2f}" for name, side in corners},
                    "z_order": "0",
                },
            )
    _write(folder / "annotations.xml", _xml(root))


WRITERS: Mapping[str, Callable[[Path, LabelSet], None]] = {
    "yolo": write_yolo,
    "voc-xml": write_voc,
    "coco-instances": write_coco,
    "labelme": write_labelme,
    "label-studio": write_label_studio,
    "cvat": write_cvat,
}


def _texts(parent: ET.Element, **texts: object) -> None:
    for tag, text in texts.items():
        ET.SubElement(parent, tag).text = str(text)


def _xml(root: ET.Element) -> bytes:
    ET.indent(root)
    return ET.tostring(root, "utf-8", xml_declaration=True) + b"\n"


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
