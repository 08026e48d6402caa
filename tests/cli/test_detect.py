"""tools/detect.py: what a user gets for good files, bad files, wrong options and interruptions."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from full_disk import files_of_at_most
from PIL import Image
from small_detector import save_detector

from detector import jit
from detector.cli import detect
from detector.cli.app import run_tool
from detector.cli.detecting.work import Work
from detector.models.inference.prepare import fastest_precision

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "detect.py"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return save_detector(tmp_path_factory.mktemp("bundle"))


def _scene(seed: int, size: tuple[int, int] = (90, 120)) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = np.full((*size, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(6):
        y, x = rng.integers(0, size[0] - 20), rng.integers(0, size[1] - 20)
        pixels[y : y + 40, x : x + 40] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        _scene(i).save(folder / f"{i}.png")
    return folder


def _detect(bundle: Path, *arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        run_tool(detect.main, [*map(str, arguments), "--weights", str(bundle), "--device", "cpu"])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_a_folder_gives_pictures_detections_and_a_record(bundle, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert _detect(bundle, photos, "--out", out) == 0
    rows = json.loads((out / "detections.json").read_text())
    keys = {"image_id", "file_name", "category_id", "category_name", "bbox", "score"}
    assert all(row.keys() == keys for row in rows)
    assert {row["file_name"] for row in rows} == {"0.png", "1.png", "2.png"}
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    run = json.loads((out / "run.json").read_text())
    assert [one["raw_size"] for one in run["inputs"]] == [[90, 120]] * 3
    assert run["settings"]["nms_threshold"] == 0.3
    assert (run["weights"], run["precision"]) == (str(bundle), fastest_precision("cpu"))
    with Image.open(out / "0.jpg") as picture:
        assert picture.size == (120, 90)
    assert "0.png" in capsys.readouterr().out


def test_the_same_command_again_gives_the_same_though_its_results_lie_among_the_images(
    bundle, photos, capsys, monkeypatch
):
    monkeypatch.chdir(photos)
    shown = []
    for _ in range(2):
        assert _detect(bundle, ".") == 0
        shown.append(capsys.readouterr().out)
    assert Path("out/0.jpg").is_file()
    assert shown[0] == shown[1]


def test_results_are_the_same_bytes_for_any_threads_order_and_company(bundle, photos, tmp_path):
    """One to four threads; each time another order; in the end beside files that are no images, one
    of which has the name of a good one.
    """
    outs = [tmp_path / f"out{threads}" for threads in (1, 2, 3, 4)]
    for out, order in zip(outs, ([0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]), strict=True):
        names = [photos / f"{i}.png" for i in order]
        assert _detect(bundle, *names, "--out", out, "--threads", out.name[3:], "--quiet") == 0
    (photos / "broken.jpg").write_bytes(b"text")
    (photos / "0.jpg").write_bytes(b"text")
    assert _detect(bundle, photos, "--out", tmp_path / "beside", "--threads", 2) == 1
    expected = (outs[0] / "detections.json").read_bytes()
    assert {row["image_id"] for row in json.loads(expected)} == {"0", "1", "2"}
    for out in [*outs[1:], tmp_path / "beside"]:
        assert (out / "detections.json").read_bytes() == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_image_and_writes_what_is_done(
    bundle, photos, tmp_path, monkeypatch, number, code
):
    assert _detect(bundle, photos / "0.png", "--out", tmp_path / "one", "--quiet") == 0
    finish = Work.finish

    def interrupted(record, *more):
        os.kill(os.getpid(), number)
        finish(record, *more)

    monkeypatch.setattr(Work, "finish", interrupted)
    out = tmp_path / "out"
    assert _detect(bundle, photos, "--out", out, "--quiet") == code
    inputs = json.loads((out / "run.json").read_text())["inputs"]
    assert [one["detections"] is None for one in inputs] == [False, True, True]
    assert [one["error"] for one in inputs] == [None] * 3
    expected = (tmp_path / "one" / "detections.json").read_bytes()
    assert (out / "detections.json").read_bytes() == expected


def test_a_full_disk_is_one_sentence_and_leaves_the_results_of_before(
    bundle, photos, tmp_path, capsys
):
    out, options = tmp_path / "out", ["--quiet", "--no-pictures"]
    assert _detect(bundle, photos / "0.png", "--out", out, *options) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with files_of_at_most(100):
        assert _detect(bundle, photos, "--out", out, *options) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_names_that_are_no_text_are_shown_as_escapes(bundle, tmp_path, monkeypatch):
    """Bytes that are not UTF-8 and commands to a terminal, in the table and in the errors, on a
    stream that is as strict as a real one.
    """
    good, bad = tmp_path / "\udcff\x1b[31m.png", tmp_path / "\udcfe\n.png"
    _scene(1).save(good)
    bad.write_text("no picture")
    streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    assert _detect(bundle, tmp_path, "--out", tmp_path / "out") == 1
    said = {}
    for name, stream in streams.items():
        stream.flush()
        said[name] = stream.buffer.getvalue().decode()
    assert "\\udcff\\x1b[31m.png" in said["stdout"]
    assert "\\udcfe\\n.png: not an image" in said["stderr"]
    assert "\x1b" not in said["stdout"] + said["stderr"]


def _corpus(folder: Path) -> None:
    """Files that people and enemies have."""
    buffer = io.BytesIO()
    _scene(9).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    (folder / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is not a picture")
    (folder / "line\nbreak.png").write_bytes(b"bad")
    (folder / "-dash.png").write_bytes(b"bad")
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    Image.new("RGB", (400, 2), (9, 9, 9)).save(folder / "thin.png")
    Image.new("L", (50, 50), 128).save(folder / "constant.png")
    Image.new("1", (40, 40)).save(folder / "bit.png")
    Image.new("RGBA", (40, 40), (1, 2, 3, 4)).save(folder / "alpha.png")
    _scene(3).save(folder / ("n" * 240 + ".png"))
    frames = [_scene(i) for i in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])


def test_a_corpus_of_bad_files_is_errors_or_results_and_never_a_traceback(bundle, tmp_path, capsys):
    folder, out = tmp_path / "corpus", tmp_path / "out"
    folder.mkdir()
    _corpus(folder)
    assert _detect(bundle, folder, "--out", out) == 1
    run = json.loads((out / "run.json").read_text())
    by_name = {Path(one["file"]).name: one for one in run["inputs"]}
    bad = {name for name, one in by_name.items() if one["error"]}
    assert bad == {
        "truncated.jpg", "empty.jpg", "text.jpg", "line\nbreak.png", "-dash.png", "pipe.png",
        "loop.png",
    }  # fmt: skip
    assert all(by_name[name]["proposals"] >= 1 for name in by_name.keys() - bad)
    assert "more than one frame" in by_name["moving.gif"]["warnings"][0]
    pictures = [one["picture"] for one in run["inputs"] if one["picture"]]
    assert len(set(pictures)) == len(pictures)
    assert all((out / name).is_file() for name in pictures)
    assert "Traceback" not in capsys.readouterr().err


def test_a_list_on_stdin_and_a_glob_name_images(bundle, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{photos / '1.png'}\n\n{photos / '2.png'}\n"))
    assert _detect(bundle, "-", "--out", tmp_path / "a", "--no-pictures") == 0
    assert _detect(bundle, photos / "[12].png", "--out", tmp_path / "b", "--no-pictures") == 0
    one, two = ((tmp_path / name / "detections.json").read_bytes() for name in "ab")
    assert one == two
    assert not list((tmp_path / "a").glob("*.jpg"))


def test_json_on_stdout_is_the_file(bundle, photos, tmp_path, capsys):
    assert _detect(bundle, photos, "--json", "--out", tmp_path / "out") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out/detections.json").read_text())


def test_thresholds_and_limits_are_obeyed(bundle, photos, tmp_path):
    out = tmp_path / "out"
    assert _detect(bundle, photos, "--set", "max_detections=2", "--out", out, "--quiet") == 0
    rows = json.loads((out / "detections.json").read_text())
    assert len(rows) == 6
    assert _detect(bundle, photos, "--threshold", 1, "--out", out, "--quiet") == 0
    assert json.loads((out / "detections.json").read_text()) == []


def test_a_budget_that_is_too_short_still_sees_a_batch(bundle, photos, tmp_path):
    hurried, fewer = tmp_path / "hurried", tmp_path / "fewer"
    given = ("--set", "batch_size=3", "--threads", 1, "--quiet")
    assert _detect(bundle, photos, "--budget", "1e-6", *given, "--out", hurried) == 0
    assert [one["proposals"] for one in _run(hurried)["inputs"]] == [3] * 3
    assert _detect(bundle, photos, "--max-proposals", 3, *given, "--out", fewer) == 0
    results = [(out / "detections.json").read_bytes() for out in (hurried, fewer)]
    assert results[0] == results[1]


def test_equal_names_in_different_folders_do_not_overwrite_each_other(bundle, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        _scene(ord(folder)).save(tmp_path / folder / "same.png")
    out = tmp_path / "out"
    assert _detect(bundle, tmp_path / "a", tmp_path / "b", "--out", out) == 0
    assert len(list(out.glob("*.jpg"))) == 2
    rows = json.loads((out / "detections.json").read_text())
    assert len({row["image_id"] for row in rows}) == 2
    table = capsys.readouterr().out
    assert "a/same.png" in table
    assert "b/same.png" in table


def test_stored_proposals_are_used_and_missing_ones_are_errors(bundle, photos, tmp_path, capsys):
    from detector.images.decoding import content_hash, read_bytes
    from detector.proposals.cache.stored import ProposalStore
    from detector.structures import Proposals

    cache = tmp_path / "cache.sqlite"
    with ProposalStore(cache, "rw") as store:
        key = store.put_settings({"engine": "by hand"})
        content = content_hash(read_bytes(photos / "0.png"))
        store.put(content, key, Proposals([[10, 10, 60, 60]], (90, 120)))
    out = tmp_path / "out"
    assert _detect(bundle, photos, "--proposals", cache, "--out", out) == 1
    rows = json.loads((out / "detections.json").read_text())
    assert {tuple(row["bbox"]) for row in rows} == {(10, 10, 50, 50)}
    told = json.loads((out / "run.json").read_text())["proposals"]
    assert (told["file"], told["key"]) == (str(cache), key)
    assert told["settings"]["engine"] == "by hand"
    assert "inception-rcnn propose run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.jpg"], 3, "absent.jpg"),
        (["EMPTY"], 3, "no images"),
        (["PHOTOS", "--threshold", "2"], 2, "score_threshold"),
        (["PHOTOS", "--set", "nms_threshold=-1"], 2, "nms_threshold"),
        (["PHOTOS", "--ensemble", "many"], 2, "--ensemble"),
        (["PHOTOS", "--ensemble", "5"], 2, "member"),
        (["PHOTOS", "--device", "abacus"], 2, "device abacus: "),
        (["PHOTOS", "--set", "precision=int3"], 2, "precision"),
        (["PHOTOS", "--proposals", "magic"], 2, "selective-search"),
        (["PHOTOS", "--proposals", "no/such.sqlite"], 3, "no proposal cache"),
        (["PHOTOS", "--weights", "no/such"], 3, "bundle"),
        (["PHOTOS", "--set", "max_detections=0"], 2, "max_detections"),
        (["PHOTOS", "--set", "batch_size=0"], 2, "batch_size"),
        (["PHOTOS", "--colour", "red"], 2, "--colour"),
        (["PHOTOS", "--cascade", "0.1"], 2, "give --ensemble all"),
        (["PHOTOS", "--budget", "0"], 2, "budget"),
        (["PHOTOS", "--out", "FILE"], 2, "--out"),
        ([], 2, "IMAGES"),
    ],
)
def test_mistakes_are_short_sentences_and_write_nothing(
    bundle, photos, tmp_path, capsys, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("keep me")
    places = {"PHOTOS": photos, "EMPTY": tmp_path / "empty", "FILE": tmp_path / "file"}
    given = [places.get(one, one) for one in arguments]
    weights = [] if "--weights" in arguments else ["--weights", str(bundle)]
    with pytest.raises(SystemExit) as stopped:
        run_tool(detect.main, [*map(str, given), *weights])
    said = capsys.readouterr().err
    assert stopped.value.code == code, said
    assert message.lower() in said.lower()
    assert len(said.strip().splitlines()) <= 3
    assert "Traceback" not in said
    assert (tmp_path / "file").read_text() == "keep me"
    assert not (tmp_path / "out" / "detections.json").exists() or code == 3


def test_a_folder_that_cannot_be_written_is_one_sentence(bundle, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert _detect(bundle, photos, "--out", tmp_path / "file" / "deeper") in (2, 3)
    assert len(capsys.readouterr().err.strip().splitlines()) <= 3


def test_help_names_every_option():
    done = subprocess.run(
        [sys.executable, str(TOOL), "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--out", "--weights", "--threshold", "--proposals", "--device", "--json",
                   "--set", "--quiet"):  # fmt: skip
        assert option in done.stdout


def test_compiling_is_announced_unless_the_command_is_quiet(
    bundle, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(jit, "when_compiling", None)
    for quiet in (["--quiet"], []):
        assert _detect(bundle, photos / "0.png", "--out", tmp_path / "out", *quiet) == 0
        assert (jit.when_compiling is None) == bool(quiet)
    jit.when_compiling("compiling")
    assert capsys.readouterr().err.endswith("compiling\n")


@pytest.mark.parametrize("link", [False, True])
def test_an_annotated_picture_never_replaces_a_given_one(
    bundle, tmp_path, capsys, monkeypatch, link
):
    monkeypatch.chdir(tmp_path)
    _scene(1).save("cat.jpg")
    before = Path("cat.jpg").read_bytes()
    if link:
        Path("out").symlink_to(".")
    assert _detect(bundle, "cat.jpg", "--out", "out" if link else ".") == 2
    assert "another --out" in " ".join(capsys.readouterr().err.split())
    assert Path("cat.jpg").read_bytes() == before
    assert not Path("run.json").exists()
    assert _detect(bundle, "cat.jpg", "--out", ".", "--no-pictures") == 0
    assert Path("cat.jpg").read_bytes() == before


def test_arguments_that_stand_for_no_image_are_said_beside_good_ones(
    bundle, photos, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    nothing = [tmp_path / "*.jpg", tmp_path / "empty", "https://example.org/cat.jpg"]
    for one in nothing:
        assert _detect(bundle, photos / "0.png", one, "--out", tmp_path / "out") == 1
        assert f"error: {one}: " in capsys.readouterr().err
    assert _detect(bundle, nothing[2], "--out", tmp_path / "out") == 3
    assert "URLs are not fetched" in capsys.readouterr().err
    assert _detect(bundle, photos / "0.png", "", "--out", tmp_path / "out") == 2


class Killed(BaseException):
    """As kill -9: nothing is cleaned up by the tool itself."""


def _killed_after(monkeypatch, images: int) -> None:
    """The next run ends in the middle, after so many images."""
    finish, left = Work.finish, [images]

    def finish_or_die(*arguments):
        if not left[0]:
            monkeypatch.setattr(Work, "finish", finish)
            raise Killed
        left[0] -= 1
        finish(*arguments)

    monkeypatch.setattr(Work, "finish", finish_or_die)


def _run(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(
    bundle, photos, tmp_path, capsys, monkeypatch
):
    """Killed after one image, with half a line written, and killed again after one more."""
    assert _detect(bundle, photos, "--out", tmp_path / "whole") == 0
    table, out = capsys.readouterr().out, tmp_path / "out"
    for _ in range(2):
        _killed_after(monkeypatch, 1)
        with pytest.raises(Killed):
            run_tool(detect.main, [str(photos), "--weights", str(bundle), "--out", str(out)])
        with (out / ".detected.jsonl").open("ab") as half:
            half.write(b'{"content": "0')
    capsys.readouterr()
    assert _detect(bundle, photos, "--out", out) == 0
    said = capsys.readouterr()
    assert "2 of 3 images were done before" in said.err
    assert said.out == table
    for name in ("detections.json", "0.jpg", "1.jpg", "2.jpg"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (_run(out)["done_before"], _run(out)["not_looked_at"]) == (2, [])
    assert _detect(bundle, photos, "--out", out) == 0
    assert _run(out)["done_before"] == 0  # of a finished run nothing is kept


@pytest.mark.slow
def test_only_equal_settings_and_contents_go_on(bundle, photos, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def after_a_kill(*options: object) -> int:
        _killed_after(monkeypatch, 2)
        with pytest.raises(Killed):
            _detect(bundle, photos, "--out", out)
        assert _detect(bundle, photos, "--out", out, *options) == 0
        return _run(out)["done_before"]

    assert after_a_kill("--threads", 2, "--quiet") == 2
    assert after_a_kill("--threshold", 0.1) == 0
    assert after_a_kill("--set", "max_proposals=5") == 0
    assert after_a_kill("--set", "precision=float32") in (0, 2)  # what it is by itself, perhaps
    _killed_after(monkeypatch, 2)
    with pytest.raises(Killed):
        _detect(bundle, photos, "--out", out)
    _scene(7).save(photos / "0.png")
    (out / "1.jpg").unlink()
    assert _detect(bundle, photos, "--out", out) == 0
    assert _run(out)["done_before"] == 0
    assert _detect(bundle, photos, "--out", tmp_path / "new") == 0
    for name in ("detections.json", "0.jpg", "1.jpg"):
        assert (out / name).read_bytes() == (tmp_path / "new" / name).read_bytes()


def test_two_interruptions_lose_nothing_and_rename_nothing(bundle, tmp_path, monkeypatch):
    """Two pictures of one name: each is called by its path, however far the run came."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        _scene(ord(folder)).save(tmp_path / folder / "same.png")
    _scene(3).save(tmp_path / "b" / "third.png")
    finish, out = Work.finish, tmp_path / "out"

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        finish(*arguments)

    monkeypatch.setattr(Work, "finish", interrupted)
    for left in (["same.png", "third.png"], ["third.png"]):
        assert _detect(bundle, tmp_path / "a", tmp_path / "b", "--out", out, "--quiet") == 130
        assert [Path(one).name for one in _run(out)["not_looked_at"]] == left
        ids = {row["image_id"] for row in json.loads((out / "detections.json").read_text())}
        assert str(tmp_path / "a" / "same") in ids
        assert len(ids) == 3 - len(left)


def test_results_of_before_never_stay_beside_others(bundle, photos, tmp_path, monkeypatch):
    """Neither when a run with other settings is killed, nor when it writes no pictures; what others
    put there stays.
    """
    out = tmp_path / "out"
    assert _detect(bundle, photos, "--out", out) == 0
    _scene(5).save(out / "mine.jpg")
    _killed_after(monkeypatch, 1)
    with pytest.raises(Killed):
        _detect(bundle, photos, "--out", out, "--set", "max_detections=1")
    assert {one.name for one in out.glob("[!.]*")} == {"0.jpg", "mine.jpg"}
    assert _detect(bundle, photos, "--out", out) == 0
    assert len(list(out.glob("?.jpg"))) == 3
    assert _detect(bundle, photos / "0.png", "--out", out) == 0
    assert len(list(out.glob("?.jpg"))) == 3  # the same settings: nothing contradicts
    assert _detect(bundle, photos / "0.png", "--out", out, "--no-pictures") == 0
    assert {one.name for one in out.glob("*.jpg")} == {"1.jpg", "2.jpg", "mine.jpg"}
    assert _detect(bundle, photos, "--out", out, "--threshold", 0.1, "--no-pictures") == 0
    assert {one.name for one in out.glob("*.jpg")} == {"mine.jpg"}


@pytest.mark.parametrize(
    ("name", "start", "cure"),
    [
        ("missing.jpg", None, "check the path"),
        ("clip.mp4", b"\0\0\0\x20ftypisom", "ffmpeg"),
        ("film.jpg", b"\x1a\x45\xdf\xa3", "ffmpeg"),
        ("photos.zip", b"PK\3\4", "unpack it"),
        ("photos.tgz", b"\x1f\x8b\x08", "unpack it"),
        ("doc.pdf", b"%PDF-1.7", "pdftoppm"),
        ("photo.heic", b"\0\0\0\x18ftypheic", "save it as JPEG"),
        ("new.avif", b"\0\0\0\x1cftypavif", "save it as JPEG"),
        ("drawing.svg", b"<?xml version='1.0'?>\n<svg>", "save it as JPEG"),
        ("page.jpg", b"<!DOCTYPE html><html>", "download the image itself"),
        ("notes.jpg", b"these are no pixels", "expected JPEG"),
        ("empty.png", b"", "empty"),
    ],
)
def test_what_is_no_image_is_refused_before_anything_is_loaded(
    tmp_path, capsys, monkeypatch, name, start, cure
):

    monkeypatch.setattr(
        "detector.cli.detecting.loading.load", lambda *_, **__: pytest.fail("loaded")
    )
    monkeypatch.chdir(tmp_path)
    if start is not None:
        Path(name).write_bytes(start and start.ljust(2000, b"\x07"))
    assert _detect(tmp_path / "no bundle", name, "--json") == 3
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: {name}: ")
    assert cure in line
    assert not Path("out").exists()


def test_a_film_over_the_limit_is_a_film(tmp_path):
    from detector.errors import ImageError
    from detector.images.decoding import read_bytes

    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom" * 99)
    with pytest.raises(ImageError, match="a video"):
        read_bytes(tmp_path / "clip.mp4", max_bytes=100)


def test_other_files_of_a_folder_are_counted(bundle, photos, tmp_path, capsys):
    for name in ("a.txt", "b.TXT", "clip.mp4", "README", ".hidden"):
        (photos / name).write_text("other")
    assert _detect(bundle, photos, "--out", tmp_path / "out", "--no-pictures") == 0
    said = next(line for line in capsys.readouterr().err.splitlines() if "passed over" in line)
    assert said.startswith(f"note: {photos}: 4 other files (2 .txt, ")
    assert "1 .mp4" in said
    assert "1 without suffix" in said
    for path in photos.glob("*.png"):
        path.unlink()
    assert _detect(bundle, photos, "--out", tmp_path / "out") == 3
    assert "but 4 other files (2 .txt" in capsys.readouterr().err


def test_nothing_found_and_nothing_read_are_sentences(bundle, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert _detect(bundle, photos, "--out", out, "--threshold", 1) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "nothing found in 3 images with a score of 1.00 or more; a lower --threshold shows what is"
        " less certain"
    ]
    assert "detections.json (empty)" in said.err
    for path in photos.glob("*.png"):
        path.write_bytes(path.read_bytes()[:200])
    assert _detect(bundle, photos, "--out", tmp_path / "none") == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == "none of the images could be read; nothing was written"
    assert not (tmp_path / "none" / "run.json").exists()


def test_label_files_to_correct_are_a_data_set_of_the_same_boxes(bundle, photos, tmp_path, capsys):
    from detector.datasets import read_dataset

    out, formats = tmp_path / "out", ("yolo", "labelme", "label-studio")
    options = ("--out", out, "--format", ",".join(formats))
    assert _detect(bundle, photos, *options) == 0
    said = capsys.readouterr().err
    rows = json.loads((out / "detections.json").read_text())
    assert rows
    boxes = sorted([round(side, 1) for side in row["bbox"]] for row in rows)
    for name in formats:
        assert f"{out / name}/: label files of 3 images" in said
        samples = read_dataset(out / name).samples
        assert {one.path.resolve().parent for one in samples} == {photos}
        read = [box for one in samples for box in one.annotations.xywh.tolist()]
        assert sorted([round(side, 1) for side in box] for box in read) == boxes
    (out / "labelme" / "0.json").write_text("corrected")
    assert _detect(bundle, photos, *options) == 3
    assert (out / "labelme" / "0.json").read_text() == "corrected"


def test_an_unknown_format_of_label_files_names_the_known_ones(bundle, photos, tmp_path, capsys):
    assert _detect(bundle, photos, "--out", tmp_path / "out", "--format", "pdf") == 2
    assert "'pdf' is not known; choose among yolo, voc-xml, coco" in capsys.readouterr().err
