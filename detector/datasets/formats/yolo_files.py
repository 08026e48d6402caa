"""The images of a YOLO set, and the label files that belong to them."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from detector.datasets.dataset import Ledger
from detector.datasets.formats.annotation_files import listed_name, read_text
from detector.datasets.formats.yolo_rows import numbered_rows
from detector.datasets.formats.yolo_settings import place_of, places_in, splits_of
from detector.datasets.image_files import SUFFIXES, absence, path_inside, without_extension
from detector.datasets.image_names import ImageNames
from detector.errors import AmbiguousName, AnnotationError, DatasetError, brief, cut


def texts_of(paths: Iterable[Path | None]) -> Iterator[str]:
    """Read those label files that can be read."""
    for path in paths:
        if path is not None:
            with suppress(AnnotationError):  # told when its labels are read
                yield read_text(path)


class Files:
    """Images and label files of a set; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[Path, frozenset[str]] = {}
        self._texts: dict[Path, dict[str, list[str]]] = {}
        self._homes: dict[Path, list[Path]] = {}

    def labels_of(self, image: Path) -> Path | None:
        """The label file of an image: in a folder `labels` that lies as its `images` does, else
        beside the image; None where it has none.
        """
        for folder in self.label_folders(image.parent):
            if (text := self._text(folder, image.stem)) is not None:
                return text
        return None

    def label_folders(self, folder: Path) -> list[Path]:
        """Where the labels of the images in a folder may lie, the likeliest first."""
        if folder not in self._homes:
            self._homes[folder] = [*self._parallel(folder), folder]
        return self._homes[folder]

    def _parallel(self, folder: Path) -> Iterator[Path]:
        parts = folder.parts
        for position in reversed(range(len(parts))):
            if parts[position].casefold() != "images":
                continue
            above = Path(*parts[:position])
            twins = [name for name in self.names(above) if name.casefold() == "labels"]
            for name in sorted(twins, key=lambda name: (name != "labels", name)):
                if os.path.isdir(twin := above / name / Path(*parts[position + 1 :])):
                    yield twin

    def texts_in(self, folder: Path) -> Iterator[Path]:
        for names in self._texts_of(folder).values():
            yield from (folder / name for name in names)

    def _text(self, folder: Path, stem: str) -> Path | None:
        # Else the only file of this name in another writing: Macs decompose accents, and Windows
        # programs write .TXT.
        if f"{stem}.txt" in self.names(folder):
            return folder / f"{stem}.txt"
        alike = self._texts_of(folder).get(unicodedata.normalize("NFC", stem), [])
        return folder / alike[0] if len(alike) == 1 else None

    def _texts_of(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._texts:
            by_stem: dict[str, list[str]] = {}
            for name in sorted(self.names(folder)):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() == ".txt" and not name.startswith("."):
                    by_stem.setdefault(unicodedata.normalize("NFC", stem), []).append(name)
            self._texts[folder] = by_stem
        return self._texts[folder]

    def names(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except (OSError, ValueError):
                # Nobody may read it: then it has nothing.
                self._names[folder] = frozenset()
        return self._names[folder]

    def images_below(self, folder: Path, ledger: Ledger) -> Iterator[Path]:
        """The image files in a folder and in all below it, as YOLO's own reader goes; hidden ones
        and folders of labels left out. Of two of one name the commoner format's stands first.
        """
        visited: set[str] = set()
        for here, folders, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(here)
            folders[:] = [] if real in visited else sorted(f for f in folders if f[:1] != ".")
            if real in visited:  # a link to a folder above
                continue
            visited.add(real)
            # A folder with an image's name is reported, not entered.
            for name in [folder_name for folder_name in folders if _is_image(folder_name)]:
                folders.remove(name)
                names.append(name)
            image_names = [name for name in names if name[:1] != "." and _is_image(name)]
            image_names.sort(reverse=True)  # of x.JPG and x.jpg the second
            image_names.sort(key=lambda name: (Path(name).stem, _rank(name)))
            for name in image_names:
                path = Path(here, name)
                if os.path.isfile(path):
                    yield path
                else:
                    ledger.add(path, path.stem, "not-a-file", "is not a regular file")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _rank(name: str) -> int:
    suffix = os.path.splitext(name)[1].lower()
    return SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)


def images_of(
    path: Path, settings: Mapping[str, Any], split: str, files: Files, ledger: Ledger
) -> dict[str, Path]:
    """Image id -> path. The id is the file's stem, and where several have that, the path below the
    root without extension.
    """
    if not settings.get(split):
        known = ", ".join(splits_of(settings)) or "none"
        raise DatasetError(f"{path}: no split {split!r}; it has: {known}")
    first: dict[tuple[Path, str], Path] = {}
    for named in places_in(settings, split):
        source = place_of(files.root, named)
        if source is None:
            shown = cut(str(files.root / named), 300)
            raise DatasetError(f"{path}: {split} names {shown}, which is not there")
        images = (
            files.images_below(source, ledger)
            if os.path.isdir(source)
            else _listed_images(source, files.root, ledger)
        )
        for image in images:
            key = (image.parent, image.stem)  # of which there is one label file
            if (before := first.setdefault(key, image)) is not image:
                again = "is listed more than once" if before == image else "has the same name"
                ledger.add(image, image.stem, "duplicate-image", f"{before.name} {again}")
    times = Counter(image.stem for image in first.values())
    return {
        image.stem if times[image.stem] == 1 else _path_id(image, files.root): image
        for image in first.values()
    }


def _path_id(image: Path, root: Path) -> str:
    below = image.relative_to(root).as_posix() if image.is_relative_to(root) else str(image)
    return without_extension(below)


def _listed_images(listing: Path, root: Path, ledger: Ledger) -> Iterator[Path]:
    # A list that lies elsewhere, as data.yaml may say, names what is beside and below it.
    root = root if listing.is_relative_to(root) else listing.parent
    try:
        text = read_text(listing)
    except AnnotationError as error:
        ledger.refuse(listing, listing.stem, error)
        return
    names: ImageNames | None = None

    def exact(name: str) -> str | None:
        inside = path_inside(root, name)
        return inside if inside is not None and os.path.isfile(root / inside) else None

    def alike(name: str) -> str | None:
        nonlocal names
        names = names or ImageNames.in_folder(root)
        return exact(name) or names.find(name)

    for number, line in numbered_rows(text):
        name, _ = listed_name(line, exact)
        try:
            # `alike` lists the whole folder, which an exact list can do without.
            if exact(name) is None:
                name, _ = listed_name(line, alike)
        except AmbiguousName as error:
            ledger.add(listing, number, "ambiguous-name", str(error))
            continue
        if exact(name) is not None:
            yield root / name
        elif path_inside(root, line) is None:
            ledger.add(listing, number, "unsafe-path", f"{brief(line)} leads out of the data set")
        else:
            ledger.add(listing, number, absence(root / line), f"there is no file {brief(line)}")


def labels_without_image(images: Iterable[Path], files: Files, ledger: Ledger) -> None:
    """Label files in folders of labels, and below them, of which no image is in the folder of
    images that lies as they do.
    """
    visited: set[Path] = set()
    for folder in sorted({path.parent for path in images}):
        for labels in files.label_folders(folder):
            if labels == folder:
                continue  # beside the images, other text files may lie
            for here, below, _ in os.walk(labels):
                below[:] = sorted(name for name in below if name[:1] != ".")
                subfolder = Path(here)
                if subfolder not in visited:
                    visited.add(subfolder)
                    _judge_labels(subfolder, folder / subfolder.relative_to(labels), files, ledger)


def _judge_labels(labels: Path, images: Path, files: Files, ledger: Ledger) -> None:
    names = filter(_is_image, files.names(images))
    stems = {unicodedata.normalize("NFC", Path(name).stem) for name in names}
    for text in files.texts_in(labels):
        # LabelImg puts its list of classes among the labels.
        if unicodedata.normalize("NFC", text.stem) not in stems and text.stem != "classes":
            ledger.add(text, text.stem, "missing-image", "labels without an image")
