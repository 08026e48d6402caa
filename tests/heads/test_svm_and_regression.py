"""All classes' heads from described images: who is positive, who is background, who is left out."""

from collections.abc import Iterator

import numpy as np
import pytest

from detector import boxes as box_ops
from detector.errors import TrainingError
from detector.heads.bbox_regression import RegressionSettings, apply_deltas
from detector.heads.region_features import DescribedImage
from detector.heads.svm import SvmSettings
from detector.heads.svm_and_regression import fit_regressions, fit_svms, mean_norm
from detector.structures import Annotations

CAT = [10.0, 10, 50, 50]
DOG = [60.0, 10, 90, 50]
PROPOSALS = np.array(
    [
        [10, 10, 50, 40],  # 0.75 of the cat
        [10, 10, 30, 34],  # 0.3 of the cat exactly
        [60, 10, 70, 50],  # a third of the dog
        [0, 60, 40, 100],  # nothing
    ]
)


def _image(background_of: frozenset[int] | None = None, **flags: list[bool]) -> DescribedImage:
    """Each region's feature is its own number."""
    truth = Annotations([CAT, DOG], [0, 1], **flags)
    boxes = DescribedImage.regions(truth, PROPOSALS)
    return DescribedImage(
        boxes, np.arange(len(boxes), dtype=np.float32)[:, None], truth, background_of
    )


def test_objects_come_first_and_are_the_only_positives():
    image = _image()
    assert image.boxes[:2].tolist() == [CAT, DOG]
    assert [image.positives(label).ravel().tolist() for label in (0, 1)] == [[0], [1]]


def test_negatives_overlap_every_object_of_the_class_by_less():
    image = _image()
    # Of the cat: the dog and what does not touch it; exactly 0.3 is not below.
    assert image.negatives(0, 0.3).ravel().tolist() == [1, 4, 5]
    assert image.negatives(1, 0.3).ravel().tolist() == [0, 2, 3, 5]
    assert image.negatives(2, 0.3).ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_where_a_class_is_not_annotated_there_is_no_background_for_it():
    image = _image(background_of=frozenset([1]))
    assert len(image.negatives(0, 0.3)) == 0
    assert len(image.negatives(1, 0.3)) == 4
    assert len(image.positives(0)) == 1


def test_difficult_objects_are_neither_positive_nor_background():
    image = _image(difficult=[True, False])
    assert image.boxes[0].tolist() == DOG
    assert len(image.positives(0)) == 0
    assert image.negatives(0, 0.3).ravel().tolist() == [0, 3, 4]
    rows, labels, _ = image.to_move(0.6)
    assert len(rows) == len(labels) == 0


def test_regions_on_difficult_objects_and_in_crowds_change_no_head():
    """To the cats' SVM and its curve they are neither cats nor background, whatever they show."""
    plain = Pictures(4).images
    shown = np.full((2, plain[0].features.shape[1]), 9, np.float32)
    spoilt = [
        DescribedImage(
            np.concatenate([image.boxes, [[0, 200, 40, 238], [110, 210, 130, 230]]]),
            np.concatenate([image.features, shown]),
            Annotations(
                [*image.truth.boxes, [0, 200, 40, 240], [100, 200, 200, 300]],
                [0, 1, 0, 0],
                [False, False, True, False],
                [False, False, False, True],
            ),
        )
        for image in plain
    ]
    one, other = (
        fit_svms(lambda _, part=part: part, ("cat",), 1.0, SvmSettings())
        for part in (plain, spoilt)
    )
    for name in ("weight", "bias", "slope", "offset"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_what_is_to_be_moved_are_proposals_near_objects():
    rows, labels, goals = _image().to_move(0.6)
    assert rows.tolist() == [2]
    assert labels.tolist() == [0]
    # 30 high, its centre at 25; the cat's is 40 high at 30.
    assert goals[0].tolist() == pytest.approx([0, 5 / 30, 0, np.log(40 / 30)])


class Pictures:
    """Images of one cat and one dog each. A region's features say how much of either it shows,
    and by how much it misses its object to the right.
    """

    def __init__(self, count: int = 12) -> None:
        self.passes: list[str] = []
        rng = np.random.default_rng(0)
        self.images = [self._picture(rng) for _ in range(count)]

    def _picture(self, rng: np.random.Generator) -> DescribedImage:
        corner = rng.uniform(0, 20, (2, 2)) + np.array([[0, 0], [60, 0]])
        truth = Annotations(np.concatenate([corner, corner + 40], 1), [0, 1])
        aside = rng.normal(0, 4, (40, 1)) * np.array([1, 0, 1, 0])
        near = np.tile(truth.boxes, (20, 1)) + aside
        far = np.concatenate([rng.uniform(0, 90, (30, 2)), np.full((30, 2), 200.0)], 1)
        boxes = DescribedImage.regions(truth, np.concatenate([near, far]))
        overlap = box_ops.iou(boxes, truth.boxes)
        best = truth.boxes[overlap.argmax(1)]
        miss = np.where(overlap.max(1) > 0.5, (best - boxes)[:, 0] / 40, 0)
        features = 5 * np.column_stack([overlap, miss, np.ones(len(boxes))])
        return DescribedImage(boxes, features.astype(np.float32), truth)

    def __call__(self, name: str) -> Iterator[DescribedImage]:
        self.passes.append(name)
        yield from self.images


def test_svms_find_their_classes_and_scores_are_probabilities():
    images = Pictures()
    norm = mean_norm(images("features"))
    assert norm == pytest.approx(
        np.linalg.norm(np.concatenate([one.features for one in images.images]), axis=1).mean()
    )
    fitted = fit_svms(images, ("cat", "dog"), norm, SvmSettings())
    assert images.passes == ["features", "objects", "hard negatives", "scores"]
    probe = Pictures(1).images[0]
    logits = fitted.margins(probe.features) * fitted.slope + fitted.offset
    scores = 1 / (1 + np.exp(-logits))
    assert scores[:2].argmax(1).tolist() == [0, 1]
    for label in (0, 1):
        on, off = probe.is_object(label, 0.5), probe.is_background(label, 0.3)
        assert scores[on, label].min() > 0.5 > scores[off, label].max()


def test_regression_moves_regions_onto_their_objects():
    images = Pictures()
    norm = mean_norm(images.images)
    fitted = fit_regressions(images, ("cat", "dog", "cow"), norm, RegressionSettings(ridge=1))
    assert (fitted.weight[8:] == 0).all()  # no cows, nothing moves for them
    image = images.images[0]
    deltas = (image.features @ fitted.weight.T + fitted.bias).reshape(-1, 3, 4)
    boxes = apply_deltas(image.boxes, deltas, (300, 300))
    rows, labels, _ = image.to_move(0.6)
    goals = image.truth.boxes[labels]
    before = np.diag(box_ops.iou(image.boxes[rows], goals)).mean()
    after = np.diag(box_ops.iou(boxes[rows, labels], goals)).mean()
    assert before < 0.9
    assert after > 0.97
    assert (boxes[:, 2] == image.boxes).all()


def test_a_class_without_objects_has_no_svm():
    with pytest.raises(
        TrainingError, match=r"no objects of cow \(1 of 3 classes\).*--set svm=false"
    ):
        fit_svms(Pictures(2), ("cat", "dog", "cow"), 1.0, SvmSettings())


def test_regression_needs_regions_near_objects():
    with pytest.raises(TrainingError, match="no class has 10 proposals"):
        fit_regressions(lambda name: [_image()], ("cat", "dog"), 1.0, RegressionSettings())


def test_features_of_another_scale_give_the_same_heads():
    """Numbers such as C and the ridge mean the same for every network."""
    pictures = Pictures(4).images
    large = [
        DescribedImage(one.boxes, one.features * 64, one.truth, one.background_of)
        for one in pictures
    ]
    norm, names = mean_norm(pictures), ("cat", "dog")
    assert mean_norm(large) == pytest.approx(64 * norm)
    one, other = (
        fit_svms(lambda _, part=part: part, names, length, SvmSettings())
        for part, length in ((pictures, norm), (large, 64 * norm))
    )
    assert other.weight * 64 == pytest.approx(one.weight, rel=1e-3, abs=1e-4)
    assert other.bias == pytest.approx(one.bias, rel=1e-3)
    moves, same = (
        fit_regressions(lambda _, part=part: part, names, length, RegressionSettings())
        for part, length in ((pictures, norm), (large, 64 * norm))
    )
    assert same.weight * 64 == pytest.approx(moves.weight, rel=1e-4, abs=1e-6)
    # A ridge a hundred times as large is not the same.
    strong = fit_regressions(lambda _: pictures, names, norm, RegressionSettings(ridge=1e5))
    assert np.abs(strong.weight).max() < np.abs(moves.weight).max() / 2


def test_images_pass_by_as_often_as_the_settings_say():
    images = Pictures(3)
    fit_svms(images, ("cat", "dog"), 1.0, SvmSettings(passes=3))
    assert images.passes == ["objects", *["hard negatives"] * 3, "scores"]


@pytest.mark.parametrize(("count", "moves"), [(9, False), (10, True)])
def test_ten_regions_near_objects_move_a_class_and_nine_do_not(count, moves):
    """Beside another class that has enough."""
    truth = Annotations([CAT, DOG], [0, 1])
    near = [np.tile([[10, 10, 50, 40]], (count, 1)), np.tile([[60, 10, 90, 40]], (10, 1))]
    boxes = DescribedImage.regions(truth, np.concatenate(near))
    image = DescribedImage(boxes, np.ones((len(boxes), 1), np.float32), truth)
    fitted = fit_regressions(lambda _: [image], ("cat", "dog"), 1.0, RegressionSettings())
    assert bool(fitted.bias[:4].any()) is moves
    assert fitted.bias[4:].any()
