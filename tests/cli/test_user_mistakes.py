"""What people get wrong with each tool: a few lines that name it and the cure, and no traceback."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from toy_regions import write_config, write_squares

from detector.detection.load import SHIPPED

Run = Callable[..., tuple[Any, str, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a mistake needs."""
    home = tmp_path_factory.mktemp("mistakes")
    write_squares(home / "voc", images=2)
    (home / "voc" / "ImageSets" / "Main" / "val.txt").write_text("000001\n")
    write_config(home / "voc")
    Image.new("RGB", (40, 30)).save(home / "a.jpg")
    for folder in ("empty", "cut-bundle", "other-run", "images"):
        (home / folder).mkdir()
    (home / "cut-bundle" / "bundle.json").write_bytes((SHIPPED / "bundle.json").read_bytes())
    (home / "text.jpg").write_text("not a photograph")
    (home / "file.txt").write_text("some text, and more than a hundred bytes of it " * 3)
    (home / "list.json").write_text("[1, 2]")
    (home / "words.yaml").write_text("just words")
    (home / "no-names.yaml").write_text("train: images\n")
    (home / "no-split.yaml").write_text("names: [cat]\n")
    (home / "object.json").write_text("{}")
    row = {"image_id": "x", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (home / "others.json").write_text(json.dumps([row]))
    (home / "full.pth").write_bytes(pickle.dumps({"model": object()}))
    torch.save({"fc.weight": torch.zeros(2, 2)}, home / "small.pth")
    checkpoint_of_other_settings(home / "other-run")
    return home


def checkpoint_of_other_settings(folder: Path) -> None:
    from detector.training.engine.checkpoint import Checkpoint, save_checkpoint

    save_checkpoint(folder, Checkpoint(1, "0" * 16, {"model": {"a": torch.zeros(1)}}))


EVALUATE = "evaluate detections --data voc --split val"
TRAIN = "train regions --config voc/config.yaml --device cpu --quiet --set run.cache=cache.sqlite"

# command; what the message must hold: the file or option, and the cure
MISTAKES: list[tuple[str, ...]] = [
    # detect
    ("detect nothing.jpg --quiet", "nothing.jpg", "check the path"),
    ("detect text.jpg --quiet", "text.jpg", "expected JPEG, PNG"),
    ("detect empty", "empty", "expected .jpg or .png"),
    ("detect", "images", "--help"),
    ("detect a.jpg --threshhold 0.3", "--threshhold", "--threshold"),
    ("detect a.jpg --threshold 1.5", "threshold", "1"),
    ("detect a.jpg --threshold high", "--threshold", "valid"),
    ("detect a.jpg --set batch_size=0", "batch_size", "1"),
    ("detect a.jpg --out file.txt", "--out file.txt", "give a folder"),
    ("detect a.jpg --weights empty", "empty", "give the folder of a saved bundle"),
    ("detect a.jpg --weights file.txt", "file.txt", "give the folder of a saved bundle"),
    ("detect a.jpg --weights cut-bundle", "cut-bundle", "copy it again"),
    ("detect a.jpg --device cuda:77", "device cuda:77", "try auto or cpu"),
    ("detect a.jpg --device gpu", "device gpu", "try auto or cpu"),
    ("detect a.jpg --ensemble many", "--ensemble many", "a number of members, or all"),
    ("detect a.jpg --proposals none.sqlite", "none.sqlite", "inception-rcnn propose run"),
    ("detect a.jpg --proposals opencvv", "opencvv", "choose selective-search"),
    ("detect a.jpg --set precision=float8", "float8", "float32"),
    # evaluate
    ("evaluate detections --data nowhere", "nowhere", "no such file or folder"),
    ("evaluate detections --data empty", "empty", "looked for Annotations/*.xml"),
    ("evaluate detections --data file.txt", "file.txt", "expected COCO's .json"),
    ("evaluate detections --data voc", "voc", "name a split", "train, val"),
    ("evaluate detections --data voc --split test", "'test'", "train, val"),
    (f"{EVALUATE} --protocol voc10", "voc10", "voc12"),
    (
        "evaluate detections --data voc --split val --classes mine",
        "--classes",
        "own, voc or weights",
    ),
    (f"{EVALUATE} --set images=0", "images", "1"),
    (f"{EVALUATE} --set rounds=-3", "rounds", "0"),
    (
        "evaluate detections --data voc --split val --detections others.json",
        "others.json",
        "choose the data",
    ),
    (
        "evaluate detections --data voc --split val --detections object.json",
        "object.json",
        "expected COCO's",
    ),
    (
        "evaluate detections --data voc --split val --detections none.json",
        "none.json",
        "No such file",
    ),
    (
        "evaluate detections --data voc --split val --detections a --weights b",
        "--weights",
        "only one",
    ),
    (
        "evaluate detections --data voc --split val --quiet",
        "2 classes, the weights 20",
        "--classes voc",
    ),
    ("evaluate detections --data list.json", "list.json", "expected COCO's instances layout"),
    ("evaluate detections --data words.yaml", "words.yaml", "names, train and val"),
    ("evaluate detections --data no-names.yaml", "no-names.yaml", "names must list the classes"),
    ("evaluate detections --data no-split.yaml", "no-split.yaml", "no split"),
    # train_regions
    ("train regions --out run", "--data FOLDER", "--config"),
    ("train regions --out run --config none.yaml", "none.yaml", "cannot be read"),
    ("train regions --out run --config words.yaml", "words.yaml", "settings by name"),
    ("train regions --data voc --split train", "--out", "--help"),
    (f"{TRAIN} --out run --set optimiser.stepz=3", "optimiser.stepz", "known: method"),
    (f"{TRAIN} --out run --set optimiser.steps=-5", "optimiser.steps", "greater than"),
    (f"{TRAIN} --out run --set steps", "--set steps", "NAME=VALUE"),
    (f"{TRAIN} --out run --set data.path=1", "data.path", "--set"),
    (f"{TRAIN} --out file.txt", "file.txt", "folder"),
    (f"{TRAIN} --out run --start none.pth", "none.pth", "give the path"),
    (f"{TRAIN} --out run --start full.pth", "full.pth", "state_dict"),
    (f"{TRAIN} --out run --start small.pth", "small.pth", "expected BVLC, torchvision or our own"),
    (f"{TRAIN} --out run --set member.architecture=gogglenet", "gogglenet", "googlenet"),
    (f"{TRAIN} --out other-run", "other-run", "another --out"),
    # the others
    ("train classifier --out run", "--data", "--config"),
    ("train classifier --out run --data voc --recipe gogglenet", "gogglenet", "googlenet"),
    ("evaluate classifier --data empty --weights small.pth --crops 3", "--crops", "1, 10, 144"),
    ("evaluate classifier --data nowhere --weights small.pth", "small.pth", "--set architecture"),
    ("propose evaluate --data voc --split val --budgets ten", "--budgets ten", "numbers"),
    ("propose evaluate --data voc --split val --engine none.sqlite", "none.sqlite", "a cache file"),
    ("propose run a.jpg --set prset=fast", "prset", "preset"),
    ("propose run a.jpg --set preset", "--set preset", "NAME=VALUE"),
    ("propose run a.jpg --engine opencvv", "opencvv", "selective-search"),
    ("propose run a.jpg --superpixel-scale -2", "superpixel_scale", "greater"),
    ("propose run a.jpg --out file.txt --quiet", "file.txt", "proposal cache"),
    ("propose run a.jpg --out empty --quiet", "empty", "proposal cache"),
    ("fit int8 empty a.jpg", "empty", "give the folder of a saved bundle"),
    ("fit int8 cut-bundle a.jpg --crops 2", "--crops", "16"),
    ("fit heads --data voc --split train --add unicorn --out run", "unicorn", "green"),
    ("fit ranking --data nowhere", "nowhere", "no such file or folder"),
    ("data check nowhere", "nowhere", "no such file or folder"),
    ("data check voc --format xml", "--format xml", "voc, coco, yolo"),
    ("data check voc --images nowhere", "--images nowhere", "folder"),
    ("data check voc --images images", "voc is voc", "leave --images out"),
    ("data check others.json --classes cat", "others.json is coco", "leave --classes out"),
    ("doctor --jsn", "--jsn", "--json"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one[0])
def test_a_mistake_is_told_in_three_lines(
    mistake: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    words, *said = mistake
    monkeypatch.chdir(home)
    code, _, err = command(words)
    assert code in (2, 3), err
    assert 1 <= len(err.splitlines()) <= 3, err
    assert "internal error" not in err
    assert "Traceback" not in err
    for text in said:
        assert text in err, err


def test_more_members_than_there_are_is_an_error_of_usage(home, monkeypatch, command):
    monkeypatch.chdir(home)
    code, _, err = command("detect a.jpg --ensemble 9")
    assert (code, "9 of its members were asked for; it has 3" in err) == (2, True)


@pytest.mark.parametrize("words", [
    f"{EVALUATE} --detections none-found.json --set rounds=0 --out sealed/out",
    "data check voc --fast --quiet --out sealed/lint.json",
])  # fmt: skip
def test_a_folder_that_cannot_be_written(
    words: str, home: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    """Whoever runs the tests may be allowed to write anywhere, so the system's answer is given."""
    (home / "none-found.json").write_text("[]")
    (home / "sealed").mkdir(exist_ok=True)
    monkeypatch.chdir(home)
    real_mkdir, real_open = os.mkdir, os.open

    def refuse(real):
        def call(path, *more, **named):
            if "sealed" in str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *more, **named)

        return call

    monkeypatch.setattr(os, "mkdir", refuse(real_mkdir))
    monkeypatch.setattr(os, "open", refuse(real_open))
    code, _, said = command(words)
    assert code == 3
    assert "sealed" in said
    assert "Permission denied" in said
    assert len(said.splitlines()) == 1
