"""tools/evaluate_proposals.py on a data set made by hand, where every number is known."""

import json
import os
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.cli import propose_evaluate as tool
from detector.cli.app import run_tool
from detector.errors import SettingsError
from detector.images.decoding import content_hash, read_bytes
from detector.proposals.cache.stored import ProposalStore
from detector.structures import Proposals

ROOT = Path(__file__).resolve().parents[2]

# One cat, (0, 0, 60, 40), in each of two pictures of 120 x 80 pixels.
CAT = [0, 0, 60, 40]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images, annotations = [], []
    (tmp_path / "photos").mkdir()
    for number in (1, 2):
        pixels = np.full((80, 120, 3), 200, np.uint8)
        pixels[:40, :60] = (90 * number, 20, 30)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
        images.append(
            {"id": number, "file_name": f"photos/{number}.png", "width": 120, "height": 80}
        )
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": CAT, "area": 2400,
             "iscrowd": 0}
        )  # fmt: skip
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "instances.json").write_text(json.dumps(whole))
    return tmp_path / "instances.json"


@pytest.fixture
def cache(data: Path, tmp_path: Path) -> Path:
    """For image 1 half the cat, then all of it; for image 2 only a quarter of it."""
    path = tmp_path / "theirs.sqlite"
    with ProposalStore(path, "rw") as store:
        key = store.put_settings({"engine": "by hand"})
        for number, boxes in ((1, [[0, 0, 60, 20], CAT]), (2, [[0, 0, 30, 20]])):
            content = content_hash(read_bytes(tmp_path / "photos" / f"{number}.png"))
            store.put(content, key, Proposals(boxes, (80, 120)))
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        run_tool(tool.main, [str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_stored_proposals_give_the_numbers_worked_out_by_hand(data, cache, tmp_path, capsys):
    out = tmp_path / "out"
    start = ["--data", data, "--engine", cache, "--out", out, "--budgets", "1,2,all", "--quiet"]
    assert run(*start) == 0
    said = capsys.readouterr()
    assert "0.500/0.375" in said.out  # one box: overlaps 0.5 and 0.25
    assert "0.500/0.625" in said.out  # two: 1 and 0.25
    assert said.err == ""
    whole = json.loads((out / "coverage.json").read_text())
    one = whole["engines"][str(cache)]
    assert one["recall_0.5"] == [0.5, 0.5, 0.5]
    assert one["recall_0.7"] == [0.0, 0.5, 0.5]
    assert one["mabo"] == pytest.approx([0.375, 0.625, 0.625])
    assert one["average_recall"] == pytest.approx([0, 0.5, 0.5])
    assert one["boxes_per_image"] == [1, 1.5, 1.5]
    assert one["settings"]["engine"] == "by hand"
    assert (out / "coverage.png").read_bytes().startswith(b"\x89PNG")


def test_engines_stand_side_by_side_over_several_seeds(data, cache, tmp_path, capsys):
    out = tmp_path / "out"
    ours = "selective-search:preset=single,superpixel_scale=0.5"
    theirs = "opencv:preset=single"
    assert run(
        "--data", data, "--engine", ours, "--engine", theirs, "--engine", cache,
        "--seeds", 3, "--budgets", "1,all", "--out", out,
    ) == 0  # fmt: skip
    engines = json.loads((out / "coverage.json").read_text())["engines"]
    assert list(engines) == [ours, theirs, str(cache)]
    assert engines[ours]["recall_0.5"][-1] == 1.0  # a plain rectangle is hard to miss
    assert engines[ours]["seconds_per_image"] > 0
    assert engines[ours]["recall_0.5_deviation"][-1] == 0.0
    assert engines[str(cache)]["mabo"][-1] == pytest.approx(0.625)
    assert "[3]" in capsys.readouterr().out


def test_a_picture_that_cannot_be_read_is_left_out_and_said(data, cache, tmp_path, capsys):
    (tmp_path / "photos" / "2.png").write_bytes(b"no picture")
    assert run("--data", data, "--engine", cache, "--out", tmp_path / "out", "--quiet") == 1
    said = capsys.readouterr()
    assert "2.png" in said.err
    assert "1 image, 1 object\n" in said.out


def test_an_interrupted_run_says_what_it_has_seen(data, cache, tmp_path, capsys, monkeypatch):
    real = tool.propose_all

    def interrupted(*given: object) -> None:
        real(*given)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(tool, "propose_all", interrupted)
    out = tmp_path / "out"
    assert run("--data", data, "--engine", cache, "--out", out, "--quiet") == 130
    assert json.loads((out / "coverage.json").read_text())["images"] == 1
    assert "1 image, 1 object\n" in capsys.readouterr().out


def test_a_place_that_cannot_be_is_told_before_the_work(data, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "propose_all", lambda *_: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    assert run("--data", data, "--engine", cache, "--out", tmp_path / "file", "--quiet") == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--engine", "magic"], 2, "selective-search, opencv"),
        (["--engine", "opencv:colour=red"], 2, "colour"),
        (["--engine", "opencv:fast"], 2, "SETTING=VALUE"),
        (["--engine", "opencv", "--engine", "opencv"], 2, "twice"),
        (["--budgets", "many"], 2, "numbers and `all`"),
        (["--budgets", "0"], 2, "at least 1"),
        (["--classes", "mine"], 2, "own or voc"),
    ],
)
def test_wrong_options_are_one_clear_sentence(data, tmp_path, capsys, arguments, code, message):
    assert run("--data", data, "--out", tmp_path / "out", *arguments) == code
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_cache_without_an_image_says_how_to_fill_it_before_any_search(
    data, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(tool, "propose_all", lambda *_: pytest.fail("it began"))
    first = tmp_path / "first.sqlite"
    with ProposalStore(first, "rw") as store:
        key = store.put_settings({"engine": "by hand"})
        content = content_hash(read_bytes(tmp_path / "photos" / "1.png"))
        store.put(content, key, Proposals([CAT], (80, 120)))
    words = ["--data", data, "--engine", "selective-search", "--engine", first]
    assert run(*words, "--out", tmp_path / "out", "--quiet") == 3
    said = capsys.readouterr().err
    assert "2.png; make them with inception-rcnn propose run" in said
    assert not (tmp_path / "out").exists()


def test_a_damaged_row_of_a_cache_is_named(data, cache, tmp_path, capsys):
    connection = sqlite3.connect(cache)
    connection.execute("UPDATE regions SET data = x'00' WHERE image = 2")
    connection.commit()
    connection.close()
    assert run("--data", data, "--engine", cache, "--out", tmp_path / "out", "--quiet") == 3
    assert "2.png is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["opencv", "selective-search"])
def test_seeds_count_on_from_the_one_that_is_given(engine: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    pixels[20:60, 30:90] = (200, 20, 20)
    small = "longest_side=100,superpixel_scale=0.5"
    found, _ = tool.contestant(f"{engine}:seed=3,{small}", 2, 1).find("", "", pixels)
    every, _ = tool.contestant(f"{engine}:{small}", 5, 1).find("", "", pixels)
    assert [one.boxes.tolist() for one in found] == [one.boxes.tolist() for one in every[3:]]
    assert found[0].boxes.tolist() != every[0].boxes.tolist()
    assert tool.contestant(f"{engine}:seed=3", 2, 1).settings["seed"] == 3


def test_an_engine_without_chance_searches_once_for_all_seeds() -> None:
    assert len(tool.searcher("multibox", 3, 1).found) == 1


def test_seeds_of_files_alone_are_refused(data, cache, tmp_path, capsys) -> None:
    words = ["--data", data, "--engine", cache, "--out", tmp_path / "out", "--seeds", 3]
    assert run(*words, "--threads", 2) == 2
    assert "--seeds, --threads: changes nothing where every" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "x", "4294967296"])
def test_a_wrong_seed_is_a_settings_error(seed: str) -> None:
    with pytest.raises(SettingsError, match="seed"):
        tool.contestant(f"opencv:seed={seed}", 1, 1)
