"""What tools/train_multibox.py makes of what a data source says of its images."""

from pathlib import Path

import numpy as np
import pytest
from toy_regions import write_squares

from detector.datasets import Dataset
from detector.training.multibox.inputs import load_images
from detector.training.multibox.settings import MultiBoxTrainingConfig


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> Path:
    """Four images of one object each, green and red in turn."""
    return write_squares(tmp_path_factory.mktemp("toy") / "squares", images=4)


def images(path: Path, **said: object) -> Dataset:
    source = {"path": str(path), "split": "train", **said}
    config = MultiBoxTrainingConfig.model_validate({"data": [source]})
    return load_images(config, path)


def test_objects_over_a_cap_are_no_objects_and_their_images_teach_no_silence(squares):
    found = images(squares, cap_per_class=1)
    kept = [len(sample.annotations) for sample in found.samples]
    assert sorted(kept) == [0, 0, 1, 1]  # one of each class
    assert [one.annotated is None for one in found.samples] == [n == 1 for n in kept]
    assert found.dropped_by_rule() == {"over-the-cap": 2}
    others = [images(squares, cap_per_class=1, cap_seed=seed) for seed in range(1, 9)]
    assert any([len(s.annotations) for s in other.samples] != kept for other in others)


def test_blacklisted_objects_are_no_objects_and_other_difficult_ones_are(squares, tmp_path):
    (tmp_path / "blacklist.txt").write_text("1 green\n1 red\n3 green\n")
    path = squares / "Annotations" / "000003.xml"
    whole = path.read_text()
    path.write_text(whole.replace("</name>", "</name><difficult>1</difficult>", 1))
    try:
        found = images(squares, blacklist=str(tmp_path / "blacklist.txt"))
    finally:
        path.write_text(whole)
    assert [len(sample.annotations) for sample in found.samples] == [0, 1, 0, 1]
    assert found.samples[3].annotations.difficult.any()
    assert [one.annotated is None for one in found.samples] == [False, True, False, True]


def test_images_of_positives_only_teach_no_silence(squares):
    found = images(squares, positives_only=True)
    assert all(one.annotated is not None for one in found.samples)
    plain = images(squares)
    assert all(one.annotated is None for one in plain.samples)
    for one, other in zip(found.samples, plain.samples, strict=True):
        assert np.array_equal(one.annotations.boxes, other.annotations.boxes)


def test_what_makes_no_sense_is_refused(squares):
    with pytest.raises(ValueError, match="no classes to rename"):
        images(squares, rename="coco-to-voc")
