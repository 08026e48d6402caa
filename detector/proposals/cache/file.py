"""The SQLite file of the proposal cache: create it, open it, check its format."""

import os
import sqlite3
import time
from pathlib import Path

from detector.errors import ProposalError

# Tells our files from other SQLite files: "IRCN", for Inception-RCNN.
APPLICATION_ID = 0x4952434E
FORMAT_VERSION = 2  # of the tables and rows; a file of another version is refused
PATIENCE_S = 60.0  # how long a process waits for others' locks

# Small pages: a row of 6 kB then wastes 160 bytes of the file; in SQLite's usual pages 600.
_PAGE_SIZE = 512
_TABLES = f"""
CREATE TABLE IF NOT EXISTS engines (id INTEGER PRIMARY KEY, hash BLOB UNIQUE, settings TEXT);
CREATE TABLE IF NOT EXISTS images (id INTEGER PRIMARY KEY, content BLOB UNIQUE, name TEXT);
CREATE TABLE IF NOT EXISTS regions (
    image INTEGER, engine INTEGER, boxes INTEGER, data BLOB, UNIQUE (image, engine));
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
"""


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open for reading ("r") or for writing ("rw"), which creates a missing file.

    Raises ProposalError where the file is missing or of another format.
    """
    if mode == "rw":
        return _connect_to_write(path)
    if not path.is_file():
        raise ProposalError(
            f"there is no proposal cache at {path}; make it with inception-rcnn propose run"
            f" --out {path}"
        )
    try:
        return _connect_to_read(path, "mode=ro")
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # Python's own errors have none
        if code not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        # On read-only media SQLite cannot make the shared memory of its log, by which readers and
        # writers would find each other. Nobody writes there: the log, if any, is read without it.
        log = Path(f"{path}-wal")
        has_log = log.exists() and log.stat().st_size > 0
        if has_log and os.name != "posix":
            raise
        return _connect_to_read(path, "mode=ro&vfs=unix-none" if has_log else "mode=ro&immutable=1")


def _connect_to_read(path: Path, how: str) -> sqlite3.Connection:
    connection = _raw(path, how)
    try:
        if "vfs" in how:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # index of the log in our memory
        _check_ours(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_write(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProposalError(
            f"the folder of {path} cannot be made ({error.strerror}); choose another place"
        ) from error
    connection = _raw(path, "mode=rwc")
    try:
        if not _number(connection, "schema_version"):  # a new file; others may be creating it too
            # The size of pages can be set before the first table only.
            connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        _check_ours(connection, path)
        _keep_a_log(connection)
        # A crash of the machine may cost the last images, never the file; a kill costs nothing.
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _keep_a_log(connection: sqlite3.Connection) -> None:
    # Asked of every file, as its creator may have been killed before it switched. SQLite fails here
    # instead of waiting for processes that are just opening the file: so retry.
    end = time.monotonic() + PATIENCE_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            break  # a disk on which no log can be is as it was, and works


def _raw(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",  # which escapes ? and % in the path
        uri=True,
        timeout=PATIENCE_S,
        isolation_level=None,  # no implicit transactions: the store begins its own
        check_same_thread=False,  # the store has a lock
    )


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("SELECT name FROM sqlite_master").fetchall()  # a damaged schema shows here
    if _number(connection, "application_id") != APPLICATION_ID:
        raise ProposalError(f"{path} is an SQLite file but not a proposal cache; choose another")
    version = _number(connection, "user_version")
    if version != FORMAT_VERSION:
        raise ProposalError(
            f"{path} is a proposal cache of format {version}, and this version reads format"
            f" {FORMAT_VERSION}; make it anew with inception-rcnn propose run"
        )


def explain(path: Path, error: sqlite3.Error) -> str:
    """Explain an SQLite error: the file, the cause, the next step."""
    text = str(error)
    if path.is_dir():
        return f"{path} is a folder; a proposal cache is one file, such as {path / 'p.sqlite'}"
    if any(said in text for said in ("not a database", "malformed", "no such table")):
        return (
            f"{path} is not a proposal cache, or is damaged ({text}); choose another file or, if it"
            " was one, delete it and run inception-rcnn propose run again"
        )
    if "readonly" in text or "unable to open" in text:
        return f"{path} cannot be opened ({text}); is its folder there and writable?"
    if "locked" in text:
        return f"{path} is locked by another program for over {PATIENCE_S:.0f} s; try again later"
    if "full" in text:
        return f"{path} could not be written: the disk is full; what was stored before is kept"
    return f"{path}: {text}"
