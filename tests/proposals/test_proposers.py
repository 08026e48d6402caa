"""The seam of the proposers: ranks, unions, the whole image, and OpenCV made reproducible."""

import numpy as np
import pytest

from detector.errors import ImageError, SettingsError
from detector.proposals.engines import build_engine
from detector.proposals.merge import proposals_in_order, union
from detector.proposals.opencv import OpenCVSelectiveSearch
from detector.structures import Array, Proposals


def _scene(height: int = 120, width: int = 160) -> Array:
    rng = np.random.default_rng(4)
    image = np.full((height, width, 3), (90, 140, 200), np.uint8)
    for _ in range(12):
        y, x = rng.integers(0, height - 30), rng.integers(0, width - 30)
        image[y : y + rng.integers(20, 60), x : x + rng.integers(20, 60)] = rng.integers(0, 256, 3)
    return image


def test_the_whole_image_is_always_proposed_and_never_twice():
    found = proposals_in_order(np.array([[5, 5, 20, 20], [0, 0, 40, 30]]), (30, 40))
    assert found.boxes.tolist() == [[5, 5, 20, 20], [0, 0, 40, 30]]
    assert proposals_in_order(np.zeros((0, 4)), (30, 40)).boxes.tolist() == [[0, 0, 40, 30]]


def test_a_limit_keeps_the_whole_image():
    boxes = np.array([[5, 5, 20, 20], [6, 6, 25, 25], [0, 0, 40, 30]])
    assert proposals_in_order(boxes, (30, 40), 2).boxes.tolist() == [[5, 5, 20, 20], [0, 0, 40, 30]]


def test_boxes_are_clipped_and_slivers_dropped():
    found = proposals_in_order(
        np.array([[-5, -5, 10, 10], [38, 0, 80, 30], [39.5, 0, 80, 30]]), (30, 40)
    )
    assert found.boxes.tolist() == [[0, 0, 40, 30], [0, 0, 10, 10], [38, 0, 40, 30]]


def test_a_union_interleaves_ranks_and_drops_repetitions():
    def one(image: Array) -> Proposals:
        return Proposals([[0, 0, 40, 30], [1, 1, 9, 9], [2, 2, 9, 9]], (30, 40))

    def other(image: Array) -> Proposals:
        return Proposals([[3, 3, 9, 9], [1, 1, 9, 9], [0, 0, 40, 30]], (30, 40))

    found = union(one, other)(np.zeros((30, 40, 3), np.uint8))
    assert found.boxes[:, 0].tolist() == [0, 3, 1, 2]


def test_opencv_gives_the_same_bytes_again_and_again():
    propose = OpenCVSelectiveSearch(longest_side=None)
    first = propose(_scene())
    for _ in range(3):
        assert (propose(_scene()).boxes == first.boxes).all()
    assert len(first) > 3


def test_opencv_is_ranked_large_first_but_mixed():
    boxes = OpenCVSelectiveSearch(longest_side=None, superpixel_scale=1.0)(_scene()).boxes
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    half = len(areas) // 2
    assert np.median(areas[:half]) > np.median(areas[half:])
    assert (np.diff(areas) > 0).any()


def test_doubled_superpixels_give_fewer_boxes():
    usual = OpenCVSelectiveSearch(superpixel_scale=1.0)(_scene(300, 400))
    doubled = OpenCVSelectiveSearch(superpixel_scale=2.0)(_scene(300, 400))
    assert len(doubled) < len(usual)


def test_boxes_of_a_large_image_are_in_its_own_pixels():
    image = _scene().repeat(6, 0).repeat(6, 1)
    boxes = OpenCVSelectiveSearch()(image).boxes
    assert boxes[:, 2].max() == 960
    assert boxes[:, 3].max() == 720


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 3), (60, 60), (300, 5)])
def test_odd_images_are_processed(shape):
    found = OpenCVSelectiveSearch()(np.full((*shape, 3), 7, np.uint8))
    assert found.boxes[0].tolist() == [0, 0, shape[1], shape[0]]


def test_settings_out_of_range_are_typed_errors():
    with pytest.raises(SettingsError, match="known: engine"):
        OpenCVSelectiveSearch(superpixels=2)
    with pytest.raises(SettingsError, match="superpixel_scale"):
        OpenCVSelectiveSearch(superpixel_scale=0)


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("selective-search", {"threads": "two"}),
        ("multibox", {"threads": "two"}),
        ("multibox", {"weights": 3}),
        ("multibox", {"device": "abacus"}),
        ("both", {"weights": 3}),
    ],
)
def test_settings_of_another_type_are_typed_errors(engine: str, options: dict[str, object]):
    with pytest.raises(SettingsError, match=str(*options.values())):
        build_engine(engine, options)


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)])
def test_other_arrays_are_refused(image):
    with pytest.raises(ImageError, match="uint8"):
        OpenCVSelectiveSearch()(image)
