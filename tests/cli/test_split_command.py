"""`data split`: train and val, folds and halves of every layout, as their readers take them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import (
    coco_content,
    coco_image,
    coco_object,
    voc_object,
    voc_xml,
    write_coco,
    write_voc,
    write_yolo,
)
from PIL import Image

from detector.datasets import read_dataset

Run = Callable[..., tuple[Any, str, str]]


def draw(folder: Path, names: list[str]) -> None:
    """Pictures that no two of look alike."""
    for seed, name in enumerate(names):
        noise = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((100, 80), Image.Resampling.BICUBIC)
        picture.save(folder / name, quality=90)


def write_shots(root: Path, count: int = 10) -> list[str]:
    names = [f"shot {i}" for i in range(count)]
    write_voc(root, dict.fromkeys(names, voc_xml(voc_object("mug"))), split=None)
    draw(root / "JPEGImages", [f"{name}.jpg" for name in names])
    return names


def ids(root: Path, split: str) -> set[str]:
    return {one.image_id for one in read_dataset(root, split).samples}


def test_train_and_val_of_vocs_xml(command: Run, tmp_path: Path) -> None:
    names = write_shots(tmp_path)
    out = tmp_path / "ImageSets" / "Main"
    options = ("--data", tmp_path, "--val", 0.2, "--out", out, "--quiet")
    code, said, _ = command("data split", *options)
    hint = f"next: inception-rcnn train regions --data {tmp_path} --split train\n"
    assert (code, said) == (0, f"train: 8 images, 8 objects\nval: 2 images, 2 objects\n{hint}")
    assert ids(tmp_path, "train") | ids(tmp_path, "val") == set(names)
    assert not ids(tmp_path, "train") & ids(tmp_path, "val")
    before = (out / "val.txt").read_bytes()
    assert command("data split", *options, "--split", "train")[0] == 3  # a list that is there stays
    assert (out / "val.txt").read_bytes() == before


def test_near_duplicates_stay_on_one_side(command: Run, tmp_path: Path) -> None:
    write_shots(tmp_path, 12)
    for i in range(4):  # frames of one film
        with Image.open(tmp_path / "JPEGImages" / "shot 0.jpg") as first:
            first.save(tmp_path / "JPEGImages" / f"shot {i}.jpg", quality=60 + 10 * i)
    for seed in range(3):
        out = tmp_path / f"lists{seed}"
        options = ("--data", tmp_path, "--out", out, "--seed", seed, "--quiet")
        code, said, _ = command("data split", *options, "--val", 0.5)
        assert code == 0
        assert said.startswith("1 group of near-duplicates, 4 images in all, each kept on one side")
        film = {f"shot {i}" for i in range(4)}
        assert film & set((out / "val.txt").read_text().splitlines()) in (film, set())


def test_each_image_is_val_in_one_fold(command: Run, tmp_path: Path) -> None:
    names = write_shots(tmp_path, 7)
    out = tmp_path / "ImageSets" / "Main"
    assert command("data split", "--data", tmp_path, "--folds", 3, "--out", out, "--quiet")[0] == 0
    folds = [ids(tmp_path, f"fold{i}_val") for i in (1, 2, 3)]
    assert sorted(one for fold in folds for one in fold) == names
    for number, fold in enumerate(folds, start=1):
        assert ids(tmp_path, f"fold{number}_train") == set(names) - fold


def test_halves_of_names_with_blanks_are_read_again(command: Run, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    names = write_shots(root, 4)
    assert command("data split", "--data", root, "--out", root / "ImageSets" / "Main")[0] == 0
    assert ids(root, "mine1") | ids(root, "mine2") == set(names)
    assert len(ids(root, "mine1")) == 2


def test_coco_gets_a_file_a_part(command: Run, tmp_path: Path) -> None:
    images = [coco_image(i, f"{i}.jpg") for i in range(1, 6)]
    rows = [coco_object(i, image_id=i) for i in range(1, 6)]
    write_coco(tmp_path, {**coco_content(images, rows), "info": {"year": 1}}, "all.json")
    (tmp_path / "train").rename(tmp_path / "images")
    draw(tmp_path / "images", [f"{i}.jpg" for i in range(1, 6)])
    out = tmp_path / "annotations"
    code, _, error = command(
        "data split", "--data", tmp_path, "--val", 0.4, "--out", out, "--quiet"
    )
    assert (code, error) == (0, "")
    content = json.loads((out / "instances_val.json").read_text())
    assert len(content["images"]) == len(content["annotations"]) == 2
    assert content["info"] == {"year": 1}
    assert (len(ids(tmp_path, "train")), len(ids(tmp_path, "val"))) == (3, 2)


def test_yolo_gets_lists_of_images(command: Run, tmp_path: Path) -> None:
    names = [f"i{i}" for i in range(5)]
    path = write_yolo(tmp_path, dict.fromkeys(names, "0 0.5 0.5 0.2 0.5"))
    draw(tmp_path / "images" / "train", [f"{name}.jpg" for name in names])
    code, said, _ = command(
        "data split", "--data", path, "--val", 0.4, "--out", tmp_path, "--quiet"
    )
    assert code == 0
    assert f"in data.yaml: train: {tmp_path / 'train.txt'}, val: {tmp_path / 'val.txt'}" in said
    path.write_text("train: train.txt\nval: val.txt\nnames: [car, cat]\n")
    assert (len(ids(path, "train")), len(ids(path, "val"))) == (3, 2)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--val", 0.2, "--folds", 3), 2, "choose one"),
        (("--val", 1.5), 2, "a share between 0 and 1"),
        (("--val", 0.2, "--split", "train"), 3, "has no splits, so no 'train'"),
    ],
)
def test_mistakes(
    command: Run, tmp_path: Path, options: tuple[object, ...], code: int, said: str
) -> None:
    write_shots(tmp_path, 2)
    stopped, _, error = command(
        "data split", "--data", tmp_path, "--out", tmp_path / "out", *options
    )
    assert stopped == code
    assert said in " ".join(error.split())


def test_parts_go_where_their_reader_looks(command: Run, tmp_path: Path) -> None:
    """Without --out, and the next command is said."""
    write_shots(tmp_path)
    code, said, _ = command("data split", "--data", tmp_path, "--val", 0.2, "--quiet")
    assert code == 0
    assert f"next: inception-rcnn train regions --data {tmp_path} --split train" in said
    assert len(ids(tmp_path, "val")) == 2


def test_a_part_whose_images_are_not_found_is_told(command: Run, tmp_path: Path) -> None:
    names = write_shots(tmp_path / "all")
    images = [
        {"id": i, "file_name": f"{n}.jpg", "width": 100, "height": 80} for i, n in enumerate(names)
    ]
    rows = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in range(len(names))
    ]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "ball"}]}
    source = tmp_path / "all" / "JPEGImages" / "instances_all.json"
    source.write_text(json.dumps(content))
    given = ("--data", source, "--val", 0.2, "--quiet", "--no-near-duplicates")
    code, _, said = command(
        "data split", *given, "--out", tmp_path / "far" / "away" / "from" / "them"
    )
    assert code == 0
    assert "its reader finds 0 of 8 images; without --out" in said
    code, said, _ = command("data split", *given)
    assert code == 0
    assert f"--data {source.parent / 'instances_train.json'}" in said
