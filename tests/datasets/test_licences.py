"""What the weights say of the licence of the images that they learnt from."""

import json
from pathlib import Path

import pytest

from detector.datasets.licences import licence_of
from detector.training.regions.outputs import with_licences
from detector.training.regions.settings import RegionTrainingConfig

CONTENT = {
    "images": [], "annotations": [], "categories": [],
    "licenses": [
        {"id": 1, "name": "Attribution License", "url": "https://example.org"},
        {"id": 2, "name": "CC0"}, {"id": 3, "name": "CC0"}, {"id": 4, "name": " "}, {"id": 5},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "given", "split"),
    [
        ("mine.json", "mine.json", None),
        ("annotations/instances_train2017.json", ".", "train"),
        ("annotations/instances_train2017.json", ".", None),
        ("train/_annotations.coco.json", ".", "train"),
        ("train/_annotations.coco.json", "train/_annotations.coco.json", None),
    ],
)
def test_coco_names_its_licences(tmp_path: Path, file: str, given: str, split: str | None) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(CONTENT))
    assert licence_of(tmp_path / given, split) == "Attribution License, CC0"


def test_a_split_says_its_own(tmp_path: Path) -> None:
    for name, licence in (("train", "CC0"), ("val", "MIT")):
        content = {**CONTENT, "licenses": [{"name": licence}]}
        (tmp_path / f"instances_{name}.json").write_text(json.dumps(content))
    assert [licence_of(tmp_path, one) for one in ("train", "val", "test")] == ["CC0", "MIT", ""]
    for one in ("a", "b"):  # two folders of one name, each with its own
        (tmp_path / one / "images").mkdir(parents=True)
        (tmp_path / one / "images" / "LICENSE").write_text(f"Licence of {one}\n")
    data = [{"path": "a/images"}, {"path": "b/images"}, {"path": "instances_val.json"}]
    settings = RegionTrainingConfig.model_validate({"data": data})
    assert with_licences("not stated", settings, tmp_path) == (
        "not stated; images of images: Licence of a; images of images: Licence of b;"
        " images of instances_val.json: MIT"
    )


@pytest.mark.parametrize(
    "licenses", [None, [], {}, "CC0", [1, None], [["CC0"]], [{"name": 7}], [{"title": "CC0"}]]
)
def test_what_says_nothing_is_no_licence(tmp_path: Path, licenses: object) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({**CONTENT, "licenses": licenses}))
    assert licence_of(path) == ""
    path.write_text("[" * 100_000)
    assert licence_of(path) == ""
    assert licence_of(tmp_path / "missing") == ""
