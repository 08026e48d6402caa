"""The commands `propose` as the person at the keyboard meets it."""

import io
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from detector.cli import propose as tool
from detector.cli.app import run_tool
from detector.images.decoding import content_hash
from detector.proposals.cache.stored import ProposalStore

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"import": tool.import_foreign, "export": tool.export_foreign, "verify": tool.verify}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def propose(monkeypatch, capsys):
    """The tool, called in this process: a new one would load its libraries anew each time."""

    def run(*arguments: object, stdin: str = "") -> Done:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run_tool(COMMANDS.get(words[0], tool.main), words[words[0] in COMMANDS :])
        said = capsys.readouterr()
        return Done(int(end.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four small pictures with blocks to be found."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        rng = np.random.default_rng(number)
        pixels = np.kron(rng.integers(0, 255, (4, 5, 3)), np.ones((30, 30, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def rows(cache: Path) -> dict[str, bytes]:
    connection = sqlite3.connect(cache)
    query = "SELECT images.name, data FROM regions JOIN images ON images.id = regions.image"
    found = dict(connection.execute(query).fetchall())
    connection.close()
    return found


def test_a_folder_becomes_a_cache_that_goes_on_where_it_stopped(propose, photos, tmp_path):
    cache = tmp_path / "cache.sqlite"
    first = propose(photos / "0.png", photos / "1.png", "--out", cache)
    assert first.returncode == 0, first.stderr
    assert "2 images done, 0 known already, 0 failed" in first.stdout
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff this is no picture")
    second = propose(photos, "--out", cache, "--workers", 2)
    assert second.returncode == 1
    assert "2 images done, 2 known already, 1 failed" in second.stdout
    assert "broken.jpg" in second.stderr
    assert "Traceback" not in second.stderr

    alone = tmp_path / "alone.sqlite"
    assert propose(photos, "--out", alone, "--quiet").returncode == 1
    assert rows(alone) == rows(cache)
    assert set(rows(cache)) == {f"{number}.png" for number in range(4)}
    with ProposalStore(cache) as store:
        assert store.count(store.only_settings()) == 4

    verified = propose("verify", cache)
    assert verified.returncode == 0
    assert "4 images under" in verified.stdout


def test_a_list_on_standard_input_and_opencvs_engine(propose, photos, tmp_path):
    """Two of the three names are not UTF-8, and one of those is of no image."""
    cache = tmp_path / "cache.sqlite"
    good, bad = photos / "\udcff.png", photos / "\udcfe.png"
    (photos / "1.png").rename(good)
    bad.write_text("no picture")
    given = "\n".join(str(path) for path in (photos / "0.png", good, bad))
    done = propose("-", "--out", cache, "--engine", "opencv", "--quiet", stdin=given)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "\\udcfe.png: not an image" in done.stderr
    assert set(rows(cache)) == {"0.png", "\\udcff.png"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--engine", "magic"], 2, "selective-search, opencv"),
        (["--preset", "slow"], 2, "preset"),
        (["--set", "colour=red"], 2, "colour"),
        (["--set", "nothing"], 2, "NAME=VALUE"),
        (["--out", "/dev/null/cache.sqlite"], 3, "cannot be made"),
        (["--superpixel-scale", "-1"], 2, "superpixel_scale"),
        (["--engine", "multibox", "--preset", "fast"], 2, "--preset: --engine multibox has no"),
        (["--engine", "multibox", "--longest-side", "0"], 2, "--longest-side: --engine multibox"),
        (["--preset", "fast", "--set", "strategies=[HSV-100-CTSF]"], 2, "not both"),
    ],
)
def test_wrong_options_are_one_clear_sentence(propose, photos, tmp_path, arguments, code, message):
    given = [photos, *arguments]
    if "--out" not in arguments:
        given += ["--out", tmp_path / "cache.sqlite"]
    done = propose(*given)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_strategies_may_stand_in_place_of_a_preset(propose, photos, tmp_path):
    cache = tmp_path / "cache.sqlite"
    for given in (["--set", "strategies=[HSV-100-CTSF]"], ["--longest-side", 0], [], ["--seed", 0]):
        done = propose(photos / "0.png", "--out", cache, *given)
        assert done.returncode == 0, done.stderr
    with ProposalStore(cache) as store:
        found = list(store.settings().values())
    assert len(found) == 3  # what is not given is the default
    assert sorted(str(one["strategies"] is None) for one in found) == ["False", "True", "True"]
    assert sorted(str(one["longest_side"]) for one in found) == ["500", "500", "None"]


def test_nothing_usable_is_exit_code_3(propose, tmp_path):
    (tmp_path / "notes.jpg").write_text("not a picture")
    done = propose(tmp_path / "notes.jpg", "--out", tmp_path / "cache.sqlite")
    assert done.returncode == 3
    assert propose(tmp_path / "empty*.jpg", "--out", tmp_path / "cache.sqlite").returncode == 3


def test_ctrl_c_finishes_the_image_keeps_it_and_says_130(photos, tmp_path):
    cache = tmp_path / "cache.sqlite"
    for number in range(4, 60):
        pixels = np.random.default_rng(number).integers(0, 255, (400, 500, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    command = [sys.executable, ROOT / "tools" / "propose.py", photos, "--out", cache]
    running = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while not count(cache) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130, said
    assert "Traceback" not in said
    stored = count(cache)
    assert 1 <= stored < 60
    with ProposalStore(cache) as store:
        assert store.verify() == []


def count(cache: Path) -> int:
    try:
        with ProposalStore(cache) as store:
            return store.count()
    except Exception:  # not there yet
        return 0


def test_import_and_export_go_round(propose, photos, tmp_path):
    from scipy.io import savemat

    from detector.boxes import voc_from_xyxy

    wanted = {str(n): np.array([[0, 0, 150, 120], [10 * n, 5, 60 + n, 90]]) for n in range(4)}
    boxes, images = np.empty((1, 4), object), np.empty((4, 1), object)
    for number, (name, value) in enumerate(wanted.items()):
        boxes[0, number], images[number, 0] = voc_from_xyxy(value)[:, [1, 0, 3, 2]], name
    savemat(tmp_path / "theirs.mat", {"boxes": boxes, "images": images})
    cache = tmp_path / "cache.sqlite"

    start = ["import", tmp_path / "theirs.mat", photos, "--out", cache, "--base", 1, "--inclusive"]
    wrong = propose(*start, "--order", "xyxy")
    assert wrong.returncode == 3
    assert "x and y are probably swapped" in wrong.stderr
    assert not cache.exists()
    unsaid = propose("import", tmp_path / "theirs.mat", photos, "--out", cache)
    assert unsaid.returncode == 2
    done = propose(*start, "--order", "yxyx")
    assert done.returncode == 0, done.stderr
    with ProposalStore(cache) as store:
        found = dict(store.items(store.only_settings()))
    assert {name: one.boxes.tolist() for name, one in found.items()} == {
        f"{name}.png": value.tolist() for name, value in wanted.items()
    }

    target = tmp_path / "theirs.pkl"
    assert propose("export", cache, "--to", "detectron2", "--file", target).returncode == 0
    again = propose(
        "import", target, photos, "--out", tmp_path / "again.sqlite",
        "--order", "xyxy", "--base", 0, "--exclusive",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    with ProposalStore(tmp_path / "again.sqlite") as store:
        back = dict(store.items(store.only_settings()))
    assert all(np.array_equal(back[name].boxes, found[name].boxes) for name in found)


def test_images_that_the_file_names_but_nobody_has_are_reported(propose, photos, tmp_path):
    (tmp_path / "theirs.json").write_text('{"0": [[0, 0, 50, 50]], "77": [[0, 0, 9, 9]]}')
    done = propose(
        "import", tmp_path / "theirs.json", photos, "--out", tmp_path / "cache.sqlite",
        "--order", "xyxy", "--base", 0, "--exclusive",
    )  # fmt: skip
    assert done.returncode == 1
    assert "1 of 2 images in theirs.json were not found" in done.stderr


def test_two_pictures_of_one_name_are_not_exported_as_one(propose, photos, tmp_path):
    for folder, photo in (("x", "0.png"), ("y", "1.png")):
        (tmp_path / folder).mkdir()
        (photos / photo).rename(tmp_path / folder / "1.png")
    cache = tmp_path / "cache.sqlite"
    assert propose(tmp_path / "x", tmp_path / "y", "--out", cache, "--quiet").returncode == 0
    done = propose("export", cache, "--to", "detectron2", "--file", tmp_path / "a.pkl")
    assert done.returncode == 3
    assert "two images are called 1.png" in done.stderr
    assert not (tmp_path / "a.pkl").exists()


def test_renumbered_images_are_exported_by_the_names_of_one_folder(propose, photos, tmp_path):
    """Two data sets of the same pictures in one cache: each picture has the names of both."""
    other, cache, target = tmp_path / "other", tmp_path / "cache.sqlite", tmp_path / "a.pkl"
    other.mkdir()
    for number in range(4):
        shutil.copy(photos / f"{number}.png", other / f"{3 - number}.png")
    assert propose(photos, other, "--out", cache, "--quiet").returncode == 0
    start = ["export", cache, "--to", "detectron2", "--file", target]
    both = propose(*start)
    assert (both.returncode, target.exists()) == (3, False)
    assert "export one folder at a time" in both.stderr
    for folder in (photos, other):
        assert propose("export", cache, folder, *start[2:]).returncode == 0
        content = pickle.loads(target.read_bytes())
        with ProposalStore(cache) as store:
            for name, boxes in zip(content["ids"], content["boxes"], strict=True):
                data = (folder / f"{name}.png").read_bytes()
                stored = store.get(content_hash(data), store.only_settings())
                assert np.array_equal(boxes, stored.boxes)
    (tmp_path / "two.txt").write_text("0.png\n1.png\n")
    words = ["export", cache, photos, "--file", tmp_path / "new" / "a.pkl", "--to"]
    two = propose(*words, "mmdetection2", "--index", tmp_path / "two.txt")
    assert (two.returncode, "proposals of 2 images" in two.stdout) == (0, True)
    idle = ["detectron2", "--folder", "val"]
    for wrong in (["mmdetection"], ["mmdetection2"], ["mmdetection4"], idle):
        assert propose(*words, *wrong).returncode == 2
    Image.new("RGB", (40, 30)).save(other / "new.png")
    missing = propose("export", cache, other, *start[2:])
    assert missing.returncode == 3
    assert "no proposals for" in missing.stderr
    assert "new.png" in missing.stderr
