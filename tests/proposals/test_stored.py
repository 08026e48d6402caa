"""The proposal cache: what is stored comes back, what is damaged counts as missing."""

import hashlib
import multiprocessing
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from detector.errors import ProposalError
from detector.proposals.cache import file as cache_file
from detector.proposals.cache.stored import ProposalStore, describe, settings_hash
from detector.structures import Proposals

FAST = settings_hash({"preset": "fast", "seed": 0})
OTHER = settings_hash({"preset": "fast", "seed": 1})


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def some(number: int = 0) -> Proposals:
    return Proposals([[number, 1, number + 4, 9], [0, 0, 30 + number, 20]], (20, 30 + number))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "proposals.sqlite"


def test_what_is_put_is_what_one_gets(path):
    with ProposalStore(path, "rw") as store:
        store.put(key(1), FAST, some(1))
        assert store.get(key(1), FAST).boxes.tolist() == some(1).boxes.tolist()
        assert store.get(key(1), FAST).size == (20, 31)
        assert store.get(key(1), OTHER) is None
        assert store.get(key(2), FAST) is None
        assert (key(1), FAST) in store
        assert (key(1), OTHER) not in store


def test_storing_again_replaces(path):
    with ProposalStore(path, "rw") as store:
        store.put(key(1), FAST, some(1))
        store.put(key(1), FAST, some(2))
        store.put(key(1), OTHER, some(3))
        assert store.count() == 2
        assert store.count(FAST) == 1
        assert store.get(key(1), FAST).size == (20, 32)


def test_the_hash_of_settings_does_not_depend_on_their_order_but_on_every_value():
    assert settings_hash({"a": 1, "b": 2.0}) == settings_hash({"b": 2.0, "a": 1})
    assert settings_hash({"a": 1, "b": 2.0}) != settings_hash({"a": 1, "b": 2.5})
    text = '{"a":1,"engine_version":1}'
    assert settings_hash({"a": 1}) == hashlib.sha256(text.encode()).hexdigest()


def test_another_engine_version_is_another_key(monkeypatch):
    before = settings_hash({"a": 1})
    monkeypatch.setattr("detector.proposals.cache.stored.ENGINE_VERSION", 2)
    assert settings_hash({"a": 1}) != before


def test_a_proposer_is_described_by_its_class_and_settings():
    from detector.proposals.opencv import OpenCVSelectiveSearch

    settings = describe(OpenCVSelectiveSearch(seed=3))
    assert settings["seed"] == 3
    assert settings_hash(settings) != settings_hash(describe(OpenCVSelectiveSearch(seed=4)))


def test_settings_are_written_down_beside_what_they_made(path):
    with ProposalStore(path, "rw") as store:
        made = store.put_settings({"preset": "fast", "seed": 0})
        assert made == FAST
        assert store.settings() == {}  # nothing stored under it yet
        store.put(key(1), FAST, some())
        assert store.settings()[FAST]["preset"] == "fast"


def test_the_one_kind_of_a_file_or_what_to_do_about_none_or_two(path):
    from detector.proposals.gather import StoredProposals

    with ProposalStore(path, "rw") as store:
        for asked in (store.only_settings, lambda: StoredProposals(path)):
            with pytest.raises(
                ProposalError, match=r"holds no proposals; fill it with inception-rcnn propose run"
            ):
                asked()
        keys = [store.put_settings({"preset": one}) for one in ("single", "fast")]
        store.put(key(1), keys[0], some(1))
        assert store.only_settings() == StoredProposals(path).key == keys[0]
        store.put(key(1), keys[1], some(2))
        assert store.only_settings(keys[1][:9]) == keys[1]
        for asked in (store.only_settings, lambda: StoredProposals(path)):
            with pytest.raises(
                ProposalError, match=r"holds 2 kinds of proposals, .* a file"
            ) as two:
                asked()
            assert all(one[:16] in str(two.value) for one in keys)
        with pytest.raises(ProposalError, match=r"holds 0 kinds of proposals that begin with xyz"):
            store.only_settings("xyz")


def test_items_come_by_name_and_nameless_ones_by_their_hash(path):
    with ProposalStore(path, "rw") as store:
        store.put(key(1), FAST, some(1), "b.jpg")
        store.put(key(2), FAST, some(2), "a.jpg")
        store.put(key(3), FAST, some(3))
        names = [name for name, _ in store.items(FAST)]
        assert names == sorted([key(3)[:32], "a.jpg", "b.jpg"])


def test_files_of_one_content_are_one_image_of_several_names(path):
    with ProposalStore(path, "rw") as store:
        store.put(key(1), FAST, some(1))
        for name in ("b.jpg", "a.jpg", "b.jpg", "b.jp"):
            store.put(key(1), FAST, some(1), name)
        store.add_name(key(1), "c.jpg")
        before = path.read_bytes(), store.size_on_disk()
        store.add_name(key(1), "a.jpg")
        assert (path.read_bytes(), store.size_on_disk()) == before
        found = list(store.items(FAST))
        assert [name for name, _ in found] == ["a.jpg", "b.jp", "b.jpg", "c.jpg"]
        assert all(one.size == some(1).size for _, one in found)
        assert store.count() == 1


def test_what_was_killed_while_it_was_made_keeps_a_log_when_it_is_opened_again(path):
    """Without one a writer and its readers would wait for each other."""
    ProposalStore(path, "rw").close()
    plain = sqlite3.connect(path)
    plain.execute("PRAGMA journal_mode = DELETE")
    plain.close()
    with ProposalStore(path, "rw") as store, store._open() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_names_that_are_not_utf_8_are_kept_as_escapes(path):
    with ProposalStore(path, "rw") as store:
        store.put(key(1), FAST, some(1), "a\udcff.jpg")
        assert [name for name, _ in store.items(FAST)] == ["a\\udcff.jpg"]


def test_a_missing_file_says_how_to_make_it(path):
    with pytest.raises(ProposalError, match=r"inception-rcnn propose run --out"):
        ProposalStore(path)


def test_a_reader_cannot_write(path):
    ProposalStore(path, "rw").close()
    with ProposalStore(path) as store, pytest.raises(ProposalError, match="opened for reading"):
        store.put(key(1), FAST, some())


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_was(tmp_path, mode):
    file = tmp_path / "notes.txt"
    file.write_bytes(b"my thesis, only copy " * 100)
    with pytest.raises(ProposalError, match="not a proposal cache"):
        ProposalStore(file, mode)
    assert file.read_bytes() == b"my thesis, only copy " * 100


def test_somebody_elses_database_is_refused(tmp_path):
    file = tmp_path / "photos.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE photos (id INTEGER)")
    connection.close()
    with pytest.raises(ProposalError, match="not a proposal cache"):
        ProposalStore(file, "rw")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProposalError, match="cannot be made"):
        ProposalStore(tmp_path / "file" / "cache.sqlite", "rw")


def test_a_path_that_is_a_folder_is_an_error(tmp_path):
    with pytest.raises(ProposalError, match="is a folder"):
        ProposalStore(tmp_path, "rw")


@pytest.mark.parametrize("log", ["none", "empty", "full"])
def test_a_file_on_read_only_media_can_be_read(path, log, tmp_path, monkeypatch):
    """Tests may run as root, for whom nothing is read-only: SQLite's refusal is made up."""
    copy = tmp_path / "medium" / "p.sqlite"
    copy.parent.mkdir()
    with ProposalStore(path, "rw") as store:
        store.put(key(1), FAST, some(1))
        if log == "full":  # what is stored lies in the log alone until the file is closed
            shutil.copy(path, copy)
            shutil.copy(f"{path}-wal", f"{copy}-wal")
    if log != "full":
        shutil.copy(path, copy)
    if log == "empty":
        Path(f"{copy}-wal").write_bytes(b"")
    there = set(copy.parent.iterdir())
    raw = cache_file._raw

    def on_read_only_media(file, how):
        if how in ("mode=ro", "mode=rwc"):
            refused = sqlite3.OperationalError("unable to open database file")
            refused.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise refused
        return raw(file, how)

    monkeypatch.setattr(cache_file, "_raw", on_read_only_media)
    with ProposalStore(copy) as store:
        assert store.get(key(1), FAST).size == (20, 31)
        assert set(copy.parent.iterdir()) == there
    with pytest.raises(ProposalError, match="cannot be opened"):
        ProposalStore(copy, "rw")


def test_a_locked_file_is_not_read_past_the_lock(path, monkeypatch):
    ProposalStore(path, "rw").close()

    def locked(file, how):
        assert how == "mode=ro"
        refused = sqlite3.OperationalError("database is locked")
        refused.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise refused

    monkeypatch.setattr(cache_file, "_raw", locked)
    with pytest.raises(ProposalError, match="locked by another program"):
        ProposalStore(path)


def damage(path: Path, content: str) -> None:
    """Flip one bit of a row, behind the store's back."""
    connection = sqlite3.connect(path)
    where = "WHERE image = (SELECT id FROM images WHERE content = ?)"
    image = bytes.fromhex(content)[:16]
    (data,) = connection.execute(f"SELECT data FROM regions {where}", (image,)).fetchone()
    flipped = data[:9] + bytes([data[9] ^ 1]) + data[10:]
    connection.execute(f"UPDATE regions SET data = ? {where}", (flipped, image))
    connection.commit()
    connection.close()


def test_a_damaged_row_is_reported_and_counts_as_missing(path):
    with ProposalStore(path, "rw") as store:
        for number in range(3):
            store.put(key(number), FAST, some(number), f"{number}.jpg")
        damage(path, key(1))
        assert store.get(key(1), FAST) is None
        assert [name for name, _ in store.items(FAST)] == ["0.jpg", "2.jpg"]
        [damaged] = store.verify()
        assert (damaged.content, damaged.settings) == (key(1)[:32], FAST)
        store.put(key(1), FAST, some(1))
        assert store.get(key(1), FAST).size == (20, 31)
        assert store.verify() == []


def test_a_damaged_file_is_an_error_that_says_so(path):
    with ProposalStore(path, "rw") as store:
        for number in range(200):
            store.put(key(number), FAST, some(number))
    whole = bytearray(path.read_bytes())
    whole[2048:] = os.urandom(len(whole) - 2048)
    path.write_bytes(whole)
    with (
        pytest.raises(ProposalError, match=r"damaged|not a proposal cache"),
        ProposalStore(path) as store,
    ):
        store.verify()


def write_some(path: Path, first: int, count: int) -> None:
    with ProposalStore(path, "rw") as store:
        for number in range(first, first + count):
            store.put(key(number), FAST, some(number), f"{number}.jpg")


def test_several_processes_create_and_write_the_same_file_at_once(path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_some, args=(path, 25 * i, 50)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with ProposalStore(path) as store:  # 0..49, 25..74, 50..99: overlapping on purpose
        assert store.count(FAST) == 100
        assert store.verify() == []
        assert store.get(key(77), FAST).size == (20, 107)


def test_a_log_is_asked_for_again_where_others_are_opening_the_file(path, monkeypatch):
    """SQLite refuses that at once, whatever its patience."""
    monkeypatch.setattr(cache_file.time, "sleep", lambda _: None)
    path.parent.mkdir(exist_ok=True)
    real, refusals = cache_file._raw(path, "mode=rwc"), iter(range(3))

    class Busy:
        def execute(self, text: str) -> sqlite3.Cursor:
            if text.endswith("WAL") and next(refusals, None) is not None:
                raise sqlite3.OperationalError("database is locked")
            return real.execute(text)

    cache_file._keep_a_log(Busy())  # type: ignore[arg-type]
    assert real.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert next(refusals, None) is None
    real.close()


def test_threads_may_share_a_store(path):
    with ProposalStore(path, "rw") as store, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.put(key(n), FAST, some(n)), range(40)))
        found = list(pool.map(lambda n: store.get(key(n), FAST).size[1], range(40)))
    assert found == [30 + number for number in range(40)]


def test_a_store_can_be_pickled_to_a_worker(path):
    with ProposalStore(path, "rw") as store:
        store.put(key(1), FAST, some(1))
        with pickle.loads(pickle.dumps(store)) as copy:
            assert copy.get(key(1), FAST).size == (20, 31)


WRITE_FOREVER = """
import sys
import numpy as np
from tests_of_stored import key, some, FAST
from detector.proposals.cache.stored import ProposalStore
store = ProposalStore(sys.argv[1], "rw")
for number in range(1_000_000):
    store.put(key(number), FAST, some(number % 500))
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_instant_loses_nothing_that_it_had_stored(path, tmp_path):
    (tmp_path / "tests_of_stored.py").write_text(Path(__file__).read_text())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, str(path)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert writer.stdout is not None
    stored = [int(writer.stdout.readline()) for _ in range(20)]
    time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    with ProposalStore(path, "rw") as store:
        assert all((key(number), FAST) in store for number in stored)
        assert store.verify() == []
        store.put(key(10**7), FAST, some(1))


def test_the_file_is_small_beside_its_rows(path):
    """Keys, names and pages may cost 300 bytes an image: 0.15 bytes a box of a 2,000-box image."""
    from detector.proposals.cache.coding import encode

    rng = np.random.default_rng(0)
    corners = rng.integers(0, 200, (300, 2))
    found = Proposals(np.hstack([corners, corners + rng.integers(20, 170, (300, 2))]), (400, 400))
    with ProposalStore(path, "rw") as store:
        for number in range(200):
            store.put(key(number), FAST, found, f"2008_{number:06}.jpg")
    assert path.stat().st_size / 200 < len(encode(found)) + 300


def test_a_file_of_another_format_is_refused(path):
    with ProposalStore(path, "rw") as store:
        store.put(key(1), FAST, some(1))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    for mode in ("r", "rw"):
        with pytest.raises(ProposalError, match="of format 7, and this version reads format 2"):
            ProposalStore(path, mode)


def test_a_file_whose_texts_are_damaged_is_an_error_that_says_so(path):
    """Found by fuzzing: the name of a table is not UTF-8."""
    with ProposalStore(path, "rw") as store:
        store.put_settings({"engine": "any"})
    data = path.read_bytes()
    at = data.index(b"engines")
    path.write_bytes(data[:at] + b"\xe5\xff" + data[at + 2 :])
    with pytest.raises(ProposalError, match="is damaged"), ProposalStore(path) as store:
        store.settings()


@pytest.mark.parametrize("value", [7, 0.5, "text", b"\x00", None])
@pytest.mark.parametrize(
    ("table", "column"),
    [("regions", "data"), ("regions", "boxes"), ("images", "name"), ("images", "content"),
     ("engines", "hash"), ("engines", "settings")],
)  # fmt: skip
def test_what_lies_in_a_column_of_another_type_is_damage_and_no_crash(path, table, column, value):
    with ProposalStore(path, "rw") as store:
        engine = store.put_settings({"preset": "fast"})
        store.put(key(1), engine, some(1), "a.jpg")
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
    connection.commit()
    connection.close()
    with ProposalStore(path, "rw") as store:
        for asked in (
            lambda: [list(store.items(one)) for one in store.settings()],
            store.verify,
            store.total_boxes,
            lambda: store.get(key(1), engine),
            lambda: store.add_name(key(1), "c.jpg"),
        ):
            try:
                asked()
            except ProposalError as error:
                assert "damaged (malformed" in str(error)  # noqa: PT017
        if column == "data":
            assert store.get(key(1), engine) is None
            assert len(store.verify()) == 1


@pytest.mark.parametrize("text", ['{"preset": ', "[1]", "5", "[" * 100_000])
def test_settings_that_are_damaged_are_an_error_that_says_so(path, text):
    with ProposalStore(path, "rw") as store:
        store.put(key(1), store.put_settings({"preset": "fast"}), some(1))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE engines SET settings = ?", (text,))
    connection.commit()
    connection.close()
    with ProposalStore(path) as store, pytest.raises(ProposalError, match="no JSON object"):
        store.settings()
