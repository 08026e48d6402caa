"""Atomic writes, reads of regular files only, and exclusive locks on folders.

A write is: temporary file, fsync, rename, fsync of the folder. So a kill or a full disk never
leaves half a file. The writer locks its temporary file, which tells it from those of killed ones.
"""

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from detector.errors import FolderInUseError

NOT_REGULAR = "not a regular file"
# Lock file of a folder; the system releases the lock when the process ends, however it ends.
LOCK = ".lock"
# JavaScript's largest whole number, and so that of most readers of JSON.
LARGEST_ID = 2**53
_TEMPORARY = ".writing-{}.tmp"
# Folders that this process has cleared of temporary files of killed writers.
_swept: set[Path] = set()


def write_atomically(path: str | Path, data: bytes | str | Iterable[bytes]) -> None:
    """Write `data` to `path` atomically: readers see the old file or the new one, nothing between.

    Text is written as UTF-8 with the line endings that it has; pieces one after the other. The
    temporary file lies in the same folder, so that the rename never crosses a file system, and is
    removed if anything goes wrong. A link stays a link: the file that it names is written. An old
    file's permissions stay; where there is something that is no file, such as a folder or a device,
    nothing is written.
    """
    data = data.encode() if isinstance(data, str) else data
    pieces = [data] if isinstance(data, bytes) else data
    target = Path(os.path.realpath(path))
    try:
        mode = _mode_of_old(target)
        if target.parent not in _swept:
            remove_leftovers(target.parent)
            _swept.add(target.parent)
        with _temporary_in(target.parent) as (temporary, handle):
            with os.fdopen(handle, "wb") as file:
                file.writelines(pieces)
                file.flush()
                if mode is not None:
                    os.chmod(temporary, mode)
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except OSError as error:
        if error.errno:  # name the file and not the temporary one
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync_folder(target.parent)


def write_json_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list to `path` atomically, one row a line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    write_atomically(path, f"[\n{lines}\n]\n" if lines else "[]\n")


@contextmanager
def _temporary_in(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield path and handle of a new file, locked, and removed if the block fails.

    The caller closes the handle.
    """
    while True:
        # Not derived from the file's own name, which may already have 255 bytes, the limit.
        path = folder / _TEMPORARY.format(os.urandom(8).hex())
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        lock = os.dup(handle)  # keeps the lock when the caller closes the handle
        if _lock(lock, wait=True) is None:  # a system without locks may not rename open files
            os.close(lock)
            lock = -1
        if path.exists():  # else another process removed it before it was locked
            break
        os.close(handle)
        if lock >= 0:
            os.close(lock)
    try:
        yield path, handle
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        if lock >= 0:
            os.close(lock)


def make_place_for(path: str | Path) -> None:
    """Create the folder of a file that will be written after long work, and check that it can be.

    Raises OSError where the path is not a file, or where nothing can be written.
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
    """Remove the temporary files of killed writers; those of running ones are locked and stay."""
    for path in Path(folder).glob(_TEMPORARY.format("*")):
        with suppress(OSError):
            handle = os.open(path, os.O_WRONLY)
            try:
                if _lock(handle):
                    path.unlink()
            finally:
                os.close(handle)


class FolderLock(NamedTuple):
    """Exclusive lock on a folder until `release`."""

    folder: Path
    name: str
    handle: int
    created: tuple[Path, ...]

    def release(self) -> None:
        """Remove the lock file, and folders that were created and stayed empty."""
        # While it is locked, so that a run that opened it meanwhile sees that it is gone (_names).
        with suppress(OSError):
            (self.folder / self.name).unlink()
        os.close(self.handle)
        for folder in self.created:
            with suppress(OSError):
                folder.rmdir()


def lock_folder(folder: str | Path, name: str = LOCK) -> FolderLock | None:
    """Create and lock a folder, and remove temporary files of killed runs.

    None where another run holds it. Without locks, as on some network file systems, every run gets
    it.
    """
    folder = Path(folder)
    created = tuple(ancestor for ancestor in (folder, *folder.parents) if not ancestor.exists())
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another run has ended and removed its empty folder
            handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            if _lock(handle) is False:
                os.close(handle)
                return None
            if _names(folder / name, handle):
                remove_leftovers(folder)
                return FolderLock(folder, name, handle, created)
            os.close(handle)  # the lock file of a run that has just ended


@contextmanager
def exclusive_lock(folder: str | Path) -> Iterator[None]:
    """Lock a folder of results, so that two runs never mix theirs.

    Raises FolderInUseError where another run holds it.
    """
    lock = lock_folder(folder)
    if lock is None:
        raise FolderInUseError(
            f"{folder}: another run is writing its results there; wait for it or stop it, or use"
            " another --out"
        )
    try:
        yield
    finally:
        lock.release()


def _names(path: Path, handle: int) -> bool:
    # The run that had the lock file may have removed it since it was opened here.
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _lock(handle: int, *, wait: bool = False) -> bool | None:
    """Lock an open file: False where another process holds it, None without file locks."""
    # Windows has no fcntl, some network file systems no locks.
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _mode_of_old(path: Path) -> int | None:
    """Permissions of an existing file, or None. Raises OSError for anything but a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, NOT_REGULAR)
    return stat.S_IMODE(mode)


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError for a pipe or a device."""
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
    """Read a regular file (at most `max_bytes`). Raises OSError for a pipe or a device."""
    with open_regular(path) as file:
        return file.read(max_bytes)


def sync_folder(folder: str | Path) -> None:
    """Sync a folder, so that a rename in it survives a power cut, where the system can."""
    if os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
