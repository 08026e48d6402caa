"""Telling a data set's format from what lies in its folder, and reading it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from detector.datasets.dataset import Dataset, Ledger
from detector.datasets.formats import cvat, ilsvrc_lists, labelme, yolo_settings
from detector.datasets.formats.annotation_files import read_limited
from detector.datasets.formats.coco import MAX_JSON_BYTES, dataset_of, read_coco, split_of
from detector.datasets.formats.ilsvrc import read_ilsvrc
from detector.datasets.formats.label_studio import read_label_studio
from detector.datasets.formats.label_tools import Content, ToolFile, contents_of
from detector.datasets.formats.voc import read_voc
from detector.datasets.formats.voc import splits_of as voc_splits_of
from detector.datasets.formats.voc_files import folders_of, holds_annotations
from detector.datasets.formats.yolo import read_yolo
from detector.datasets.other_formats import cure_in, tool_files, tool_of
from detector.errors import AnnotationError, DatasetError

Format = Literal["voc", "coco", "yolo", "ilsvrc", "labelme", "label-studio", "cvat"]
Tool = Literal["labelme", "label-studio", "cvat"]
TOOLS: dict[Tool, Callable[[Path, Ledger], ToolFile]] = {
    "labelme": labelme.read_labelme,
    "label-studio": read_label_studio,
    "cvat": cvat.read_cvat,
}

_LOOKED_FOR = (
    "Annotations/*.xml, annotations/*.xml, or *.xml beside images (VOC)",
    "annotations/*.json, *.json or */_annotations.coco.json with images and annotations (COCO)",
    "*.yaml or *.yml with names, obj.data, or classes.txt (YOLO)",
    "ImageSets/DET and Annotations/DET (ILSVRC DET)",
    "*.json or *.xml of LabelMe, Label Studio or CVAT",
)

_OTHER_WORDS = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}


@dataclass(frozen=True)
class DetectedFormat:
    """A recognised data set: its format, the folder or file to read, and the splits on offer.

    files  those of a labelling tool, one a split where there are several
    """

    format: Format
    path: Path
    splits: tuple[str, ...]
    files: tuple[Path, ...] = ()

    @property
    def home(self) -> Path:
        """The folder by which the record names files."""
        return self.path if self.path.is_dir() else self.path.parent


def read_dataset(
    path: str | Path,
    split: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    images_root: str | Path | None = None,
    strict: bool = False,
) -> Dataset:
    """Read the data set at `path`, a folder or an annotation file, whatever its format.

    split        may be left out where there is only one; ILSVRC: also a list FILE.txt
    classes      VOC, LabelMe, Label Studio: the class list, where the files do not tell it
    images_root  COCO and labelling tools: the folder of the images, where they lie far away
    strict       stop with an AnnotationError at the first defect instead of leaving it out
    """
    detected = detect_format(path)
    if detected.format == "coco":
        return read_coco(coco_file(detected, split), images_root, strict=strict)
    if detected.format == "ilsvrc" and split is not None and split.endswith(".txt"):
        return read_ilsvrc(detected.path, split, strict=strict)  # a list of the user's own
    split = only_split(detected, split)
    if detected.format in TOOLS:
        return _read_tool(detected, split, classes, images_root, strict)
    if detected.format == "ilsvrc":
        return read_ilsvrc(detected.path, split or "val", strict=strict)
    if detected.format == "voc":
        return read_voc(detected.path, split, classes, strict=strict)
    return read_yolo(detected.path, split or "train", strict=strict)


def _read_tool(
    detected: DetectedFormat,
    split: str | None,
    classes: Sequence[str] | None,
    images_root: str | Path | None,
    strict: bool,
) -> Dataset:
    ledger = Ledger(detected.home, strict)
    name = "/".join(filter(None, (detected.path.resolve().stem, split)))
    for file, content in contents_in(detected, ledger, classes, split).values():
        if not content["categories"]:
            raise DatasetError(f"{file}: no picture in it has a labelled shape; label some")
        return dataset_of(file, content, name, images_root, ledger)
    return Dataset(str(detected.path), (), (), tuple(ledger.entries)).not_empty()


def detect_format(path: str | Path) -> DetectedFormat:
    """Recognise the data set at `path`. Raises DatasetError, with what was looked for."""
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder")
    if path.is_file():
        return _format_of_file(path)
    # ILSVRC before VOC: both have XML below Annotations.
    detected = _ilsvrc_in(path) or _voc_in(path) or yolo_in(path) or _coco_in(path)
    # VOC's XML in other places comes late, for sets of other formats have XML files, too.
    tools = {} if detected else tool_files(path)
    detected = detected or tool_in(path, "cvat", tools)
    detected = detected or _labelled_as_voc(path) or _yolo_without_yaml(path)
    detected = detected or tool_in(path, "label-studio", tools) or tool_in(path, "labelme", tools)
    if detected is None:
        for broken in sorted((*path.glob("data.yaml"), *path.glob("data.yml"))):
            # Its error says what is amiss.
            yolo_settings.classes_of(broken, yolo_settings.read_settings(broken))
        if (cure := cure_in(path)) is not None:
            raise DatasetError(f"{path}: no data set recognised; {cure}")
        raise DatasetError(
            f"{path}: no data set recognised; looked for {'; '.join(_LOOKED_FOR)}; "
            f"it holds {_content_of(path)}"
        )
    return detected


def _content_of(folder: Path, most: int = 5) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f", ... {len(names)} in all" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more


def _format_of_file(path: Path) -> DetectedFormat:
    if (tool := tool_of(path)) is not None:
        return _of_tool(cast("Tool", tool), path, [path])
    if path.suffix.lower() == ".json":
        return DetectedFormat("coco", path, ())
    if is_yolo(path):
        return DetectedFormat(
            "yolo", path, tuple(yolo_settings.splits_of(yolo_settings.read_settings(path)))
        )
    raise DatasetError(
        f"{path}: expected COCO's .json, YOLO's .yaml, a labelling tool's file, or a folder in"
        " VOC's layout"
    )


def tool_in(
    folder: Path, tool: Tool, files: Mapping[str, list[Path]] | None = None
) -> DetectedFormat | None:
    """Recognise a labelling tool's set; `files` are those of the folder, where they are known."""
    files = tool_files(folder) if files is None else files
    return _of_tool(tool, folder, files[tool]) if tool in files else None


def _of_tool(tool: Tool, path: Path, files: Sequence[Path]) -> DetectedFormat:
    if tool == "labelme":
        return DetectedFormat(tool, path, tuple(labelme.splits_of(path)), (path,))
    splits = [split_of(file) for file in files] if len(files) > 1 else []
    if tool == "cvat" and not splits:
        splits = cvat.splits_of(files[0])
    return DetectedFormat(tool, path, tuple(splits), tuple(files))


def contents_in(
    detected: DetectedFormat,
    ledger: Ledger,
    classes: Sequence[str] | None = None,
    split: str | None = None,
) -> dict[str, tuple[Path, Content]]:
    """Read a labelling tool's files: by split the file and its pictures as COCO's lists; "" where
    there are no splits.

    split  read no other
    """
    contents: dict[str, tuple[Path, Content]] = {}
    for file in detected.files:
        part = split_of(file) if len(detected.files) > 1 else None  # the file is the split
        if part is not None and split is not None and split != part:
            continue
        try:
            read = TOOLS[cast("Tool", detected.format)](file, ledger)
        except AnnotationError as error:
            ledger.refuse(file, file.stem, error)
            continue
        if part is not None:
            read = read._replace(
                pictures=[picture._replace(split=part) for picture in read.pictures]
            )
        contents |= {name: (file, lists) for name, lists in contents_of(read, classes).items()}
    return {name: entry for name, entry in contents.items() if split in (None, name)}


# The folder itself, or the one data set in it, as VOCdevkit holds VOC2012.
def _voc_in(folder: Path) -> DetectedFormat | None:
    homes = [
        home
        for home in (folder, *sorted(folder.glob("VOC*")), *sorted(folder.glob("VOCdevkit/VOC*")))
        if holds_annotations(home / "Annotations")
    ]
    home = _only_home(folder, homes)
    return DetectedFormat("voc", home, tuple(voc_splits_of(home))) if home else None


def _labelled_as_voc(folder: Path) -> DetectedFormat | None:
    if folders_of(folder):
        return DetectedFormat("voc", folder, tuple(voc_splits_of(folder)))
    return None


# The folder itself, or the one data set in it, as the archive's own folder is.
def _ilsvrc_in(folder: Path) -> DetectedFormat | None:
    homes = [
        candidate
        for candidate in (folder, *sorted(folder.glob("ILSVRC*")))
        if ilsvrc_lists.is_home(candidate)
    ]
    home = _only_home(folder, homes)
    return DetectedFormat("ilsvrc", home, tuple(ilsvrc_lists.splits_of(home))) if home else None


def _only_home(folder: Path, homes: Sequence[Path]) -> Path | None:
    if len(homes) > 1:
        names = ", ".join(str(home.relative_to(folder)) for home in homes)
        raise DatasetError(f"{folder}: holds several data sets ({names}); name one of them")
    return homes[0] if homes else None


def is_yolo(path: Path) -> bool:
    """True of the name of a file that tells the classes and splits of a YOLO set."""
    known = (*yolo_settings.SUFFIXES_OF_YAML, ".data")
    return path.suffix.lower() in known or path.name in yolo_settings.CLASS_LISTS


def yolo_in(folder: Path) -> DetectedFormat | None:
    """The folder's first YAML file that names classes, or Darknet's .data."""
    # Not the `._data.yaml` that a Mac puts beside it.
    for pattern in ("[!.]*.yaml", "[!.]*.yml", "[!.]*.data"):
        for path in sorted(folder.glob(pattern)):
            try:
                settings = yolo_settings.read_settings(path)
            except AnnotationError:
                continue  # some other YAML file
            if "names" in settings:
                return DetectedFormat("yolo", path, tuple(yolo_settings.splits_of(settings)))
    return None


# A list of class names with images and labels, as LabelImg and Label Studio write them.
def _yolo_without_yaml(folder: Path) -> DetectedFormat | None:
    for name in yolo_settings.CLASS_LISTS:
        for path in (folder / name, folder / "labels" / name):
            if path.is_file():
                splits = yolo_settings.splits_of(yolo_settings.read_settings(path))
                return DetectedFormat("yolo", path, tuple(splits))
    return None


def _coco_in(folder: Path) -> DetectedFormat | None:
    files = instances_in(folder)
    return DetectedFormat("coco", folder, tuple(map(split_of, files))) if files else None


def instances_in(folder: Path) -> list[Path]:
    """Instance files by name; COCO's keypoints and captions lie beside them. Without such a name,
    the JSON files that list images.
    """
    files = sorted((*folder.glob("annotations/[!.]*.json"), *folder.glob("[!.]*.json")))
    files += sorted(folder.glob("*/_annotations.coco.json"))
    instances = [path for path in files if "instances" in path.name or "_annotations" in path.name]
    return instances or [path for path in files if _lists_images(path)]


# A file that speaks of "images" at all is COCO's, however damaged: reading it says how.
def _lists_images(path: Path) -> bool:
    try:
        data = read_limited(path, MAX_JSON_BYTES)
        named = b'"images"' in data.replace(b"\0", b"")  # in UTF-16 and UTF-32, too
        return named and tool_of(path) is None
    except AnnotationError:
        return True


def coco_file(detected: DetectedFormat, split: str | None) -> Path:
    """The one file, or the one whose name (or folder) says the split: val finds val2017."""
    if detected.path.is_file():
        return detected.path
    files = instances_in(detected.path)
    exact = [path for path in files if split in (split_of(path), path.stem.rpartition("_")[2])]
    named = [path for path in files if split and split in split_of(path)]
    for candidates in (files if split is None else exact, named):
        if len(candidates) == 1:
            return candidates[0]
    raise DatasetError(_choose(detected, split))


def only_split(detected: DetectedFormat, split: str | None) -> str | None:
    """The split that is meant, which need not be named where there is only one."""
    if split is None and len(detected.splits) == 1:
        return detected.splits[0]
    same = [name for name in detected.splits if _OTHER_WORDS.get(name, name) == split]
    if split not in detected.splits and len(same) == 1:
        return same[0]
    if split not in detected.splits and (split is not None or detected.splits):
        raise DatasetError(_choose(detected, split))
    return split


def _choose(detected: DetectedFormat, split: str | None) -> str:
    if not detected.splits:
        cure = "leave it out, or make train and val by inception-rcnn data split"
        return f"{detected.path}: has no splits, so no {split!r}; {cure}"
    missing = "name a split" if split is None else f"there is no single split {split!r}"
    return f"{detected.path}: {missing}; it has: {', '.join(detected.splits)}"
