"""Writing files so that a kill or a full disk never leaves half of one.

Temporary file, fsync, rename, fsync of the folder, in this order.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Put `data` at `path` in one step: a reader sees the old file or the new one, nothing between.

    Text is written as UTF-8 with the line endings that it has. The temporary file lies in the same
    folder, so that the rename never crosses a file system, and is removed if anything goes wrong.
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    # Not derived from the file's own name, which may already reach the 255-byte limit.
    temporary = path.parent / f".writing-{os.urandom(8).hex()}.tmp"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: str | Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system can sync folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
