"""Everything that reads files of strangers, each with good files to begin from."""

import dataclasses
import io
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Reader:
    """seeds: a folder to work in -> good files. read: a file's bytes and the folder -> nothing, or
    a typed error.
    """

    name: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], object]


def _written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _pixels() -> Any:
    return np.random.default_rng(0).integers(0, 256, (18, 24, 3), np.uint8)


def _pictures(_: Path) -> list[bytes]:
    from PIL import Image

    found = []
    picture = Image.fromarray(_pixels())
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, mode, options in (
        ("JPEG", "RGB", {"exif": exif}), ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "I;16", {}),
        ("GIF", "P", {}),
        ("WEBP", "RGB", {}), ("BMP", "RGB", {}), ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "F", {}), ("PPM", "L", {}),
    ):  # fmt: skip
        data = io.BytesIO()
        how: dict[str, Any] = dict(options)
        wanted = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
        wanted.save(data, kind, **how)
        found.append(data.getvalue())
    return found


def _read_picture(data: bytes, _: Path) -> object:
    from detector.images.decoding import content_hash, decode

    content_hash(data)
    return decode(data, "fuzz.jpg")


def _picture_at(path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        Image.fromarray(_pixels()).save(path, "JPEG")


def _xml(_: Path) -> list[bytes]:
    one = (
        "<object><name>{}</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>"
        "<bndbox><xmin>{}</xmin><ymin>3</ymin><xmax>20</xmax><ymax>15.5</ymax></bndbox></object>"
    )
    size = "<size><width>24</width><height>18</height><depth>3</depth></size>"
    whole = f"<annotation><filename>a.jpg</filename>{size}{one.format('cat', 2)}"
    return [
        f"{whole}{one.format('dog', 5)}</annotation>".encode(),
        f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}</annotation>'.encode(),
    ]


def _read_xml(data: bytes, folder: Path) -> object:
    from detector.datasets import read_voc

    _picture_at(folder / "voc" / "JPEGImages" / "a.jpg")
    _written(folder, "voc/ImageSets/Main/train.txt", b"a\n")
    _written(folder, "voc/Annotations/a.xml", data)
    return read_voc(folder / "voc", "train")


def _instances(_: Path) -> list[bytes]:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 24, "height": 18}],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2.5, 9, 9], "area": 81,
             "iscrowd": 0, "segmentation": [[1, 2, 10, 2, 10, 11]]},
            {"id": 8, "image_id": 1, "category_id": 17, "bbox": [0, 0, 24, 18], "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 17, "name": "cat"}],
    }  # fmt: skip
    return [json.dumps(content).encode(), json.dumps(content, indent=1).encode()]


def _read_instances(data: bytes, folder: Path) -> object:
    from detector.datasets import read_coco

    _picture_at(folder / "coco" / "a.jpg")
    return read_coco(_written(folder, "coco/instances.json", data))


def _labelme(_: Path) -> list[bytes]:
    shapes = [
        {"label": "cat", "shape_type": "rectangle", "points": [[1, 2.5], [9, 9]], "flags": {}},
        {"label": "dog", "shape_type": "polygon", "points": [[1, 2], [10, 2], [10, 11]]},
    ]
    content = {"version": "5.5.0", "shapes": shapes, "imagePath": "a.jpg", "imageData": None,
               "imageHeight": 18, "imageWidth": 24}  # fmt: skip
    return [json.dumps(content).encode(), json.dumps(content, indent=2).encode()]


def _tasks(_: Path) -> list[bytes]:
    sides = {"x": 10, "y": 20.5, "width": 40, "height": 30, "rotation": 15}
    region = {"type": "rectanglelabels", "from_name": "label", "to_name": "image",
              "original_width": 24, "original_height": 18, "image_rotation": 0,
              "value": {**sides, "rectanglelabels": ["cat"]}}  # fmt: skip
    data = {"image": "/data/local-files/?d=photos/a.jpg"}
    labelled = [{"id": 1, "data": data, "annotations": [{"id": 2, "result": [region]}]}]
    guessed = [{"data": data, "predictions": [{"model_version": "x", "result": [region]}]}]
    return [json.dumps(labelled).encode(), json.dumps(guessed, indent=1).encode()]


def _cvat(_: Path) -> list[bytes]:
    return [
        b'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
        b"<labels><label><name>cat</name></label></labels></task></meta>"
        b'<image id="0" name="a.jpg" width="24" height="18">'
        b'<box label="cat" occluded="0" xtl="1.5" ytl="2" xbr="9" ybr="9" rotation="20.0">'
        b'<attribute name="difficult">false</attribute></box>'
        b'<polygon label="dog" points="1.0,2.0;10.0,2.0;10.0,11.5"/></image></annotations>'
    ]


def _read_tool(folder_name: str, name: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> object:
        from detector.datasets import read_dataset

        _picture_at(folder / folder_name / "a.jpg")
        _written(folder, f"{folder_name}/{name}", data)
        return read_dataset(folder / folder_name)

    return read


def _labels(_: Path) -> list[bytes]:
    return [
        b"0 0.5 0.5 0.2 0.4\n1 0.25 0.75 0.5 0.5\n",
        b"1 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2",
        b"0 0.5 0.5 0.2 0.4 0.87 12\n0 0.5 0.5 0.2 0.4 0.45 0.4 2 0.55 0.6 0\n",
    ]


def _read_labels(data: bytes, folder: Path) -> object:
    from detector.datasets import read_yolo

    _picture_at(folder / "yolo" / "images" / "train" / "a.jpg")
    _written(folder, "yolo/labels/train/a.txt", data)
    return read_yolo(
        _written(folder, "yolo/data.yaml", b"path: .\ntrain: images/train\nnames: [cat, dog]\n")
    )


def _data_yaml(_: Path) -> list[bytes]:
    return [
        b"path: .\ntrain: images/train\nval: images/train\nnames:\n  0: cat\n  1: dog\n",
        b"train: images/train\nnc: 2\nnames: [cat, dog]\n",
        b"a: &a {train: [images/train]}\n<<: *a\nkpt_shape: [4, 2]\nnames: {0: on, 1: off}\n",
    ]


def _darknet(_: Path) -> list[bytes]:
    return [b"classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"]


def _read_darknet(data: bytes, folder: Path) -> object:
    from detector.datasets import read_yolo

    _picture_at(folder / "cvat" / "obj_train_data" / "a.jpg")
    _written(folder, "cvat/obj_train_data/a.txt", b"0 0.5 0.5 0.2 0.4\n")
    _written(folder, "cvat/train.txt", b"data/obj_train_data/a.jpg\n")
    _written(folder, "cvat/obj.names", b"cat\ndog\n")
    return read_yolo(_written(folder, "cvat/obj.data", data), "train")


def _read_data_yaml(data: bytes, folder: Path) -> object:
    from detector.datasets import read_yolo

    _picture_at(folder / "yaml" / "images" / "train" / "a.jpg")
    _written(folder, "yaml/labels/train/a.txt", b"0 0.5 0.5 0.2 0.4\n")
    return read_yolo(_written(folder, "yaml/data.yaml", data), "train")


def _configs(_: Path) -> list[bytes]:
    configs = Path(__file__).resolve().parents[2] / "configs"
    return [(configs / name).read_bytes() for name in ("shipped.yaml", "ilsvrc_det.yaml")]


def _read_config(data: bytes, folder: Path) -> object:
    from detector.settings import load_config, validate
    from detector.training.regions.settings import RegionTrainingConfig

    tree = load_config(_written(folder, "config.yaml", data))
    return validate(RegionTrainingConfig, tree, "config.yaml")


def _manifests(_: Path) -> list[bytes]:
    from detector.detection.load import SHIPPED

    return [(SHIPPED / "bundle.json").read_bytes()]


def _read_manifest(data: bytes, folder: Path) -> object:
    from detector.detection.bundle import read_manifest

    _written(folder, "bundle/bundle.json", data)
    return read_manifest(folder / "bundle")


def _weights(_: Path) -> list[bytes]:
    import torch
    from safetensors.torch import save

    tensors = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    half = {name: one.half() for name, one in tensors.items()}
    return [save(tensors), save(half), save(tensors, {"format": "pt"})]


def _read_weights(data: bytes, folder: Path) -> object:
    from torch import nn

    from detector.models.weights.pretrained import fit, read_tensors

    path = _written(folder, "weights.safetensors", data)
    fit(nn.Linear(2, 3), read_tensors(path), str(path))
    return None


def _pth(_: Path) -> list[bytes]:
    import torch

    data = io.BytesIO()
    torch.save({"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, data)
    return [data.getvalue()]


def _read_pth(data: bytes, folder: Path) -> object:
    from detector.models.weights.pretrained import read_tensors

    return read_tensors(_written(folder, "weights.pth", data))


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def _caffemodels(_: Path) -> list[bytes]:
    shape = _field(7, _field(1, varint(3) + varint(2)))
    blob = shape + _field(5, struct.pack("<6f", *range(6)))
    layer = _field(1, b"fc") + _field(2, b"InnerProduct") + _field(7, blob)
    return [_field(1, b"net") + _field(100, layer)]


def _read_caffemodel(data: bytes, folder: Path) -> object:
    from detector.models.weights.caffemodel import read_caffemodel

    return read_caffemodel(_written(folder, "net.caffemodel", data))


def _small_multibox() -> Any:
    import torch

    from detector.proposals.calibration import Calibration
    from detector.proposals.multibox.network import HeadSettings
    from detector.proposals.multibox.priors import Priors
    from detector.proposals.multibox.weights import MultiBoxHeader, TrainedMultiBox, build_network

    corners = np.random.default_rng(0).uniform(0, 0.5, (50, 2))
    priors = Priors(np.concatenate([corners, corners + 0.5], 1), np.full((50, 4), 0.1))
    header = MultiBoxHeader(
        architecture="googlenet", options={"width": 0.0625}, after="3a", input_size=32,
        heads=HeadSettings(priors=50, width=8, hidden=8),
        calibration={"multibox": Calibration(slope=1.0, offset=-2.5)},
    )  # fmt: skip
    torch.manual_seed(0)
    return TrainedMultiBox(build_network(header, priors), priors, header)


def _multiboxes(folder: Path) -> list[bytes]:
    from detector.proposals.multibox.weights import save_multibox

    path = folder / "multibox.safetensors"
    found = []
    for stored in ("float16", "int8"):
        trained = _small_multibox()
        header = trained.header.model_copy(update={"stored_as": stored})
        save_multibox(path, dataclasses.replace(trained, header=header))
        found.append(path.read_bytes())
    return found


def _read_multibox(data: bytes, folder: Path) -> object:
    """With an image: what is loaded must run."""
    from detector.proposals.multibox.predict import MultiBox

    return MultiBox(_written(folder, "multibox.safetensors", data))(_pixels())


def _classifiers(folder: Path) -> list[bytes]:
    import torch

    from detector.models import build_model
    from detector.models.weights.classifier_file import save_classifier

    torch.manual_seed(0)
    options = {"width": 0.0625}
    state = build_model("googlenet", 2, **options).state_dict()
    path = folder / "classifier.safetensors"
    save_classifier(
        path, state, architecture="googlenet", options=options, input_size=64,
        classes=("cat", "dog"),
    )  # fmt: skip
    return [path.read_bytes()]


def _read_classifier(data: bytes, folder: Path) -> object:
    import torch

    from detector.models.weights.classifier_file import load_classifier

    found = load_classifier(_written(folder, "classifier.safetensors", data))
    model: Any = found.model.eval()
    with torch.no_grad():
        return model(model.normalisation(torch.zeros(1, 3, found.input_size, found.input_size)))


def _headers(whole: Callable[[Path], list[bytes]]) -> Callable[[Path], list[bytes]]:
    """What safetensors files say of themselves, in lines of key=value: without the numbers, which
    all damage would hit, and whatever becomes of it a header.
    """

    def seeds(folder: Path) -> list[bytes]:
        said = [_taken_apart(one)[0]["__metadata__"] for one in whole(folder)]
        return ["\n".join(f"{k}={v}" for k, v in one.items()).encode() for one in said]

    return seeds


def _read_header(
    whole: Callable[[Path], list[bytes]], read: Callable[[bytes, Path], object]
) -> Callable[[bytes, Path], object]:
    """`read` of the first of the whole files with another header."""
    kept: list[tuple[dict[str, Any], bytes]] = []

    def put_together(data: bytes, folder: Path) -> object:
        if not kept:
            folder.mkdir(parents=True, exist_ok=True)
            kept.append(_taken_apart(whole(folder)[0]))
        head, numbers = kept[0]
        lines = data.decode("utf-8", "replace").split("\n")
        said = {key: value for key, _, value in (line.partition("=") for line in lines)}
        text = json.dumps({**head, "__metadata__": said}).encode()
        return read(len(text).to_bytes(8, "little") + text + numbers, folder)

    return put_together


def _taken_apart(file: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(file[:8], "little")
    head: dict[str, Any] = json.loads(file[8:end])
    return head, file[end:]


def _checkpoints(folder: Path) -> list[bytes]:
    import torch

    from detector.training.engine.checkpoint import Checkpoint, save_checkpoint

    made = Checkpoint(3, "print", {"model": {"a": torch.ones(2)}, "average": {"a": torch.ones(2)}})
    return [save_checkpoint(folder / "made", made).read_bytes()]


def _read_checkpoint(data: bytes, folder: Path) -> object:
    from detector.training.engine.checkpoint import load_checkpoint

    _written(folder, "run/checkpoint.safetensors", data)
    return load_checkpoint(folder / "run", "print")


_BOXES = np.array([[1.0, 2, 9, 9], [0, 0, 24, 18]])


def _foreign(kind: str) -> Callable[[Path], list[bytes]]:
    def seeds(_: Path) -> list[bytes]:
        data = io.BytesIO()
        if kind == "mat":
            from scipy.io import savemat

            cells = np.empty((1, 2), object)
            cells[0, 0], cells[0, 1] = _BOXES, _BOXES[:1]
            names = np.array([["a"], ["b"]], object)
            savemat(data, {"boxes": cells, "images": names}, do_compression=False)
        elif kind == "npz":
            np.savez(data, a=_BOXES, b=_BOXES[:1])
        elif kind == "pkl":
            scores = [np.array([0.5, 0.25])]
            pickle.dump({"ids": ["a"], "boxes": [_BOXES], "objectness_logits": scores}, data)
        else:
            rows = [{"image_id": 1, "bbox": [1, 2, 9, 9], "score": 0.5}]
            return [json.dumps({"a": _BOXES.tolist()}).encode(), json.dumps(rows).encode()]
        return [data.getvalue()]

    return seeds


def _read_foreign(kind: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> object:
        from detector.proposals.interchange.reading import read_foreign

        return read_foreign(_written(folder, f"boxes.{kind}", data), ["a", "b"])

    return read


def _caches(folder: Path) -> list[bytes]:
    from detector.proposals.cache.stored import ProposalStore
    from detector.structures import Proposals

    path = folder / "made.sqlite"
    path.unlink(missing_ok=True)
    with ProposalStore(path, "rw") as store:
        key = store.put_settings({"engine": "fuzz"})
        store.put("ab" * 32, key, Proposals(_BOXES, (18, 24)))
    return [path.read_bytes()]


def _read_cache(data: bytes, folder: Path) -> object:
    from detector.proposals.cache.stored import ProposalStore

    path = _written(folder, "cache.sqlite", data)
    for beside in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    with ProposalStore(path) as store:
        found = [list(store.items(key)) for key in store.settings()]
        return found, store.verify(), store.total_boxes()


def _rows(_: Path) -> list[bytes]:
    """Rows of the cache without their checksum, which would hide all that comes after it."""
    from detector.proposals.cache.coding import encode
    from detector.structures import Proposals

    corners = np.random.default_rng(0).integers(0, 16, (50, 4))
    grid = np.unique(np.concatenate([corners[:, :2], corners[:, :2] + 1], 1), axis=0)
    scores = np.linspace(1, 0, len(grid), dtype=np.float32)
    free = grid.astype(np.float32) + np.float32(0.123)
    parts = (
        Proposals(grid, (18, 24)),
        Proposals(grid, (18, 24), scores),
        Proposals(free, (18, 24)),
    )
    return [encode(one)[:-4] for one in parts]


def _read_row(data: bytes, _: Path) -> object:
    import zlib

    from detector.proposals.cache.coding import decode

    return decode(data + zlib.crc32(data).to_bytes(4, "little"))


def _results(layout: str) -> Callable[[Path], list[bytes]]:
    def seeds(_: Path) -> list[bytes]:
        if layout == "json":
            row = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 9, 9], "score": 0.5}
            named = {**row, "file_name": "../x/a%20b.JPG", "category_name": "car"}
            return [json.dumps([row]).encode(), json.dumps([row, named]).encode()]
        if layout == "csv":
            head = b"image_id,class,score,x1,y1,x2,y2\n"
            rows = head + b"1,car,0.5,1,2,10,11\n"
            return [rows, b"sep=;\n" + rows.replace(b",", b";").replace(b".", b",")]
        return [b"1 3 0.9 1 2 10 11\n1 17 0.5 3 3 9 9\n"]

    return seeds


def _read_results(layout: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> object:
        from detector.datasets import read_coco
        from detector.results.results import read_results

        _picture_at(folder / "coco" / "a.jpg")
        dataset = read_coco(_written(folder, "coco/good.json", _instances(folder)[0]))
        return read_results(_written(folder, f"results.{layout}", data), dataset)

    return read


READERS = (
    Reader("image", _pictures, _read_picture),
    Reader("voc-xml", _xml, _read_xml),
    Reader("coco-json", _instances, _read_instances),
    Reader("labelme", _labelme, _read_tool("labelme", "a.json")),
    Reader("label-studio", _tasks, _read_tool("tasks", "tasks.json")),
    Reader("cvat-xml", _cvat, _read_tool("cvat-xml", "annotations.xml")),
    Reader("yolo-labels", _labels, _read_labels),
    Reader("yolo-yaml", _data_yaml, _read_data_yaml),
    Reader("yolo-darknet", _darknet, _read_darknet),
    Reader("config", _configs, _read_config),
    Reader("bundle", _manifests, _read_manifest),
    Reader("safetensors", _weights, _read_weights),
    Reader("pth", _pth, _read_pth),
    Reader("caffemodel", _caffemodels, _read_caffemodel),
    Reader("multibox", _multiboxes, _read_multibox),
    Reader("multibox-header", _headers(_multiboxes), _read_header(_multiboxes, _read_multibox)),
    Reader("classifier", _classifiers, _read_classifier),
    Reader(
        "classifier-header", _headers(_classifiers), _read_header(_classifiers, _read_classifier)
    ),
    Reader("checkpoint", _checkpoints, _read_checkpoint),
    Reader("proposal-cache", _caches, _read_cache),
    Reader("proposal-row", _rows, _read_row),
    *(
        Reader(f"proposals-{k}", _foreign(k), _read_foreign(k))
        for k in ("mat", "npz", "pkl", "json")
    ),
    *(Reader(f"results-{k}", _results(k), _read_results(k)) for k in ("json", "csv", "txt")),
)
