"""Views of images: what is in them and where, and that chance is a function of the seed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.datasets import Dataset, Sample
from detector.structures import Annotations
from detector.training.augment import AugmentSettings
from detector.training.classifier.patch_batches import Stream
from detector.training.classifier.patches import PatchSettings
from detector.training.multibox.examples import DrawnExamples, FixedViews, ViewBankSettings
from detector.training.multibox.views import Views, ViewSettings, draw_view, whole_view

STILL = AugmentSettings(brightness=0, contrast=0, saturation=0, colour_shift=0)
NOTHING = np.zeros((0, 4))


def test_the_mirror_image_has_mirrored_boxes():
    box = np.array([[0.1, 0.2, 0.4, 0.9]])
    assert whole_view(box).boxes.tolist() == box.tolist()
    assert whole_view(box, mirror=True).boxes[0].tolist() == pytest.approx([0.6, 0.2, 0.9, 0.9])


@pytest.mark.parametrize("seed", range(30))
def test_a_view_shows_most_of_an_object_and_only_objects_that_it_shows(seed):
    boxes = np.array([[0.0, 0.0, 0.2, 0.2], [0.7, 0.7, 1.0, 1.0]])
    settings = ViewSettings(min_area=0.3, max_area=0.6)
    view = draw_view(boxes, (100, 120), settings, np.random.default_rng(seed))
    low, high = np.maximum(boxes[:, :2], view.window[:2]), np.minimum(boxes[:, 2:], view.window[2:])
    share = np.clip(high - low, 0, None).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
    assert share.max() >= 0.7
    assert len(view.boxes) == (share >= 0.5).sum()
    assert ((view.boxes >= 0) & (view.boxes <= 1)).all()


def test_a_box_in_a_view_is_where_its_pixels_are():
    boxes = np.array([[0.25, 0.25, 0.75, 0.75]])
    for seed in range(10):
        settings = ViewSettings(min_object_covered=1.0)
        view = draw_view(boxes, (200, 200), settings, np.random.default_rng(seed))
        box = view.boxes[0].copy()
        if view.mirror:
            box[[0, 2]] = 1 - box[[2, 0]]
        sides = (view.window[2:] - view.window[:2])[[0, 1, 0, 1]]
        back = view.window[[0, 1, 0, 1]] + box * sides
        assert back == pytest.approx(boxes[0])


def test_an_object_that_no_part_can_cover_gives_the_whole_image():
    settings = ViewSettings(min_area=0.1, max_area=0.1, min_object_covered=1.0)
    view = draw_view(np.array([[0, 0, 1, 1]]), (50, 50), settings, np.random.default_rng(0))
    assert view.window.tolist() == [0, 0, 1, 1]


def test_an_image_without_objects_has_views_without_boxes():
    view = draw_view(NOTHING, (50, 50), ViewSettings(), np.random.default_rng(0))
    assert view.boxes.shape == (0, 4)
    assert whole_view(NOTHING, mirror=True).boxes.shape == (0, 4)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A white square at the left edge, its mirror image, one partly annotated, one broken."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, :32] = 255
    samples = []
    objects = Annotations(np.array([[0, 16, 32, 48]]), np.array([0]))
    for number, annotated in enumerate([None, frozenset({0}), None]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        samples.append(Sample(str(number), path, (64, 64), objects, annotated))
    (tmp_path / "2.png").write_bytes(b"no image")
    return Dataset("three", ("object", "other"), tuple(samples))


def test_the_fixed_views_of_an_image_begin_with_itself_and_its_mirror_image(dataset):
    views = Views(dataset, 64, ViewSettings(), STILL, seed=0)
    fixed = FixedViews.of(views, ViewBankSettings(views_per_image=3, partial_views=1))
    assert fixed.counts.tolist() == [3, 1, 0]  # the third cannot be read
    assert fixed.image.tolist() == [0, 0, 0, 1]
    assert fixed.number.tolist() == [0, 1, 2, 0]
    assert [path.name for path in views.broken] == ["2.png"]
    crops = fixed.crops(0)
    assert torch.equal(crops[1], crops[0].flip(-1))
    assert crops[0, 0, 32, 10] - crops[0, 0, 32, 50] == pytest.approx(1, abs=1e-3)
    assert fixed.boxes(0)[0].tolist() == [0, 0.25, 0.5, 0.75]
    assert fixed.boxes(1)[0].tolist() == [0.5, 0.25, 1, 0.75]


def test_kept_views_belong_to_their_images_and_the_boxes_of_each(dataset):
    def digest(*boxes: list[list[int]]) -> str:
        samples = [
            replace(one, annotations=Annotations(np.array(b).reshape(-1, 4), np.zeros(len(b), int)))
            for one, b in zip(dataset.samples, boxes, strict=True)
        ]
        views = Views(replace(dataset, samples=tuple(samples)), 64, ViewSettings(), STILL, seed=0)
        return FixedViews.of(views, ViewBankSettings()).digest()

    one, other = [0, 16, 32, 48], [8, 8, 40, 40]
    of_the_first = digest([one, other], [], [])
    assert of_the_first == digest([one, other], [], [])
    assert of_the_first != digest([one], [other], [])
    assert of_the_first != digest([one, one], [], [])
    shutil.copy(dataset.samples[2].path, dataset.samples[1].path)
    broken = digest([one, other], [], [])
    Image.new("RGB", (64, 64)).save(dataset.samples[1].path)
    assert len({of_the_first, broken, digest([one, other], [], [])}) == 3
    dataset.samples[2].path.unlink()
    assert digest([one, other], [], []) == digest([one, other], [], [])


def test_without_flip_the_same_views_are_never_mirrored(dataset):
    mirrored = Views(dataset, 64, ViewSettings(whole_share=0.3), AugmentSettings(), seed=0)
    plain = Views(dataset, 64, mirrored.settings, AugmentSettings(flip=False), seed=0)
    for number in range(20):
        for ours, theirs in (
            (plain.kept(0, number), mirrored.kept(0, number)),
            (plain.drawn(0, number), mirrored.drawn(0, number)),
        ):
            assert ours.window.tolist() == theirs.window.tolist()
            assert not ours.mirror
    assert any(mirrored.drawn(0, number).mirror for number in range(20))


@pytest.mark.parametrize("kind", [PatchSettings, ViewSettings])
@pytest.mark.parametrize(
    "said", [{"min_area": 0.9, "max_area": 0.6}, {"min_aspect": 1.5}, {"max_aspect": float("inf")}]
)
def test_limits_of_a_part_that_cannot_be_met_are_refused(kind, said):
    with pytest.raises(ValueError, match=next(iter(said))):
        kind(**said)


def test_drawn_batches_repeat_with_the_seed_split_among_processes_and_outlive_broken_images(
    dataset,
):
    views = Views(dataset, 64, ViewSettings(), AugmentSettings(), seed=1)
    stream = Stream(3, seed=1, batch=6)
    whole = DrawnExamples(views, stream)(3)
    assert torch.equal(whole.inputs, DrawnExamples(views, stream)(3).inputs)
    parts = [DrawnExamples(views, replace(stream, rank=rank, world_size=2))(3) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.inputs, whole.inputs[rank::2])
    assert whole.learnt.sum() == 4  # two of each three can be read
    assert all(len(b) == 0 for b, good in zip(whole.boxes, whole.learnt, strict=True) if not good)
    assert not whole.complete.all()
