"""Cached listings of a data set's folders, and the reading of its annotation files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from detector.datasets.check.findings import Findings


class Listing:
    """Cache of folder listings, which asks the disk once a folder."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, os.DirEntry[str]]] = {}

    def names(self, folder: Path) -> list[str]:
        """Sorted names in a folder without hidden files, such as the `._NAME` that macOS adds to
        archives; empty where there is no such folder.
        """
        return sorted(name for name in self._entries(str(folder)) if not name.startswith("."))

    def size_of(self, path: Path) -> int | None:
        """Size in bytes of the regular file at `path`, or None."""
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
                with os.scandir(folder or ".") as entries:
                    self._folders[folder] = {entry.name: entry for entry in entries}
            except (OSError, ValueError):
                self._folders[folder] = {}
        return self._folders[folder]


def read_annotations(
    path: Path, findings: Findings, listing: Listing, max_bytes: int, empty: bool = False
) -> bytes | None:
    """Read an annotation file; on failure None, with a finding.

    empty  a file of 0 bytes is allowed
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
    """Decode UTF-8; on failure None, with a finding."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        findings.add(path, path.stem, "not-utf8", f"byte {error.start} is not UTF-8")
        return None
    if "\0" in text:
        findings.add(path, path.stem, "not-utf8", "holds zero bytes")
        return None
    return text
