"""A tar file of `class/name.jpg`, read where it lies: nothing is extracted.

The members' places are listed once; each image is then one read at an offset, which threads may do
side by side.
"""

import os
import posixpath
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from detector.datasets.dataset import Ledger
from detector.datasets.image_files import SUFFIXES, is_inside
from detector.datasets.labelled.images import LabelledImages, labelled_images
from detector.errors import DatasetError, ImageError
from detector.images.decoding import MAX_BYTES

MAX_MEMBERS = 20_000_000


class TarFile:
    """The content of an uncompressed tar's members by name."""

    def __init__(self, path: Path, places: dict[str, tuple[int, int]]) -> None:
        """places: name -> (offset of the content, bytes)."""
        self.path, self.places = path, places
        self._handle = os.open(path, os.O_RDONLY)

    def __call__(self, name: str) -> bytes:
        offset, size = self.places[name]
        try:
            data = os.pread(self._handle, size, offset)  # needs no lock: no shared position
        except OSError as error:
            raise ImageError(f"{self.path}/{name}: cannot be read ({error.strerror})") from None
        if len(data) < size:
            raise ImageError(f"{self.path}/{name}: the tar file ends inside it")
        return data

    def place(self, name: str) -> Path:
        """The file on disk that holds a member: the tar."""
        return self.path

    def __del__(self) -> None:
        if hasattr(self, "_handle"):  # not where os.open failed
            os.close(self._handle)


def read_tar(path: str | Path) -> LabelledImages:
    """The images of `class/name.jpg` in a plain tar file; the last folder before a name is its
    class, or the one before that of `class/images/name.jpg`. Only regular files below the root
    count, of at most 64 MiB; the rest is noted, but for hidden files.
    """
    path = Path(path)
    ledger, names, places = Ledger(path.parent), [], {}
    try:
        with tarfile.open(path, "r:") as archive:  # offsets need an uncompressed file
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise DatasetError(f"{path}: more than {MAX_MEMBERS:,} members")
                if member.isdir() or _is_hidden(member.name):
                    continue
                fault = _fault(member)
                if fault is not None or member.name in places:
                    rule, why = fault or ("duplicate", "its name was there before")
                    ledger.add(path.name, member.name, rule, why)
                    continue
                places[member.name] = (member.offset_data, member.size)
                names.append(member.name)
    except tarfile.TarError as error:
        raise DatasetError(
            f"{path}: not a plain tar file ({error}); a compressed one must be unpacked to .tar"
        ) from None
    pairs = sorted(zip(_classes_of(names), names, strict=True))
    return labelled_images(path.name, pairs, TarFile(path, places), ledger.entries)


# macOS puts a `._1.jpg`, which is no image, beside each file.
def _is_hidden(name: str) -> bool:
    return any(part[0] == "." and part != ".." for part in PurePosixPath(name).parts)


def _classes_of(names: Sequence[str]) -> list[str]:
    # The folder that holds all of them is not a class: in it, `images` is one, beside `masks`.
    folders = [PurePosixPath(name).parent for name in names]
    top = PurePosixPath(posixpath.commonpath(set(folders))) if folders else None
    return [
        here.parent.name
        if here.name == "images" and here.parent.name and here.parent != top
        else here.name
        for here in folders
    ]


def _fault(member: tarfile.TarInfo) -> tuple[str, str] | None:
    if not member.isreg() or member.issparse():
        return "not-a-file", "is a link or a device, or has holes"
    if not is_inside(member.name):
        return "unsafe-path", "leads out of the archive"
    if not member.name.lower().endswith(SUFFIXES):
        return "not-an-image", "has another suffix"
    if not PurePosixPath(member.name).parent.name:
        return "no-class", "lies in no class folder"
    if member.size > MAX_BYTES:
        return "too-large", f"{member.size / 1e6:.0f} MB is over {MAX_BYTES / 1e6:.0f} MB"
    return None
