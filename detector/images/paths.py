"""Which images a user means: files, folders, globs, and a list on standard input."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from detector.errors import ImageError
from detector.images.decoding import SUFFIXES
from detector.progress.messages import pluralise

FEW = 5
"""Suffixes of other files that are named."""
_REMOTE = ("http://", "https://")


def image_paths(
    arguments: Sequence[str],
    stdin: Iterable[str] | None = (),
    missed: list[str] | None = None,
    results: Path | None = None,
    skipped: list[str] | None = None,
) -> list[Path]:
    """The images named by `arguments`, in order and each once.

    A folder stands for the images under it (by suffix, sorted; hidden files and folders are left
    out, links to folders not followed); `*`, `?` and `[` make a glob where no such file exists; `-`
    stands for the lines of `stdin`. A name that matches nothing is kept: opening it later says what
    is wrong. `missed` is told of each argument that stands for no image. `results`, a folder of
    annotated pictures, is not entered from a folder around it. `skipped` is told of each folder
    with other files than images, and how many. Raises ImageError if nothing is left.
    """
    stdin = stdin or ()  # None where it is closed
    if isinstance(stdin, io.TextIOWrapper):
        stdin.reconfigure(errors="surrogateescape")  # file names are bytes, not always UTF-8
    found: list[Path] = []
    told = ""
    for argument in arguments:
        if argument.lower().startswith(_REMOTE):
            named, why = [], "URLs are not fetched; give a file"
        elif argument == "-":
            named = [Path(line.rstrip("\r\n")) for line in stdin if line.strip()]
            why = "no names on standard input"
        else:
            others: Counter[str] = Counter()
            named, why = _expanded(argument, results, others), "no images in it"
            told = _count(others)
            if told and named and skipped is not None:
                skipped.append(f"{argument}: {told} passed over")
            elif told:
                why = f"no images in it, but {told}"
        if not named and missed is not None:
            missed.append(f"{argument}: {why}")
        found += named
    once = list(dict.fromkeys(found))
    if not once and all(one.lower().startswith(_REMOTE) for one in arguments):
        raise ImageError(f"{', '.join(arguments)}: URLs are not fetched; give files")
    if not once:
        names = ", ".join(arguments)
        beside = f" but {told}" if len(arguments) == 1 and told else ""
        raise ImageError(
            f"no images in {names}{beside}; expected .jpg or .png files, or folders of them"
        )
    return once


def _expanded(argument: str, results: Path | None, others: Counter[str]) -> list[Path]:
    """The images; `others` counts the suffixes of a folder's other files."""
    path = Path(argument)
    if path.is_dir():
        paths = [Path(folder) / name for folder, names in _visible(path, results) for name in names]
        images = [one for one in paths if one.suffix.lower() in SUFFIXES]
        others.update(one.suffix.lower() for one in paths if one.suffix.lower() not in SUFFIXES)
        return images
    if any(sign in argument for sign in "*?[") and not os.path.lexists(path):
        import glob

        return [
            Path(one)
            for one in sorted(glob.glob(argument, recursive=True))
            if not os.path.isdir(one)
        ]
    return [path]


def _count(suffixes: Counter[str]) -> str:
    """Other files by their suffixes, most first: "12 other files (8 .txt, 4 .mp4)"."""
    if not suffixes:
        return ""
    most = [f"{n} {suffix or 'without suffix'}" for suffix, n in suffixes.most_common(FEW)]
    more = ["..."] if len(suffixes) > FEW else []
    return f"{pluralise(suffixes.total(), 'other file')} ({', '.join([*most, *more])})"


def _visible(root: Path, results: Path | None) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) below `root`, sorted."""
    closed = None if results is None else os.path.realpath(results)
    for folder, folders, names in os.walk(root):
        inner = (one for one in folders if os.path.realpath(os.path.join(folder, one)) != closed)
        folders[:] = sorted(one for one in inner if not one.startswith("."))
        yield folder, sorted(one for one in names if not one.startswith("."))


def possible_ids(path: Path) -> tuple[str, ...]:
    """Names that an image may have, the shortest first: the stem of its file, the whole path
    without suffix, or with it.
    """
    return (path.stem, str(path.with_suffix("")), str(path)) if path.name else (str(path),)


def image_ids(paths: Sequence[Path]) -> list[str]:
    """A name for each image, all different: the shortest that no other could have. `paths` are
    different.
    """
    choices = [possible_ids(path) for path in paths]
    times = Counter(name for names in choices for name in set(names))
    return [next((one for one in names if times[one] == 1), names[-1]) for names in choices]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Of each path as much of its end as tells it from the others: "a.jpg", or "left/a.jpg"."""
    names = [path.name for path in paths]
    for length in range(2, max((len(path.parts) for path in paths), default=0) + 1):
        times = Counter(names)
        names = [
            name if times[name] == 1 else str(Path(*path.parts[-length:]))
            for name, path in zip(names, paths, strict=True)
        ]
    return names


def output_names(ids: Sequence[str], suffix: str) -> list[str]:
    """File names for results: only plain characters, never hidden, at most 120 bytes, each
    different.
    """
    taken: set[str] = set()
    names = []
    for one in ids:
        clean = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in one)
        clean = clean.strip("._-")[:100] or "image"
        name, count = clean, 1
        while name.lower() in taken:
            count += 1
            name = f"{clean}-{count}"
        taken.add(name.lower())
        names.append(name + suffix)
    return names
