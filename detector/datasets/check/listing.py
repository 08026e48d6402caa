"""What lies in the folders of a data set, each listed once, and reading its annotation files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from detector.datasets.check.findings import Findings


class Listing:
    """Knows of each path whether a regular file is there, without asking the disk twice."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, os.DirEntry[str]]] = {}

    def names(self, folder: Path) -> list[str]:
        """What a folder holds, sorted, hidden files left out, such as the `._NAME` that macOS puts
        beside each file of an archive; nothing where there is no such folder.
        """
        return sorted(name for name in self._entries(str(folder)) if not name.startswith("."))

    def size_of(self, path: Path) -> int | None:
        """Bytes of the regular file at `path`; None where there is none."""
        folder, name = os.path.split(path)
        entry = self._entries(folder).get(name)
        try:
            if entry is None or not stat.S_ISREG(entry.stat().st_mode):
                return None
            return entry.stat().st_size
        except OSError:  # a link that leads nowhere or in circles
            return None

    def exists(self, path: Path) -> bool:
        folder, name = os.path.split(path)
        return name in self._entries(folder)

    def _entries(self, folder: str) -> dict[str, os.DirEntry[str]]:
        if folder not in self._folders:
            try:
                with os.scandir(folder or ".") as found:
                    self._folders[folder] = {entry.name: entry for entry in found}
            except (OSError, ValueError):
                self._folders[folder] = {}
        return self._folders[folder]


def read_annotations(
    path: Path, findings: Findings, listing: Listing, max_bytes: int, empty: bool = False
) -> bytes | None:
    """The bytes of an annotation file, or None and a finding.

    empty  a file of 0 bytes is as good as any
    """
    size = listing.size_of(path)
    if size is None:
        findings.add(path, path.stem, "not-a-file", "is not a regular file")
    elif size > max_bytes:
        limit = f"{max_bytes / 1e6:,.0f} MB"
        findings.add(path, path.stem, "too-large", f"{size / 1e6:,.1f} MB, the limit is {limit}")
    elif size == 0 and not empty:
        findings.add(path, path.stem, "empty-file", "has 0 bytes")
    else:
        try:
            return path.read_bytes()
        except OSError as error:
            findings.add(path, path.stem, "unreadable", f"cannot be read: {error.strerror}")
    return None


def as_text(data: bytes, path: Path, findings: Findings) -> str | None:
    """UTF-8, or None and a finding."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        findings.add(path, path.stem, "not-utf8", f"byte {error.start} is not UTF-8")
        return None
    if "\0" in text:
        findings.add(path, path.stem, "not-utf8", "holds zero bytes")
        return None
    return text


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    lines = enumerate(text.splitlines(), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]
