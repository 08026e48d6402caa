"""`data convert` and `evaluate detections` on every layout; `data split` on a small ILSVRC."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dataset_files import voc_object, voc_xml, write_ilsvrc, write_voc

Run = Callable[..., tuple[Any, str, str]]
ACCORDION, ANT, BOX = "n02672831", "n02219486", (10, 20, 29, 39)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three images with a cat at 11..30, 21..40 in VOC's numbers."""
    return write_voc(tmp_path / "voc", dict.fromkeys("abc", voc_xml(voc_object("cat"))), "val")


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """The cats of a and b."""
    rows = [
        {"image_id": one, "category_name": "cat", "bbox": [10, 20, 20, 20], "score": score}
        for one, score in (("a", 0.9), ("b", 0.7))
    ]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("layout", ["voc", "ilsvrc", "csv"])
def test_results_go_out_come_back_and_are_judged_alike(
    command: Run, voc: Path, found: Path, tmp_path: Path, layout: str
) -> None:
    out = tmp_path / "new" / {"voc": "results", "ilsvrc": "a.txt", "csv": "a.csv"}[layout]
    data = ("--data", voc, "--split", "val")
    code, said, _ = command("data convert", found, *data, "--to", layout, "--out", out)
    assert (code, said) == (0, f"wrote {out}: 2 detections in 2 images ({layout})\n")
    back = tmp_path / "back.json"
    assert command("data convert", out, *data, "--to", "coco", "--out", back)[0] == 0
    assert [row["bbox"] for row in json.loads(back.read_text())] == [[10, 20, 20, 20]] * 2
    options = ("--set", "rounds=0", "--out", tmp_path / "out")
    for path in (found, out, back):
        assert (
            "mAP 66.7" in command("evaluate detections", *data, "--detections", path, *options)[1]
        )


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--to", "xml"], 2, "choose one of coco, voc, ilsvrc, csv, yolo, voc-xml"),
        (["--to", "csv", "--classes", "imagenet"], 2, "own or voc"),
        (["--to", "csv", "--split", "test"], 3, "it has: val"),
    ],
)
def test_mistakes_write_nothing(
    command: Run, voc: Path, found: Path, tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    out = tmp_path / "new" / "a.csv"
    stopped, said, err = command("data convert", found, "--data", voc, "--out", out, *options)
    assert (stopped, said) == (code, "")
    assert words in err
    assert not out.exists()


def test_the_class_list_of_voc_may_be_asked_for(
    command: Run, voc: Path, found: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    command("data convert", found, "--data", voc, "--to", "voc", "--out", out, "--classes", "voc")
    assert len(list(out.glob("comp3_det_val_*.txt"))) == 20


@pytest.fixture
def ilsvrc(tmp_path: Path) -> Path:
    """Four images with an accordion each, two with an ant besides."""
    ant = (ANT, (60, 40, 79, 59))
    images = {f"v{i}": [(ACCORDION, BOX), *[ant] * (i % 2)] for i in range(4)}
    return write_ilsvrc(tmp_path / "ILSVRC", images)


def test_ilsvrcs_lines_are_judged_with_its_blacklist_and_a_cap(
    command: Run, ilsvrc: Path, tmp_path: Path
) -> None:
    path, blacklist = tmp_path / "lines.txt", tmp_path / "blacklist.txt"
    # Accordions of images 1 to 3, a false alarm in image 4 that comes last; no ant.
    path.write_text(
        "".join(f"{i} 1 0.{9 - i} 10 20 29 39\n" for i in (1, 2, 3)) + "4 1 0.1 80 0 99 9\n"
    )
    blacklist.write_text(f"2 {ANT}\n4 {ANT}\n4 {ACCORDION}\n")
    options = ("--data", ilsvrc, "--detections", path, "--protocol", "ilsvrc", "--set", "rounds=0")
    options = (*options, "--split", "val", "--out", tmp_path / "out")
    for given, points in (
        ((), 37.5),  # .75 and 0
        (("--set", f"blacklist={blacklist}"), 100.0),
        (("--set", "per_class=2"), 25.0),  # .5 and 0
    ):
        assert f"mAP {points} (ilsvrc)" in command("evaluate detections", *options, *given)[1]


def test_an_engine_that_does_not_exist_is_a_usage_error(
    command: Run, voc: Path, found: Path, tmp_path: Path
) -> None:
    options = ("--data", voc, "--detections", found, "--set", "coco_engine=slow")
    code, said, err = command("evaluate detections", *options, "--out", tmp_path / "out")
    assert (code, said) == (2, "")
    assert "coco_engine: Input should be 'pycocotools' or 'fast'" in err


def test_two_lists_are_written_and_their_balance_is_said(
    command: Run, ilsvrc: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lists"
    code, said, _ = command("data split", "--data", ilsvrc, "--split", "val", "--out", out)
    assert code == 0
    assert said == (
        "2 and 2 images of ILSVRC/val\n"
        "relative imbalance of a class: at most 0.0 % (accordion), median 0.0 %\n"
    )
    lines = [(out / f"val{half}.txt").read_text().splitlines() for half in (1, 2)]
    assert sorted(lines[0] + lines[1]) == ["v0 1", "v1 2", "v2 3", "v3 4"]
    assert sorted(map(len, lines)) == [2, 2]


def test_rows_that_the_set_lacks_are_left_out_with_a_line(
    command: Run, voc: Path, found: Path, tmp_path: Path
) -> None:
    rows = json.loads(found.read_text())
    found.write_text(json.dumps([*rows, {**rows[0], "image_id": "z"}]))
    out = tmp_path / "a.csv"
    code, said, err = command(
        "data convert", found, "--data", voc, "--split", "val", "--to", "csv", "--out", out
    )
    assert (code, "2 detections in 2 images" in said) == (0, True)
    assert err == f"left out: {found}: 1 detection is of an image that voc/val does not have: 'z'\n"


def test_detections_become_label_files_which_are_a_data_set(
    command: Run, voc: Path, found: Path, tmp_path: Path
) -> None:
    from detector.datasets import read_dataset

    out = tmp_path / "labels"
    words = (
        "data convert",
        found,
        "--data",
        voc,
        "--split",
        "val",
        "--to",
        "labelme",
        "--out",
        out,
    )
    assert command(*words)[:2] == (0, f"wrote {out}: 2 detections in 2 images (labelme)\n")
    assert [len(one.annotations) for one in read_dataset(out).samples] == [1, 1, 0]
    code, _, err = command(*words)
    assert (code, "perhaps with corrected labels" in err) == (3, True)


def test_a_labelling_tools_files_are_split_into_cocos(
    command: Run, voc: Path, found: Path, tmp_path: Path
) -> None:
    from detector.datasets import read_dataset

    out = tmp_path / "labels"
    command("data convert", found, "--data", voc, "--split", "val", "--to", "labelme", "--out", out)
    path = out / "b.json"
    content = json.loads(path.read_text())
    content["shapes"].append({**content["shapes"][0], "shape_type": "circle"})
    path.write_text(json.dumps(content))
    split = ("data split", "--data", out, "--val", "0.4", "--no-near-duplicates", "--out", out)
    assert command(*split)[0] == 0
    parts = [read_dataset(out, name) for name in ("train", "val")]
    assert sorted(one.image_id for part in parts for one in part.samples) == ["a", "b", "c"]
    boxes = {one.image_id: one.annotations.boxes.tolist() for p in parts for one in p.samples}
    assert boxes == {"a": [[10, 20, 30, 40]], "b": [[10, 20, 30, 40]], "c": []}
    # The circle is an object somewhere, in the parts as in the whole.
    alone = {one.image_id for part in parts for one in part.samples if one.positives_only}
    assert alone == {"b"}
