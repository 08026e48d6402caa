"""Finding images by name: one rule for all readers of annotations and of results.

    names = ImageNames.in_folder(folder)       # ids are paths; or ImageNames.of(dataset)
    names.find("../upload/4/x.png")            # "x.png", where only one image can be meant
    names.find("y.png")                        # None: no image of the set
    names.find("x")                            # AmbiguousName, where x.jpg and x.png are there

The name as it is written comes first. Then what people's programs make of it: `\\` for `/`, blanks
at its ends, composed or decomposed accents, percent signs and addresses, more or fewer folders,
another or no extension, leading zeros of a number. Such an equivalent counts only where one image
fits, where no folder contradicts it, and where no other file on the disk has the name as written.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import unquote

from detector.datasets.image_files import DRIVE, SUFFIXES, without_extension
from detector.errors import AmbiguousName

if TYPE_CHECKING:
    from detector.datasets.dataset import Dataset

V = TypeVar("V")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*/", re.IGNORECASE)
_NUMBER = re.compile(r"([0-9]+)(?:\.0*)?")
_SPLIT = re.compile(r"(train|val|test)(?:ing|id|idation)?[0-9]*")
# Label Studio writes eight hexadecimal digits before the names of files uploaded to it.
_UPLOADED = re.compile(r"(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8}-(?=.)")
_UPLOADED_INTO = re.compile(r"[0-9a-f]{6,8}-(?=.)")


class _Image(NamedTuple):
    id: str
    folders: tuple[str, ...]
    below: int  # so many of the folders, the last ones, are below the root
    name: str


class ImageNames:
    """The images of a set, to be found by whatever name somebody's file gives them.

    paths     id -> path below `root`, with `/` between folders; a path may be its own id
    root      the folder of the images, or None where they are not on this disk
    left_out  ids of images that are known but not among these; they mean no other image
    """

    def __init__(
        self, paths: Mapping[str, str], root: str | Path | None = None, left_out: Iterable[str] = ()
    ) -> None:
        self.root = None if root is None else Path(os.path.abspath(root))
        self._paths = dict(paths)
        self._left_out = frozenset(left_out) - self._paths.keys()
        self._by_path = _groups((path, image_id) for image_id, path in self._paths.items())
        self._by_stem = _groups(
            (without_extension(p), image_id) for image_id, p in self._paths.items()
        )
        self._answers: dict[str, str | None] = {}  # a file of results names an image often

    @classmethod
    def in_folder(cls, folder: str | Path) -> ImageNames:
        """The image files below `folder`, hidden ones left out; their paths are their ids."""
        paths = []
        for here, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = Path(os.path.relpath(here, folder))
            paths += [
                (below / name).as_posix()
                for name in sorted(files)
                if not name.startswith(".") and name.lower().endswith(SUFFIXES)
            ]
        return cls({path: path for path in paths}, folder)

    @classmethod
    def of(cls, dataset: Dataset) -> ImageNames:
        """The images of a data set by their ids."""
        files = {sample.image_id: sample.path for sample in dataset.samples}
        return cls.of_files(files, dataset.left_out())

    @classmethod
    def of_files(cls, files: Mapping[str, Path], left_out: Iterable[str] = ()) -> ImageNames:
        """Files by their ids, below the folder that holds them all."""
        absolute = {image_id: os.path.abspath(path) for image_id, path in files.items()}
        folders = {os.path.dirname(path) for path in absolute.values()}
        root = os.path.commonpath(folders) if folders else os.sep
        below = {
            image_id: Path(path).relative_to(root).as_posix() for image_id, path in absolute.items()
        }
        return cls(below, root, left_out)

    def find(self, name: str) -> str | None:
        """The id of the image with this name: a path, a file name, or one without extension.

        None where the set has none; AmbiguousName, with the candidates, where several fit.
        """
        if name not in self._answers:
            self._answers[name] = self._find(name)
        return self._answers[name]

    def find_id(self, image_id: object) -> str | None:
        """The image with this id (text, or a number of any type), else the one with this name."""
        text = as_id(image_id)
        if text is None or text in self._paths or text in self._left_out:
            return text if text in self._paths else None
        number = _number(text.strip())
        by_id = set(self._ids_by_tidy.get(_tidy(text), ()))
        by_id |= set(self._ids_by_number.get(number or "", ()))
        by_name = self.find(text)
        if by_id and by_name is not None:
            # Where the two are different images, `_only` refuses.
            by_id.add(by_name)
        elif by_name is not None and number is not None and self._numbers_disagree:
            raise AmbiguousName(
                f"{text!r} is no image id but the file name of {self._paths[by_name]!r}, while"
                " other numbers are ids; add the file_name to each row",
                (by_name,),
            )
        elif by_name is not None:
            return by_name
        return self._only(text, sorted(by_id))

    def find_row(self, image_id: object, file_name: object) -> str | None:
        """The image of a row that may give an id and a file name: the file name decides."""
        if not isinstance(file_name, str) or not file_name.strip():
            return self.find_id(image_id)
        text, name = as_id(image_id) or "", _tidy(file_name)
        same = self._by_name.get(file_name) or self._by_tidy_name.get(name) or []
        alike = [image.id for image in same]
        if text in alike:
            return text
        path = _tidy(text)
        if "/" not in name and path.endswith((f"/{name}", f"/{without_extension(name)}")):
            file_name = os.path.join(os.path.dirname(path), name)  # the id tells the folder
        elif len(alike) > 1 or (alike and file_name in self._by_name):
            return self._only(file_name, alike)
        return self.find(file_name)

    def _find(self, text: str) -> str | None:
        for exact in (self._by_path, self._by_stem):
            if text in exact:
                return self._only(text, exact[text])
        if text.rstrip().endswith(("/", "\\")):  # a folder, and no image of that name
            return None
        if self._ids_are_names and {text, without_extension(text)} & self._left_out:
            return None
        for written in dict.fromkeys((_tidy(text), _tidy(_decoded(text)))):
            *folders, name = written.split("/")
            for fitting in self._candidates(folders, name):
                if fitting:
                    image_id = self._only(text, sorted(image.id for image in fitting))
                    is_other = self._is_another(text, folders, name, fitting[0])
                    return None if is_other else image_id
        return None

    # The images that a tidy name may mean, by equivalents that go further and further.
    def _candidates(self, folders: Sequence[str], name: str) -> Iterable[list[_Image]]:
        stem = without_extension(name)
        uploaded = _UPLOADED_INTO if "upload" in folders else _UPLOADED
        plain = uploaded.sub("", name, count=1)
        for index, key in (
            (self._by_tidy_name, name),
            (self._by_tidy_stem, name),
            (self._by_tidy_stem, stem),
            (self._by_number, _number(stem)),
            (self._by_tidy_name, plain),
            (self._by_tidy_stem, without_extension(plain)),
        ):
            yield _fitting(index.get(key or "", []), folders)

    def _only(self, text: str, ids: Sequence[str]) -> str | None:
        if len(ids) > 1:
            some = ", ".join(repr(self._paths[image_id]) for image_id in ids[:4])
            more = f", ... {len(ids)} in all" if len(ids) > 4 else ""
            cure = f"write the whole path below {self.root or 'the images'}"
            raise AmbiguousName(f"{text!r} may mean {some}{more}; {cure}", ids)
        return ids[0] if ids else None

    # A file that is there under the name as written is meant, though it is none of the set.
    def _is_another(self, text: str, folders: Sequence[str], name: str, image: _Image) -> bool:
        if self.root is None:
            return False
        root, mine = str(self.root), os.path.join(self.root, self._paths[image.id])
        names = [name] if "." in name else [name, name + os.path.splitext(mine)[1]]
        ends = [
            "/".join((*folders[start:], file)) for start in range(len(folders)) for file in names
        ]
        places = [text, *names, *ends, *(f"/{end}" for end in ends[:2] if text.startswith("/"))]
        tried = [os.path.join(root, candidate) for candidate in places]
        for up in self.root.parents[:2]:
            tried += [os.path.join(up, end) for end in ends]
        return any(_is_file_but(candidate, mine) for candidate in tried if candidate != mine)

    @cached_property
    def _images(self) -> list[_Image]:
        above = _tidy(self.root.as_posix()).split("/") if self.root else []
        images = []
        for image_id, path in self._paths.items():
            *folders, name = _tidy(path).split("/")
            images.append(_Image(image_id, (*above, *folders), len(folders), name))
        return images

    @cached_property
    def _by_name(self) -> dict[str, list[_Image]]:
        return _groups((self._paths[image.id].rpartition("/")[2], image) for image in self._images)

    @cached_property
    def _by_tidy_name(self) -> dict[str, list[_Image]]:
        return _groups((image.name, image) for image in self._images)

    @cached_property
    def _by_tidy_stem(self) -> dict[str, list[_Image]]:
        return _groups((without_extension(image.name), image) for image in self._images)

    @cached_property
    def _by_number(self) -> dict[str, list[_Image]]:
        return _groups((_number(without_extension(image.name)), image) for image in self._images)

    @cached_property
    def _ids_by_tidy(self) -> dict[str, list[str]]:
        return _groups((_tidy(image_id), image_id) for image_id in self._paths)

    @cached_property
    def _ids_by_number(self) -> dict[str, list[str]]:
        return _groups((_number(image_id), image_id) for image_id in self._paths)

    # As VOC's ids are, and COCO's are not.
    @cached_property
    def _ids_are_names(self) -> bool:
        return all(
            image_id.rpartition("/")[2]
            in (name := path.rpartition("/")[2], without_extension(name))
            for image_id, path in self._paths.items()
        )

    @cached_property
    def _numbers_disagree(self) -> bool:
        """True where a number is the id of one image and the file name of another."""
        return any(
            {image.id for image in named} != set(self._ids_by_number[number])
            for number, named in self._by_number.items()
            if number in self._ids_by_number
        )


def plain_path(text: str) -> str:
    """Write a name or address of an image as a path with `/`, without what `find` overlooks."""
    return _tidy(_decoded(text))


def as_id(value: object) -> str | None:
    """Read an id of somebody's file as text: 12.0 is 12; true, null, lists and fractions are none,
    nor is a float so large that it stands for several whole numbers.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_whole or isinstance(value, str) else None


# A link, or another spelling of the path, is the same file.
def _is_file_but(path: str, mine: str) -> bool:
    try:
        status = os.stat(path)
        return stat.S_ISREG(status.st_mode) and not os.path.samestat(status, os.stat(mine))
    except (OSError, ValueError):  # not there, or no name that can be
        return False


def _fitting(images: Sequence[_Image], folders: Sequence[str]) -> list[_Image]:
    # One path must be the end of the other, and an image of val is none of train. Folders that none
    # of several images has tell nothing, so that all of these fit.
    alike: dict[int, list[_Image]] = {}
    for image in images:
        same = _same_end(image.folders, folders)
        if same >= min(image.below, len(folders)) and not _of_other_split(image, folders):
            alike.setdefault(same, []).append(image)
    if not alike:
        return []
    return list(images) if folders and len(images) > 1 and set(alike) == {0} else alike[max(alike)]


def _same_end(first: Sequence[str], second: Sequence[str]) -> int:
    most = min(len(first), len(second))
    return next((i for i in range(most) if first[-1 - i] != second[-1 - i]), most)


def _of_other_split(image: _Image, folders: Sequence[str]) -> bool:
    mine, asked = _split_of(image.folders[-2 - image.below :]), _split_of(folders)
    return mine is not None and asked is not None and mine != asked


# The last folder that is called so counts: train/val/1.jpg is of val.
def _split_of(folders: Sequence[str]) -> str | None:
    splits = [match[1] for folder in folders if (match := _SPLIT.fullmatch(folder.lower()))]
    return splits[-1] if splits else None


def _tidy(text: str) -> str:
    """Tidy a path: `/` between folders, composed accents; without drive, `.`, `..`, blanks."""
    # Composed, since Macs give file names decomposed while annotations have them as typed.
    text = unicodedata.normalize("NFC", text).strip().replace("\\", "/")
    parts: list[str] = []
    for part in DRIVE.sub("", text).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _decoded(text: str) -> str:
    # Label Studio's local files are in the query, as `d`.
    if "?d=" in text:
        text = text.partition("?d=")[2].partition("&")[0]
    elif address := _ADDRESS.match(text):
        text = text[address.end() :].partition("?")[0].partition("#")[0]
    return unquote(text)


def _number(text: str) -> str | None:
    match = _NUMBER.fullmatch(text)
    return (match[1].lstrip("0") or "0") if match else None


def _groups(pairs: Iterable[tuple[str | None, V]]) -> dict[str, list[V]]:
    groups: dict[str, list[V]] = {}
    for key, value in pairs:
        if key is not None:
            groups.setdefault(key, []).append(value)
    return groups
