"""What is not to be used: blacklisted pairs of image and class, and boxes beyond a cap."""

from pathlib import Path

import numpy as np
import pytest

from detector.datasets import Dataset, Sample
from detector.datasets.blacklist import read_blacklist, without_blacklisted
from detector.datasets.sources import cap_boxes
from detector.errors import AnnotationError, DatasetError, SettingsError
from detector.structures import Annotations

CLASSES = ("accordion", "airplane", "tv or monitor")
BOXES = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]


def sample(name: str, index: int | None = None, positives_only: bool = False) -> Sample:
    """One object of each class."""
    truth = Annotations(BOXES, [0, 1, 2])
    return Sample(name, Path(f"{name}.jpg"), (100, 100), truth, None, positives_only, index)


def test_a_line_is_an_image_index_and_a_wordnet_id_or_a_name(tmp_path: Path) -> None:
    path = tmp_path / "blacklist.txt"
    path.write_text("5 n02672831\n5 tv or monitor\n\n12 n02691156\n")
    assert read_blacklist(path) == {5: {"accordion", "tv or monitor"}, 12: {"airplane"}}


@pytest.mark.parametrize("line", ["n02672831 5", "5", "-1 n02672831"])
def test_another_line_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "blacklist.txt"
    path.write_text(f"1 n02672831\n{line}\n")
    with pytest.raises(AnnotationError, match="line 2: expected: image_index class"):
        read_blacklist(path)


def test_a_blacklisted_class_is_neither_annotated_nor_an_object_there() -> None:
    dataset = Dataset("toy", CLASSES, (sample("a", 5), sample("b", 12)))
    found = without_blacklisted(dataset, {5: {"accordion"}, 99: {"airplane"}})
    a, b = found.samples
    assert a.annotated == {1, 2}
    assert a.annotations.difficult.tolist() == [True, False, False]
    assert b == dataset.samples[1]  # 99 is an image of another part
    with pytest.raises(AnnotationError, match="'zebra' is not among the 3 classes"):
        without_blacklisted(dataset, {5: {"zebra"}})


def test_without_numbers_of_their_own_images_count_from_one() -> None:
    dataset = Dataset("toy", CLASSES, (sample("a"), sample("b")))
    found = without_blacklisted(dataset, {2: {"airplane"}})
    assert [one.annotated for one in found.samples] == [None, {0, 2}]


def test_two_images_of_one_number_are_refused() -> None:
    with pytest.raises(DatasetError, match="image index '5' occurs more than once"):
        Dataset("toy", CLASSES, (sample("a", 5), sample("b", 5))).indices()


def pluralise(dataset: Dataset) -> list[int]:
    real = [s.annotations.labels[~s.annotations.difficult] for s in dataset.samples]
    return np.bincount(np.concatenate(real), minlength=3).tolist()


def test_at_most_so_many_boxes_of_a_class_count_and_the_rest_are_set_aside() -> None:
    dataset = Dataset("toy", CLASSES, tuple(sample(str(i)) for i in range(10)))
    capped = cap_boxes(dataset, 4)
    assert pluralise(dataset) == [10, 10, 10]
    assert pluralise(capped) == [4, 4, 4]
    assert len(capped) == 10  # they still give background
    assert sum(len(one.annotations) for one in capped.samples) == 30  # and none inside an object
    assert capped.dropped_by_rule() == {"over-the-cap": 18}
    assert pluralise(cap_boxes(dataset, 10)) == [10, 10, 10]


def test_an_image_that_could_only_give_positives_goes_with_its_last_object() -> None:
    samples = tuple(sample(str(i), positives_only=True) for i in range(10))
    capped = cap_boxes(Dataset("toy", CLASSES, samples), 1)
    assert pluralise(capped) == [1, 1, 1]
    assert 1 <= len(capped) <= 3
    assert all((~one.annotations.difficult).any() for one in capped.samples)


def test_what_never_counted_takes_no_place_under_the_cap() -> None:
    truth = Annotations(BOXES, [0, 0, 0], difficult=[True, False, False])
    dataset = Dataset("toy", CLASSES, (Sample("a", Path("a.jpg"), None, truth),))
    assert pluralise(cap_boxes(dataset, 2)) == [2, 0, 0]
    assert cap_boxes(dataset, 2).dropped == ()


def test_the_choice_is_a_function_of_the_seed() -> None:
    dataset = Dataset("toy", CLASSES, tuple(sample(str(i)) for i in range(20)))

    def chosen(seed: int) -> list[list[bool]]:
        return [s.annotations.difficult.tolist() for s in cap_boxes(dataset, 5, seed).samples]

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    with pytest.raises(SettingsError, match="cap_per_class is 0"):
        cap_boxes(dataset, 0)
