"""Writing files so that a kill or a full disk never leaves half of one; reading regular files only.

Temporary file, fsync, rename, fsync of the folder, in this order.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

NOT_REGULAR = "not a regular file"
_TEMPORARY = ".writing-{}.tmp"


def write_atomically(path: str | Path, data: bytes | str | Iterable[bytes]) -> None:
    """Put `data` at `path` in one step: a reader sees the old file or the new one, nothing between.

    Text is written as UTF-8 with the line endings that it has; pieces one after the other. The
    temporary file lies in the same folder, so that the rename never crosses a file system, and is
    removed if anything goes wrong. A link stays a link: the file that it names is written. An old
    file's permissions stay; where there is something that is no file, such as a folder or a device,
    nothing is written.
    """
    data = data.encode() if isinstance(data, str) else data
    pieces = [data] if isinstance(data, bytes) else data
    target = Path(os.path.realpath(path))
    # Not derived from the file's own name, which may already reach the 255-byte limit.
    temporary = target.parent / _TEMPORARY.format(os.urandom(8).hex())
    try:
        mode = _mode_of_old(target)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            if mode is not None:
                os.chmod(temporary, mode)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno:  # nobody knows the temporary file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync_folder(target.parent)


def make_place_for(path: str | Path) -> None:
    """Make the folder of a file that will be written after long work; an OSError where something
    that is no file is in its place, or where nothing can be written.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _mode_of_old(target)
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files of writers that were killed. Nobody may be writing there."""
    for path in Path(folder).glob(_TEMPORARY.format("*")):
        with suppress(OSError):
            path.unlink()


def _mode_of_old(path: Path) -> int | None:
    """The permissions of the file that is there; None where there is none."""
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found):
        raise FileExistsError(errno.EEXIST, NOT_REGULAR)
    return stat.S_IMODE(found)


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file opened for reading; an OSError for a pipe or a device."""
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to must not hang.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError:  # a zero byte in the name
        raise OSError(errno.EINVAL, "not a possible file name", str(path)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: str | Path, max_bytes: int = -1) -> bytes:
    """The content (at most so many bytes) of a regular file; an OSError for a pipe or a device."""
    with open_regular(path) as file:
        return file.read(max_bytes)


def sync_folder(folder: str | Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system can sync folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
