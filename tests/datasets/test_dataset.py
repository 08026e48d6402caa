"""The data set as a value: subsets, class lists, partial annotation, joining."""

from pathlib import Path

import numpy as np
import pytest

from detector.datasets import COCO_TO_VOC, VOC_CLASSES, Dataset, Dropped, Sample, join
from detector.errors import DatasetError
from detector.structures import Annotations


def sample(identifier: str, *labels: int, annotated: frozenset[int] | None = None) -> Sample:
    boxes = [[i, 0, i + 10, 10] for i in range(len(labels))]
    return Sample(
        identifier, Path(f"{identifier}.jpg"), (50, 50), Annotations(boxes, labels), annotated
    )


def dataset(n: int = 10, name: str = "toy") -> Dataset:
    return Dataset(name, ("cat", "dog", "cow"), tuple(sample(str(i), i % 3) for i in range(n)))


def test_a_subset_is_evenly_spaced_and_always_the_same() -> None:
    ids = [one.image_id for one in dataset().subset(4).samples]
    assert ids == ["0", "2", "5", "7"]
    assert len(dataset().subset(99)) == 10


def test_a_subset_by_ids_keeps_the_order_of_the_set() -> None:
    assert [one.image_id for one in dataset().subset(["7", "2"]).samples] == ["2", "7"]
    with pytest.raises(DatasetError, match="no image zebra"):
        dataset().subset(["zebra", "2"])
    with pytest.raises(DatasetError, match="at least 1"):
        dataset().subset(0)


def test_another_class_list_keeps_its_objects_only() -> None:
    one = Dataset("toy", ("cat", "dog", "cow"), (sample("a", 0, 1, 2, 1),))
    two = one.with_classes(("dog", "cat"))
    assert two.classes == ("dog", "cat")
    assert two.samples[0].annotations.labels.tolist() == [1, 0, 0]
    assert two.samples[0].annotations.boxes[:, 0].tolist() == [0, 1, 3]
    assert two.samples[0].annotated is None
    assert two.category_ids == (1, 2)


def test_coco_names_become_vocs() -> None:
    one = Dataset("coco", ("airplane", "truck", "tv"), (sample("a", 0, 1, 2),))
    two = one.with_classes(VOC_CLASSES, COCO_TO_VOC)
    assert two.samples[0].annotations.labels.tolist() == [0, 19]
    assert two.samples[0].annotated == frozenset({0, 19})  # the other 18 are not annotated there


def test_a_class_that_the_set_does_not_know_is_not_annotated_in_it() -> None:
    two = dataset(1).with_classes(("cat", "zebra", "dog", "cow"))
    assert two.samples[0].annotated == frozenset({0, 2, 3})
    assert two.samples[0].is_annotated(0)
    assert not two.samples[0].is_annotated(1)


def test_two_classes_may_become_one() -> None:
    one = Dataset("toy", ("cat", "kitten", "dog"), (sample("a", 0, 1, 2),))
    two = one.with_classes(("cat", "dog"), {"kitten": "cat"})
    assert two.samples[0].annotations.labels.tolist() == [0, 0, 1]
    cats_only = one.partial(["cat", "dog"]).with_classes(("cat", "dog"), {"kitten": "cat"})
    assert cats_only.samples[0].annotated == frozenset({1})  # kittens were left unboxed


def test_no_common_class_is_an_error() -> None:
    with pytest.raises(DatasetError, match="none of its classes"):
        dataset().with_classes(("zebra",))


def test_partial_annotation_names_the_classes_that_are_complete() -> None:
    two = dataset(2).partial(["dog"])
    assert [one.annotated for one in two.samples] == [frozenset({1})] * 2
    assert two.with_classes(("cow", "dog")).samples[0].annotated == frozenset({1})
    assert two.partial(["dog", "cat"]).samples[0].annotated == frozenset({1}), "cat is not known"
    with pytest.raises(DatasetError, match="no class zebra"):
        dataset().partial(["zebra"])


def test_joined_sets_have_unique_ids() -> None:
    both = join([dataset(2, "one"), dataset(3, "two")])
    ids = [one.image_id for one in both.samples]
    assert ids == ["one/0", "one/1", "two/0", "two/1", "2"]  # only the ids that clash are changed
    assert both.name == "one+two"
    twice = join([dataset(1), dataset(1)])
    assert [one.image_id for one in twice.samples] == ["toy.0/0", "toy.1/0"]


def test_only_sets_with_one_class_list_can_be_joined() -> None:
    with pytest.raises(DatasetError, match="with_classes"):
        join([dataset(), dataset().with_classes(("cat",))])
    with pytest.raises(DatasetError, match="no data sets"):
        join([])


def test_what_was_left_out_is_counted() -> None:
    dropped = (
        Dropped("a.xml", "object 1", "degenerate", "no area"),
        Dropped("a.xml", "object 2", "degenerate", "no area"),
        Dropped("b.xml", "object 1", "outside", "far away"),
    )
    one = Dataset("toy", ("cat",), (sample("a", 0),), dropped)
    assert one.dropped_by_rule() == {"degenerate": 2, "outside": 1}
    assert one.dropped_by_file() == ["2 x degenerate in a.xml", "1 x outside in b.xml"]
    assert join([one, Dataset("more", ("cat",), ())]).dropped == dropped


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dataset("toy", ("cat", "cat"), ()), "class 'cat' occurs more than once"),
        (lambda: Dataset("toy", ("cat",), (sample("a"), sample("a"))), "image id 'a'"),
        (lambda: Dataset("toy", ("cat",), (sample("a", 1),)), "has label 1, but there are 1"),
        (lambda: Dataset("toy", ("cat",), (), (), (1, 2)), "2 category ids"),
        (lambda: Dataset("toy", ("cat",), ()).not_empty(), "no usable image"),
    ],
)
def test_a_data_set_that_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        make()  # type: ignore[operator]


def test_an_outlines_area_goes_where_its_object_goes() -> None:
    truth = Annotations([[0, 0, 10, 10], [0, 0, 5, 4]], [0, 1], areas=[70.0, 11.0])
    one = Dataset("toy", ("cat", "dog"), (Sample("a", Path("a"), None, truth),))
    assert one.with_classes(("dog",)).samples[0].annotations.areas.tolist() == [11.0]
    assert Annotations([[0, 0, 5, 4]], [0]).areas.tolist() == [20.0]
    assert np.asarray(Annotations.empty().areas).shape == (0,)
