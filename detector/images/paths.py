"""Image paths from arguments: files, folders, globs, and a list on standard input."""

import glob
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from detector.errors import ImageError
from detector.images.decoding import SUFFIXES
from detector.progress.messages import pluralise

# Number of suffixes of other files to list in a message.
FEW = 5
_REMOTE = ("http://", "https://")


def image_paths(
    arguments: Sequence[str],
    stdin: Iterable[str] | None = (),
    missed: list[str] | None = None,
    results: Path | None = None,
    skipped: list[str] | None = None,
) -> list[Path]:
    """Expand `arguments` to image paths, in order and without repetitions.

    A folder stands for the images under it (by suffix, sorted; hidden files and folders are left
    out, links to folders not followed); `*`, `?` and `[` make a glob where no such file exists; `-`
    stands for the lines of `stdin`. A name that matches nothing is kept, and opening it raises the
    error. Each argument that stands for no image is appended to `missed`, and each folder that
    holds other files too, with their number, to `skipped`. `results`, a folder of annotated
    pictures, is not entered from a folder around it. Raises ImageError if nothing is left.
    """
    stdin = stdin or ()  # None where it is closed
    if isinstance(stdin, io.TextIOWrapper):
        stdin.reconfigure(errors="surrogateescape")  # file names are bytes, not always UTF-8
    paths: list[Path] = []
    passed_over = ""
    for argument in arguments:
        if argument.lower().startswith(_REMOTE):
            named, why = [], "URLs are not fetched; give a file"
        elif argument == "-":
            named = [Path(line.rstrip("\r\n")) for line in stdin if line.strip()]
            why = "no names on standard input"
        else:
            others: Counter[str] = Counter()
            named, why = _expand(argument, results, others), "no images in it"
            passed_over = _count(others)
            if passed_over and named and skipped is not None:
                skipped.append(f"{argument}: {passed_over} passed over")
            elif passed_over:
                why = f"no images in it, but {passed_over}"
        if not named and missed is not None:
            missed.append(f"{argument}: {why}")
        paths += named
    distinct = list(dict.fromkeys(paths))
    if not distinct and arguments and all(name.lower().startswith(_REMOTE) for name in arguments):
        raise ImageError(f"{', '.join(arguments)}: URLs are not fetched; give files")
    if not distinct:
        names = ", ".join(arguments) or "no files"
        remark = f" but {passed_over}" if len(arguments) == 1 and passed_over else ""
        raise ImageError(
            f"no images in {names}{remark}; expected .jpg or .png files, or folders of them"
        )
    return distinct


def _expand(argument: str, results: Path | None, others: Counter[str]) -> list[Path]:
    """Images of one argument; `others` counts the suffixes of a folder's other files."""
    path = Path(argument)
    if path.is_dir():
        images = []
        for folder, names in _visible_files(path, results):
            for file in (Path(folder) / name for name in names):
                if file.suffix.lower() in SUFFIXES:
                    images.append(file)
                else:
                    others[file.suffix.lower()] += 1
        return images
    # A file may be called photo[1].jpg.
    if any(sign in argument for sign in "*?[") and not os.path.lexists(path):
        found = sorted(glob.glob(argument, recursive=True))
        return [Path(file) for file in found if not os.path.isdir(file)]
    return [path]


def _count(suffixes: Counter[str]) -> str:
    """Summarise other files by suffix, most first: "12 other files (8 .txt, 4 .mp4)"."""
    if not suffixes:
        return ""
    most = [f"{n} {suffix or 'without suffix'}" for suffix, n in suffixes.most_common(FEW)]
    more = ["..."] if len(suffixes) > FEW else []
    return f"{pluralise(suffixes.total(), 'other file')} ({', '.join([*most, *more])})"


def _visible_files(root: Path, results: Path | None) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, names of its visible files) below `root`, sorted."""
    # `results`: the pictures of a run before are not images to detect in.
    closed = None if results is None else os.path.realpath(results)
    for folder, folders, names in os.walk(root):
        inner = (name for name in folders if os.path.realpath(os.path.join(folder, name)) != closed)
        folders[:] = sorted(name for name in inner if not name.startswith("."))
        yield folder, sorted(name for name in names if not name.startswith("."))


def possible_ids(path: Path) -> tuple[str, ...]:
    """Candidate ids of an image, the shortest first: the stem, the path without and with suffix."""
    return (path.stem, str(path.with_suffix("")), str(path)) if path.name else (str(path),)


def image_ids(paths: Sequence[Path]) -> list[str]:
    """Distinct ids of images: of each, the shortest candidate that no other image has.

    `paths` are distinct.
    """
    choices = [possible_ids(path) for path in paths]
    times = Counter(name for names in choices for name in set(names))
    return [
        next((candidate for candidate in names if times[candidate] == 1), names[-1])
        for names in choices
    ]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Shortest distinct ends of paths: "a.jpg", or "left/a.jpg"."""
    names = [path.name for path in paths]
    for length in range(2, max((len(path.parts) for path in paths), default=0) + 1):
        times = Counter(names)
        names = [
            name if times[name] == 1 else str(Path(*path.parts[-length:]))
            for name, path in zip(names, paths, strict=True)
        ]
    return names


def output_names(ids: Sequence[str], suffix: str) -> list[str]:
    """Distinct file names for results: plain characters only, never hidden, at most 120 bytes."""
    taken: set[str] = set()
    names = []
    for image_id in ids:
        clean = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in image_id)
        clean = clean.strip("._-")[:100] or "image"
        name, count = clean, 1
        while name.lower() in taken:  # many file systems take A.jpg and a.jpg for one name
            count += 1
            name = f"{clean}-{count}"
        taken.add(name.lower())
        names.append(name + suffix)
    return names
