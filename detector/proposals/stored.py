"""The proposal cache: one SQLite file, keyed by the image file's content and by the settings that made the boxes.

Nothing in it goes stale: other settings or other bytes are another key. Any number of processes may write at once,
any of them may be killed at any instant, and a row that was damaged on disk counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from detector.errors import ProposalError
from detector.proposals import coding
from detector.structures import Proposals

# Raise it when an engine gives other boxes for the same settings: every key changes, nothing stale is ever read.
ENGINE_VERSION = 1
# Identifies our files to `file` and to ourselves: "IRCN".
APPLICATION_ID = 0x4952434E
PATIENCE_S = 60.0

_TABLES = """
CREATE TABLE IF NOT EXISTS proposals (
    content BLOB NOT NULL, settings BLOB NOT NULL, boxes INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (content, settings)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (hash BLOB PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (
    content BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY (content, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    content BLOB NOT NULL, settings BLOB NOT NULL, name TEXT NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (content, settings)) WITHOUT ROWID;
"""


class Damage(NamedTuple):
    """A row that cannot be what was written."""

    content: str
    settings: str
    reason: str


def content_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the image file's bytes, in hexadecimal."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ProposalError(f"{path} cannot be read: {error.strerror or error}") from error


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings as canonical JSON with the engine version, in hexadecimal."""
    return hashlib.sha256(_canonical(settings).encode()).hexdigest()


def describe(proposer: Any) -> dict[str, Any]:
    """All that decides a proposer's boxes: its class and its `.settings`; what `settings_hash` is given."""
    return {"engine": type(proposer).__name__, **proposer.settings.model_dump(mode="json")}


def _canonical(settings: Mapping[str, Any]) -> str:
    whole = {"engine_version": ENGINE_VERSION, **settings}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)


class ProposalStore:
    """Proposals on disk, by (content hash, settings hash), both in hexadecimal.

    mode "r" needs an existing file and never writes, so it works on read-only media; "rw" creates what is missing.
    An instance may be shared by threads, inherited by a fork and pickled to a worker. Rows found damaged by `get`
    are listed in `damaged` and treated as missing.
    """

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "rw"] = "r") -> None:
        if mode not in ("r", "rw"):
            raise ValueError(f"mode {mode!r} is neither 'r' nor 'rw'")
        self.path, self.mode = Path(path), mode
        self.damaged: list[Damage] = []
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        with self._open():
            pass

    def get(self, content: str, settings: str) -> Proposals | None:
        """The stored proposals; None where there are none, or where the row is damaged."""
        key = (bytes.fromhex(content), bytes.fromhex(settings))
        with self._open() as connection:
            row = connection.execute(
                "SELECT data FROM proposals WHERE content = ? AND settings = ?", key
            ).fetchone()
        if row is None:
            return None
        try:
            return coding.decode(row[0])
        except ProposalError as error:
            self.damaged.append(Damage(content, settings, str(error)))
            return None

    def put(
        self, content: str, settings: str, proposals: Proposals, name: str | None = None
    ) -> None:
        """Store or replace; `name` (of the image file) is what exports call the image."""
        data = coding.encode(proposals)
        key = (bytes.fromhex(content), bytes.fromhex(settings))
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO proposals VALUES (?, ?, ?, ?)", (*key, len(proposals), data)
            )
            connection.execute("DELETE FROM failures WHERE content = ? AND settings = ?", key)
            if name is not None:
                connection.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (key[0], name))

    def put_failure(self, content: str, settings: str, name: str, message: str) -> None:
        """Remember that this image gave no proposals, and why; a later `put` forgets it."""
        row = (bytes.fromhex(content), bytes.fromhex(settings), name, message)
        with self._write() as connection:
            connection.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)", row)

    def put_settings(self, settings: Mapping[str, Any]) -> str:
        """Write the settings themselves down beside their hash, which is returned."""
        key = settings_hash(settings)
        with self._write() as connection:
            row = (bytes.fromhex(key), _canonical(settings))
            connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", row)
        return key

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether (content, settings) is stored; says nothing about damage."""
        query = "SELECT 1 FROM proposals WHERE content = ? AND settings = ?"
        with self._open() as connection:
            return connection.execute(query, [bytes.fromhex(k) for k in key]).fetchone() is not None

    def count(self, settings: str | None = None) -> int:
        """Images stored, under one settings hash or under all."""
        query, values = "SELECT COUNT(*) FROM proposals", ()
        if settings is not None:
            query, values = query + " WHERE settings = ?", (bytes.fromhex(settings),)
        with self._open() as connection:
            return int(connection.execute(query, values).fetchone()[0])

    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings hash -> settings, for every hash under which something is stored."""
        query = """SELECT DISTINCT p.settings, s.json FROM proposals p
                   LEFT JOIN settings s ON s.hash = p.settings ORDER BY 1"""
        with self._open() as connection:
            rows = connection.execute(query).fetchall()
        return {key.hex(): json.loads(text) if text else {} for key, text in rows}

    def keys(self, settings: str) -> list[tuple[str, str]]:
        """(content hash, image name) of every image under one settings hash, by name; nameless ones by their hash."""
        query = """SELECT p.content, MIN(n.name) FROM proposals p
                   LEFT JOIN names n ON n.content = p.content WHERE p.settings = ? GROUP BY 1"""
        with self._open() as connection:
            rows = connection.execute(query, (bytes.fromhex(settings),)).fetchall()
        named = [(content.hex(), name or content.hex()) for content, name in rows]
        return sorted(named, key=lambda pair: (pair[1], pair[0]))

    def failures(self, settings: str) -> list[tuple[str, str]]:
        """(image name, message) of every image that gave no proposals."""
        query = "SELECT name, message FROM failures WHERE settings = ? ORDER BY name"
        with self._open() as connection:
            return list(connection.execute(query, (bytes.fromhex(settings),)))

    def verify(self) -> list[Damage]:
        """Decode every row; returns those that cannot be."""
        with self._open() as connection:
            keys = connection.execute("SELECT content, settings FROM proposals").fetchall()
        before, self.damaged = self.damaged, []
        for content, settings in keys:
            self.get(content.hex(), settings.hex())
        found, self.damaged = self.damaged, before
        return found

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def __enter__(self) -> ProposalStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ProposalStore, (self.path, self.mode)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One short transaction, taken at once, so that two writers wait for each other and never collide."""
        if self.mode != "rw":
            raise ProposalError(f"{self.path} was opened for reading; open it with mode 'rw'")
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """This process's connection (a forked child must not use its parent's), with our errors for SQLite's."""
        with self._lock:
            try:
                if self._connection is None or self._owner != os.getpid():
                    self._connection, self._owner = _connect(self.path, self.mode), os.getpid()
                yield self._connection
            except sqlite3.Error as error:
                raise ProposalError(_explain(self.path, error)) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if mode == "rw":
        return _connect_to_write(path)
    if not path.is_file():
        raise ProposalError(
            f"there is no proposal cache at {path}; make it with tools/propose.py --out {path}"
        )
    try:
        return _connect_to_read(path, "mode=ro")
    except sqlite3.OperationalError:
        # On read-only media SQLite cannot make the shared-memory file of its log. With no log beside it the file
        # is complete, and may be read as one that nobody changes.
        if Path(f"{path}-wal").exists():
            raise
        return _connect_to_read(path, "mode=ro&immutable=1")


def _connect_to_read(path: Path, how: str) -> sqlite3.Connection:
    connection = _raw(f"{path.absolute().as_uri()}?{how}")
    try:
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
            f"the folder of {path} cannot be made: {error.strerror}; choose another --out"
        ) from error
    connection = _raw(f"{path.absolute().as_uri()}?mode=rwc")
    try:
        if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0:
            # A crash of the machine may cost the last images, never the file; a killed process costs nothing.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA synchronous = NORMAL")
        _check_ours(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _raw(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri, uri=True, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
    )


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if not {"proposals", "settings", "names", "failures"} <= tables:
        raise ProposalError(f"{path} is an SQLite file, but not a proposal cache; choose another")


def _explain(path: Path, error: sqlite3.Error) -> str:
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return f"{path} is not a proposal cache, or is damaged ({text}); delete it and run tools/propose.py again"
    if "readonly" in text or "unable to open" in text:
        return f"{path} cannot be opened ({text}); is its folder there and writable?"
    if "locked" in text:
        return f"{path} is locked by another program for more than {PATIENCE_S:.0f} s; try again"
    if "full" in text:
        return f"the disk is full: {path} could not be written; what was stored before is kept"
    return f"{path}: {text}"
