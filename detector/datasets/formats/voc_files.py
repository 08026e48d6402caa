"""Where the files of a set in VOC's XML lie: the development kit's folders, and those of others.

The reader and the linter both ask here, so that they cannot differ.
"""

import os
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from detector.datasets.dataset import VOC_CLASSES, Ledger
from detector.datasets.formats.annotation_files import listed_name, read_limited
from detector.datasets.image_files import SUFFIXES, is_inside
from detector.datasets.image_names import ImageNames
from detector.errors import AmbiguousName, AnnotationError, DatasetError

# The first of these folders that has any lists of images is taken.
LISTS = (Path("ImageSets", "Main"), Path("ImageSets"), Path("."))
MAX_LIST_BYTES = 100_000_000
_DEEPEST = 3  # folders below the one that is listed
_TRIED = 50  # XML files that are asked where their images lie
_SPLIT = re.compile(r"(train|val|test|dev|eval|holdout)(ing|id|idation|val)?[-_ ]?[0-9]*", re.I)
_FLAGGED = re.compile(r".*\S\s+-?[01]\s*")
_IMAGE_AND_XML = re.compile(
    rf"\s*(.*\S(?:{'|'.join(map(re.escape, SUFFIXES))}))[\s,;]\s*(\S.*)\.xml\s*", re.I
)
_FILENAME = re.compile(rb"<filename>\s*([^<]*?)\s*</filename>")


class Layout(NamedTuple):
    """Where annotations and images lie below the root; both are "." where they lie side by side."""

    home: str
    pictures: str


KNOWN = (Layout("Annotations", "JPEGImages"), Layout("annotations", "images"))
BESIDE = Layout(".", ".")
_OF_IMAGES = ("jpegimages", "images", "image", "imgs", "img")


class VocFolder:
    """One folder of annotations with its images; listed once each.

    Ids are the names of the XML files without extension, with the folders below `home`.
    """

    def __init__(self, root: Path, layout: Layout) -> None:
        self.root, self.layout = root, layout

    @cached_property
    def files(self) -> dict[str, str]:
        """The XML files by their ids, sorted, below the root."""
        home = Path(self.layout.home)
        names = sorted(name for name in _walk(self.root / home) if _is_xml(name))
        return {name[:-4]: (home / name).as_posix() for name in names}

    @cached_property
    def images(self) -> dict[str, Path]:
        """Image files by their names without extension; of two with one the commoner format's."""
        folder = self.root / self.layout.pictures
        names = [
            name for name in _walk(folder) if _is_image(name) and os.path.isfile(folder / name)
        ]
        # The commonest format last: of equal stems a dictionary keeps the last.
        names.sort(key=lambda name: (-_rank(name), name))
        return {os.path.splitext(name)[0]: folder / name for name in names}

    def other_images(self) -> list[Path]:
        """Files with an image's name that are not among the images."""
        folder, taken = self.root / self.layout.pictures, set(self.images.values())
        paths = [folder / name for name in _walk(folder) if _is_image(name)]
        return [path for path in paths if path not in taken]

    def image_of(self, identifier: str, filename: str = "") -> Path | None:
        """The image of an XML file: that of its own name, else the one that it names itself, unless
        that has an XML file of its own. AmbiguousName where several fit.
        """
        if identifier in self.images:
            return self.images[identifier]
        for name in (identifier, filename):
            image = self._image_names.find(name) if name else None
            if image is not None and image not in self.files:
                return self.images[image]
        return None

    def listed_ids(self, path: Path, ledger: Ledger) -> list[str]:
        """Read the ids of a list of images, each once."""
        data = read_limited(path, MAX_LIST_BYTES)
        if b"\0" in data:
            raise AnnotationError(f"{path}: not UTF-8 text; save it as UTF-8", "not-utf8")
        text = data.decode("utf-8-sig", "replace")
        lines = [(f"line {n}", line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        numbers = None if self._are_counted([line for _, line in lines]) else (-1, 0, 1)
        ids: dict[str, None] = {}
        for number, line in lines:
            try:
                name, fault = self._listed(line, numbers)
            except AmbiguousName as error:
                name, fault = line, str(error)
            if fault:
                ledger.add(path, number, "ambiguous-name", fault)
            elif not is_inside(name):
                ledger.add(path, name, "unsafe-path", f"{number} leads out of the folder")
            elif name in ids:
                ledger.add(path, name, "duplicate-image", "is listed more than once")
            else:
                ids[name] = None
        return list(ids)

    def _listed(self, line: str, numbers: tuple[int, ...] | None) -> tuple[str, str]:
        # PaddleDetection writes the image and its XML file side by side.
        pair = _IMAGE_AND_XML.fullmatch(line)
        if pair is None or line.strip()[:-4] in self.files:
            name, _ = listed_name(line, self._find, numbers)
            return self._find(name) or name, ""
        image, xml = self._image_names.find(pair[1]), self._xml_names.find(pair[2])
        if image is not None and xml is not None and image != xml and image in self.files:
            return line.strip(), f"{pair[1]!r} has the annotations {image}.xml, not {pair[2]}.xml"
        return xml or re.split(r"[/\\]", pair[2])[-1], ""

    # A number counts the lines where each has another name and a larger number than the line
    # before.
    def _are_counted(self, lines: list[str]) -> bool:
        rows = [line.split() for line in lines]
        if not all(len(row) > 1 and row[-1].isdecimal() and len(row[-1]) < 10 for row in rows):
            return False
        rising = all(int(a[-1]) < int(b[-1]) for a, b in pairwise(rows))
        names = {" ".join(row[:-1]) for row in rows}
        there = self.files.keys() | self.images.keys()
        return rising and len(names) == len(rows) and not any(text in there for text in lines)

    def file_of(self, identifier: str) -> str:
        """The name below the root of an XML file, also of one that is not there."""
        file = self.files.get(identifier)
        return file or (Path(self.layout.home) / f"{identifier}.xml").as_posix()

    def _find(self, name: str) -> str | None:
        stem = name[:-4] if _is_xml(name) else name
        return self._xml_names.find(stem) or self._image_names.find(name)

    @cached_property
    def _xml_names(self) -> ImageNames:
        return ImageNames({stem: stem for stem in self.files})

    @cached_property
    def _image_names(self) -> ImageNames:
        folder = self.root / self.layout.pictures
        return ImageNames(
            {stem: path.relative_to(folder).as_posix() for stem, path in self.images.items()}
        )


def folders_of(root: Path) -> dict[str, Layout]:
    """Split -> where it lies; one of no name where splits are lists of images, or there are none.

    Roboflow has its splits as folders with XML beside images, others train/annots and train/images
    or annotations/train and images/train.
    """
    layout = layout_of(root)
    if layout is None:
        parts = {name: layout_of(root / name) for name in _folders_in(root) if is_split(name)}
        return {
            name: Layout(f"{name}/{part.home}", f"{name}/{part.pictures}")
            for name, part in parts.items()
            if part is not None
        }
    if lists_of(root):
        return {"": layout}
    names = {name.partition("/")[0] for name in VocFolder(root, layout).files}
    if names and all(
        is_split(part) and os.path.isdir(root / layout.pictures / part) for part in names
    ):
        return {part: Layout(*(f"{folder}/{part}" for folder in layout)) for part in sorted(names)}
    return {"": layout}


def lists_of(root: Path) -> dict[str, list[Path]]:
    """Split -> its lists of images. Lists of single classes (`cat_train`, with 1 or -1 behind each
    name) are splits only where there are no others, as VoTT leaves it: then together.
    """
    files: dict[str, Path] = {}
    for folder in LISTS:
        lists = sorted((root / folder).glob("[!.]*.txt"))
        files = files or {
            path.stem: path for path in lists if folder != Path(".") or _lists_files(path)
        }
    of_class = {stem for stem, path in files.items() if _lists_a_class(stem, path)}
    plain = {stem: [path] for stem, path in files.items() if stem not in of_class}
    if plain:
        return plain
    joined: dict[str, list[Path]] = {}
    for stem in sorted(of_class):
        joined.setdefault(stem.rpartition("_")[2], []).append(files[stem])
    return joined


# At the root anything may lie, so that a split's list must name files, and only these.
def _lists_files(path: Path) -> bool:
    if not is_split(path.stem):
        return False
    try:
        text = read_limited(path, MAX_LIST_BYTES).decode("utf-8-sig", "replace")
    except AnnotationError:
        return False
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return bool(lines) and all(_is_xml(line) or _is_image(line) for line in lines)


def _lists_a_class(stem: str, path: Path) -> bool:
    name, _, split = stem.rpartition("_")
    if not name or name in VOC_CLASSES:
        return bool(name)
    try:
        lines = read_limited(path, MAX_LIST_BYTES).decode("utf-8", "replace").splitlines()
    except AnnotationError:
        return False
    if not (is_split(split) or split == "default" or (path.parent / f"{split}.txt").is_file()):
        return False
    return bool(lines) and all(_FLAGGED.fullmatch(line) for line in lines if line.strip())


def layout_of(root: Path) -> Layout | None:
    """Where XML and images plainly belong together; None where there is no XML, or no image to it.

    Where capitals do not count in file names, the folder of the images tells the known ones apart.
    """
    known = [candidate for candidate in KNOWN if holds_annotations(root / candidate.home)]
    for candidate in known:
        if os.path.isdir(root / candidate.pictures):
            return candidate
    if not known and any(_is_xml(name) for name in _walk(root, deepest=0)):
        return BESIDE
    homes = [candidate.home for candidate in known]
    homes = homes or [name for name in _folders_in(root) if holds_annotations(root / name)]
    pairs = [Layout(home, folder) for home in homes if (folder := _pictures_of(root, home))]
    apart = [candidate for candidate in pairs if candidate.home != candidate.pictures]
    if len(apart) > 1:
        some = ", ".join(f"{home} with {pictures}" for home, pictures in apart)
        raise DatasetError(f"{root}: holds several data sets ({some}); move them apart")
    if apart or known:
        return [*apart, *pairs, *known][0]
    return BESIDE if any(_lie_side_by_side(root / candidate.home) for candidate in pairs) else None


def holds_annotations(folder: Path) -> bool:
    return any(_is_xml(name) for name in _walk(folder))


def _pictures_of(root: Path, home: str) -> str | None:
    # The names that the files write themselves count first, then their own names.
    files = [name for name in _walk(root / home) if _is_xml(name)][:_TRIED]
    said = {_filename_in(root / home / name) for name in files} - {""}
    stems = {Path(name).stem for name in files}
    scores: dict[str, tuple[int, int]] = {}
    for folder in dict.fromkeys((home, *_folders_in(root), ".")):
        names = [Path(file).name for file in _walk(root / folder, 0 if folder == "." else _DEEPEST)]
        there = {name for name in names if _is_image(name)}
        scores[folder] = (len(said & there), len(stems & {Path(name).stem for name in there}))
    best = max(scores.values())
    best_folders = [folder for folder, score in scores.items() if score == best]
    if best == (0, 0):
        return None
    plain = [folder for folder in best_folders if folder.lower() in _OF_IMAGES]
    best_folders = plain if len(plain) == 1 else best_folders
    if len(best_folders) > 1 and home not in best_folders:
        places = " and in ".join(best_folders)
        raise DatasetError(
            f"{root}: the images of {home} may lie in {places}; call the right one JPEGImages and"
            " that of the XML Annotations"
        )
    return home if home in best_folders else best_folders[0]


def _lie_side_by_side(folder: Path) -> bool:
    names = set(_walk(folder))
    return any(
        f"{name[:-4]}{suffix}" in names
        for name in names
        if _is_xml(name)
        for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES))
    )


def _filename_in(path: Path) -> str:
    try:
        match = _FILENAME.search(read_limited(path, 16_000_000)[:100_000])
    except AnnotationError:
        return ""
    return re.split(r"[/\\]", match[1].decode("utf-8", "replace"))[-1] if match else ""


# Below a folder, with `/`; hidden files and very deep ones are left out.
def _walk(folder: Path, deepest: int = _DEEPEST) -> Iterator[str]:
    for here, folders, files in os.walk(folder):
        below = os.path.relpath(here, folder)
        depth = 0 if below == "." else below.count(os.sep) + 1
        folders[:] = sorted(name for name in folders if name[0] != "." and depth < deepest)
        prefix = "" if below == "." else f"{Path(below).as_posix()}/"
        for name in sorted(files):
            if name[0] != ".":
                yield prefix + name


def _folders_in(root: Path) -> list[str]:
    entries = root.iterdir() if os.path.isdir(root) else ()
    return sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())


def is_split(name: str) -> bool:
    """True of a folder's or list's name such as train, valid or test-2."""
    return _SPLIT.fullmatch(name) is not None


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _rank(name: str) -> int:
    return SUFFIXES.index(os.path.splitext(name)[1].lower())
