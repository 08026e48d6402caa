"""The proposal cache: one SQLite file, keyed by the image file's content and by the settings.

No entry becomes stale: other settings or other bytes are another key. Any number of processes may
write at once, any of them may be killed at any instant, and a row that was damaged on disk counts
as missing.
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
from detector.proposals.cache import coding
from detector.proposals.cache.file import connect, explain
from detector.structures import Proposals

# Increase it when an engine gives other boxes for the same settings: then every key changes.
ENGINE_VERSION = 1
# 128 bits of a content hash tell images apart as well as 256 do.
_KEY_BYTES = 16
# No file name contains a slash, so it separates the names of an image.
_NAME_IMAGE = """INSERT INTO images (content, name) VALUES (?, ?) ON CONFLICT (content)
    DO UPDATE SET name = CASE
        WHEN images.name IS NULL THEN excluded.name
        WHEN excluded.name IS NULL
            OR instr('/' || images.name || '/', '/' || excluded.name || '/') THEN images.name
        ELSE images.name || '/' || excluded.name END"""
_FIND = """FROM regions
    JOIN images ON images.id = regions.image JOIN engines ON engines.id = regions.engine"""
# A damaged file may hold any type in any column: SQLite casts values to bytes or text on reading.
_DATA = "IFNULL(CAST(data AS BLOB), x'')"
_CONTENT, _HASH = "IFNULL(CAST(content AS BLOB), x'')", "IFNULL(CAST(hash AS BLOB), x'')"
_NAMES = "IFNULL(CAST(name AS TEXT), '')"


class Damage(NamedTuple):
    """A damaged row and the reason why it cannot be decoded."""

    content: str
    settings: str
    reason: str


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings as canonical JSON with the engine version, in hexadecimal."""
    return hashlib.sha256(_canonical(settings).encode()).hexdigest()


def describe(proposer: Any) -> dict[str, Any]:
    """Everything that determines a proposer's boxes: its settings, with the engine's name, and the
    weights of a learned ranking. The argument of `settings_hash`.
    """
    settings = proposer.settings.model_dump(mode="json")
    return {**settings, **getattr(proposer, "derived_settings", {})}


def _as_text(name: str) -> str:
    # SQLite holds texts in UTF-8, and file names may be any bytes: others appear as escapes.
    return name.encode("utf-8", "backslashreplace").decode()


def _canonical(settings: Mapping[str, Any]) -> str:
    whole = {"engine_version": ENGINE_VERSION, **settings}
    # Sorted, since the order of settings means nothing.
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _read_settings(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):  # a damaged text may nest deeply
        settings = None
    if not isinstance(settings, dict):
        raise sqlite3.DatabaseError("malformed: settings that are no JSON object")
    return settings


class ProposalStore:
    """Proposals on disk by (content hash, settings hash), both in hexadecimal.

    mode "r" needs an existing file and never writes, so it works on read-only media; "rw" creates
    what is missing. An instance may be shared by threads, inherited by a fork and pickled to a
    worker. A damaged row counts as missing; `verify` lists them.
    """

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "rw"] = "r") -> None:
        if mode not in ("r", "rw"):
            raise ValueError(f"mode {mode!r} is neither 'r' nor 'rw'")
        self.path, self.mode = Path(path), mode
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        with self._open():
            pass

    def get(self, content: str, settings: str) -> Proposals | None:
        """The stored proposals; None where there are none, or where the row is damaged."""
        data = self._row(*_key(content, settings))
        try:
            return None if data is None else coding.decode(data)
        except ProposalError:
            return None

    def _row(self, content: bytes, engine: bytes) -> bytes | None:
        query = f"SELECT {_DATA} {_FIND} WHERE content = ? AND hash = ?"
        with self._open() as connection:
            row = connection.execute(query, (content, engine)).fetchone()
        return None if row is None else bytes(row[0])

    def put(
        self, content: str, settings: str, proposals: Proposals, name: str | None = None
    ) -> None:
        """Store or replace the proposals of an image.

        `name` is the file's name without its folder, under which exports list the image. Files of
        the same content are one image with several names.
        """
        data = coding.encode(proposals)
        key, engine = _key(content, settings)
        with self._write() as connection:
            connection.execute("INSERT OR IGNORE INTO engines (hash) VALUES (?)", (engine,))
            connection.execute(_NAME_IMAGE, (key, name and _as_text(name)))
            connection.execute(
                """INSERT OR REPLACE INTO regions SELECT images.id, engines.id, ?, ?
                   FROM images, engines WHERE content = ? AND hash = ?""",
                (len(proposals), data, key, engine),
            )

    def add_name(self, content: str, name: str) -> None:
        """Add a name to a stored image; writes nothing where the image has it already."""
        key = bytes.fromhex(content)[:_KEY_BYTES]
        with self._open() as connection:
            query = f"SELECT {_NAMES} FROM images WHERE content = ?"
            known = connection.execute(query, (key,)).fetchone()
        # Read first: a run over stored images takes no lock for writing.
        if known is None or _as_text(name) not in known[0].split("/"):
            with self._write() as connection:
                connection.execute(_NAME_IMAGE, (key, _as_text(name)))

    def put_settings(self, settings: Mapping[str, Any]) -> str:
        """Store the settings under their hash, which is returned."""
        key = settings_hash(settings)
        query = """INSERT INTO engines (hash, settings) VALUES (?, ?) ON CONFLICT (hash)
                   DO UPDATE SET settings = excluded.settings"""
        with self._write() as connection:
            connection.execute(query, (bytes.fromhex(key), _canonical(settings)))
        return key

    def __contains__(self, key: tuple[str, str]) -> bool:
        """True where (content, settings) is stored, even if its row is damaged."""
        return self._row(*_key(*key)) is not None

    def count(self, settings: str | None = None) -> int:
        """Number of stored images, under one settings hash or under all."""
        query, values = "SELECT COUNT(*) FROM regions", []
        if settings is not None:
            query, values = f"SELECT COUNT(*) {_FIND} WHERE hash = ?", [bytes.fromhex(settings)]
        with self._open() as connection:
            return int(connection.execute(query, values).fetchone()[0])

    def total_boxes(self) -> int:
        with self._open() as connection:
            query = "SELECT CAST(TOTAL(boxes) AS INTEGER) FROM regions"
            return int(connection.execute(query).fetchone()[0])

    def size_on_disk(self) -> int:
        """Bytes of the database, including pages that are still in the log."""
        with self._open() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            return int(pages * connection.execute("PRAGMA page_size").fetchone()[0])

    def only_settings(self, settings: str | None = None) -> str:
        """The only settings hash of the cache, or the only one that begins with `settings`.

        Raises ProposalError where there is none, or more than one.
        """
        known = self.settings()
        if not known:
            raise ProposalError(
                f"{self.path} holds no proposals; fill it with inception-rcnn propose run"
            )
        fitting = [key for key in known if key.startswith(settings or "")]
        if len(fitting) == 1:
            return fitting[0]
        there = "; ".join(f"{key[:16]}: {value}" for key, value in known.items())
        which = f" that begin with {settings}" if settings else ""
        raise ProposalError(
            f"{self.path} holds {len(fitting)} kinds of proposals{which}, and one is expected; give"
            f" each kind a file, or export one by its --settings ({there})"
        )

    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings by settings hash, for every hash with stored proposals."""
        query = f"""SELECT {_HASH}, CAST(settings AS TEXT) FROM engines
                   WHERE id IN (SELECT DISTINCT engine FROM regions) ORDER BY hash"""
        with self._open() as connection:
            rows = connection.execute(query).fetchall()
            return {key.hex(): _read_settings(text or "{}") for key, text in rows}

    def items(self, settings: str) -> Iterator[tuple[str, Proposals]]:
        """Yield (image name, proposals) under one settings hash, sorted by name.

        Damaged rows are left out. An image of several names is yielded under each.
        """
        query = f"SELECT {_CONTENT}, {_NAMES} {_FIND} WHERE hash = ?"
        with self._open() as connection:
            rows = connection.execute(query, (bytes.fromhex(settings),)).fetchall()
        named = [
            (name, key.hex()) for key, names in rows for name in (names or key.hex()).split("/")
        ]
        for name, content in sorted(named):
            proposals = self.get(content, settings)
            if proposals is not None:
                yield name, proposals

    def verify(self) -> list[Damage]:
        """Check SQLite's structure and decode every row; return the damaged rows.

        Raises ProposalError where the structure of the file itself is damaged.
        """
        with self._open() as connection:
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0]  # up to one error
            rows = connection.execute(f"SELECT {_CONTENT}, {_HASH} {_FIND}").fetchall()
        if sound != "ok":
            raise ProposalError(explain(self.path, sqlite3.DatabaseError(f"malformed: {sound}")))
        damaged = []
        for content, engine in rows:
            data = self._row(content, engine)
            try:
                if data is not None:
                    coding.decode(data)
            except ProposalError as error:
                damaged.append(Damage(content.hex(), engine.hex(), str(error)))
        return damaged

    def close(self) -> None:
        with self._lock:
            # SQLite forbids even to close a connection in a fork of its process.
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
        if self.mode != "rw":
            raise ProposalError(f"{self.path} was opened for reading; open it with mode 'rw'")
        with self._open() as connection:
            # Locked at once, so that two writers wait: a reader that turns writer fails instead.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:  # an interrupt, too, must not leave the file locked
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Connection of this process; SQLite's errors become ProposalErrors."""
        with self._lock:
            try:
                # No connection may be used in a fork, so each process opens its own.
                if self._connection is None or self._owner != os.getpid():
                    self._connection, self._owner = connect(self.path, self.mode), os.getpid()
                yield self._connection
            except sqlite3.Error as error:
                raise ProposalError(explain(self.path, error)) from error
            except UnicodeDecodeError as error:  # Python's, of an SQLite message about damaged text
                damage = sqlite3.DatabaseError(f"malformed: {error.reason}")
                raise ProposalError(explain(self.path, damage)) from error


def _key(content: str, settings: str) -> tuple[bytes, bytes]:
    return bytes.fromhex(content)[:_KEY_BYTES], bytes.fromhex(settings)
