"""Region sampling: objects, background, and what a partly annotated image proves."""

from pathlib import Path

import numpy as np
import pytest

from detector.datasets import Dataset, Sample
from detector.errors import TrainingError
from detector.structures import Annotations, Proposals
from detector.training.regions.sampling import RegionPool, SamplingSettings, assign

SIZE = (100, 100)


def _sample(name: str, truth: Annotations, annotated: frozenset[int] | None = None) -> Sample:
    return Sample(name, Path(name), SIZE, truth, annotated)


def _proposals(*boxes: tuple[float, float, float, float]) -> Proposals:
    return Proposals(np.array(boxes, np.float32), SIZE)


def test_a_region_belongs_to_the_object_it_overlaps_best():
    truth = Annotations([[0, 0, 10, 10], [20, 0, 40, 10]], [4, 7])
    boxes, which, overlap = assign(
        truth, _proposals((0, 0, 10, 9), (20, 0, 32, 10), (60, 60, 70, 70)), SamplingSettings()
    )
    # The two ground-truth boxes come first: they are regions themselves.
    assert which.tolist() == [0, 1, 0, 1, -1]
    assert overlap == pytest.approx([1, 1, 0.9, 0.6, 0])
    assert len(boxes) == 5


def test_half_an_overlap_is_enough_and_less_is_background():
    truth = Annotations([[0, 0, 10, 10]], [0])
    _, which, _ = assign(truth, _proposals((0, 0, 10, 5), (0, 0, 10, 4.4)), SamplingSettings())
    assert which.tolist() == [0, 0, -1]


def test_regions_on_difficult_objects_and_crowds_are_left_out():
    truth = Annotations(
        [[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 90, 90]],
        [0, 1, 2],
        difficult=[False, True, False],
        crowd=[False, False, True],
    )
    boxes, which, _ = assign(
        truth, _proposals((20, 20, 30, 29), (60, 60, 70, 70), (10, 70, 20, 80)), SamplingSettings()
    )
    assert boxes.tolist() == [[0, 0, 10, 10], [10, 70, 20, 80]]
    assert which.tolist() == [0, -1]


def test_an_image_without_objects_gives_background_only():
    _, which, overlap = assign(Annotations.empty(), _proposals((0, 0, 5, 5)), SamplingSettings())
    assert (which.tolist(), overlap.tolist()) == ([-1], [0])


def _pool(settings: SamplingSettings | None = None) -> RegionPool:
    samples = (
        _sample("a", Annotations([[0, 0, 10, 10]] * 1, [0])),
        _sample("b", Annotations([[0, 0, 50, 50], [60, 60, 90, 90]], [1, 2]), frozenset({1, 2})),
    )
    proposals = {
        "a": _proposals((0, 0, 10, 9), (2, 2, 40, 40), (50, 50, 60, 60)),
        "b": _proposals((0, 0, 50, 45), (5, 60, 30, 90)),
    }
    dataset = Dataset("toy", ("ant", "bee", "cat"), samples)
    return RegionPool(dataset, proposals, settings or SamplingSettings())


def test_a_batch_holds_32_objects_and_96_background_regions():
    batch = _pool().draw(0, 0)
    assert len(batch) == 128
    assert (batch.labels < 3).sum() == 32


def test_the_numbers_are_those_of_r_cnns_fine_tuning():
    settings = SamplingSettings()
    assert (settings.positives_per_batch, settings.background_per_batch) == (32, 96)
    assert (settings.positive_iou, settings.background_low) == (0.5, 0)


def test_a_batch_is_learnt_from_whole_or_without_background_where_there_is_none():
    assert _pool().batch_size() == 128
    assert _pool(SamplingSettings(hard_candidates=64)).batch_size() == 128
    dataset = Dataset("toy", ("ant",), (_sample("a", Annotations([[0, 0, 10, 10]], [0])),))
    only = RegionPool(dataset, {"a": _proposals((0, 0, 10, 9))}, SamplingSettings())
    assert only.batch_size() == len(only.draw(0, 0)) == 32


def test_a_batch_can_be_told_and_parts_name_their_places():
    batch = _pool(SamplingSettings(positives_per_batch=2, background_per_batch=3)).draw(0, 0)
    assert batch.replay() == {"image": batch.image.tolist(), "boxes": batch.boxes.tolist()}
    part = batch.part(1, 2)
    assert (part.place is not None and part.place.tolist(), part.whole) == ([1, 3], 5)
    assert (part.boxes == batch.boxes[[1, 3]]).all()
    assert (part.rows == batch.rows[[1, 3]]).all()


def test_objects_come_first_and_windows_only_when_asked():
    """Each object as often as the others of its class, however many regions it has."""
    truth = Annotations([[0, 0, 50, 50], [60, 60, 90, 90]], [0, 0])
    windows = [(0, 0, 50, 40 + i) for i in range(10)]
    dataset = Dataset("toy", ("ant",), (_sample("a", truth),))
    for positives, share in (("objects", 1 / 2), ("windows", 1 / 12)):
        settings = SamplingSettings(positives_per_batch=4000, background_per_batch=0)
        if positives == "windows":
            settings = settings.model_copy(update={"positives": positives})
        pool = RegionPool(dataset, {"a": _proposals(*windows)}, settings)
        second = (pool.draw(0, 0).boxes[:, 0] == 60).mean()
        assert second == pytest.approx(share, abs=0.03)


def test_a_share_of_the_background_is_near_an_object():
    for share, wanted in ((0.0, 0), (0.25, 100), (1.0, 400)):
        settings = SamplingSettings(near_fraction=share, background_per_batch=400)
        pool = _pool(settings)
        pool.near = pool.background[:1]  # drawn at random one of three would come as well
        batch = pool.draw(0, 0)
        assert len(batch) == 432
        others = (400 - wanted) / len(pool.background)
        found = int((batch.rows == pool.near[0]).sum())
        assert found == pytest.approx(wanted + others, abs=40)


def test_regions_are_near_from_an_overlap_of_a_tenth_on():
    truth = Annotations([[0, 0, 10, 10]], [0])
    proposals = {"a": _proposals((0, 0, 10, 100), (0, 1, 10, 100), (90, 90, 99, 99))}
    dataset = Dataset("toy", ("ant",), (_sample("a", truth),))
    pool = RegionPool(dataset, proposals, SamplingSettings(near_iou=0.1))
    assert pool.boxes[pool.near].tolist() == [[0, 0, 10, 100]]
    assert len(pool.background) == 3


def test_so_much_of_the_background_drawn_is_learnt_from():
    assert SamplingSettings(background_per_batch=90, hard_candidates=10).hard_share == 0.9
    assert SamplingSettings(background_per_batch=90).hard_share == 1
    assert SamplingSettings(background_per_batch=0).hard_share == 1
    batch = _pool(SamplingSettings(background_per_batch=90, hard_candidates=10)).draw(0, 0)
    assert (batch.labels == 3).sum() == 100


def test_a_pool_is_known_by_its_regions_and_what_they_teach():
    pool = _pool()
    assert pool.digest() == _pool().digest() == pool.digest(np.arange(len(pool.boxes)))
    assert pool.digest(np.arange(2)) == pool.restricted(np.arange(2)).digest()
    assert pool.digest(np.arange(2)) != pool.digest()
    for name in ("boxes", "labels"):
        other = _pool()
        getattr(other, name)[1] += 1
        assert other.digest() != pool.digest()


def test_a_partly_annotated_image_proves_only_what_its_boxes_prove():
    batch = _pool().draw(0, 0)
    background = batch.labels == 3
    whole, partial = batch.image == 0, batch.image == 1
    assert (batch.allowed_classes[background & whole] == [False, False, False, True]).all()
    assert (batch.allowed_classes[background & partial] == [True, False, False, True]).all()
    assert (batch.allowed_classes[~background].sum(1) == 1).all()


def test_an_image_of_positives_only_gives_no_background():
    truth = Annotations([[0, 0, 10, 10]], [0])
    samples = (_sample("a", truth), Sample("b", Path("b"), SIZE, truth, positives_only=True))
    proposals = {name: _proposals((0, 0, 10, 9), (50, 50, 60, 60)) for name in "ab"}
    pool = RegionPool(Dataset("toy", ("ant",), samples), proposals, SamplingSettings())
    assert pool.describe()["positive regions"] == 4  # the object and a window on it, twice
    assert pool.image[pool.background].tolist() == [0]
    batch = pool.draw(0, 0)
    assert set(batch.image[batch.labels == 0]) == {0, 1}
    assert set(batch.image[batch.labels == 1]) == {0}


def test_a_batch_is_a_function_of_seed_and_step():
    pool, again = _pool(), _pool()
    one, same = pool.draw(5, 9), again.draw(5, 9)
    assert all((getattr(one, n) == getattr(same, n)).all() for n in ("image", "boxes", "flip"))
    assert not (one.boxes == pool.draw(5, 10).boxes).all()
    assert not (one.boxes == pool.draw(6, 9).boxes).all()


def test_the_parts_of_several_processes_make_up_the_batch():
    batch = _pool().draw(0, 0)
    parts = [batch.part(rank, 3) for rank in range(3)]
    assert sum(len(part) for part in parts) == 128
    assert (np.sort(np.concatenate([p.image for p in parts])) == np.sort(batch.image)).all()


def test_class_power_decides_how_often_rare_classes_come():
    samples = tuple(
        _sample(str(i), Annotations([[0, 0, 50, 50]], [0 if i < 99 else 1])) for i in range(100)
    )
    proposals = {str(i): _proposals((60, 60, 90, 90)) for i in range(100)}
    dataset = Dataset("toy", ("often", "rare"), samples)

    def share(power: float) -> float:
        settings = SamplingSettings(class_power=power, positives_per_batch=4000)
        labels = RegionPool(dataset, proposals, settings).draw(0, 0).labels
        return float((labels == 1).mean() / ((labels < 2).mean()))

    assert share(1.0) == pytest.approx(0.01, abs=0.01)
    assert share(0.0) == pytest.approx(0.5, abs=0.05)


def test_windows_are_drawn_uniformly_when_asked():
    settings = SamplingSettings(positives="windows", positives_per_batch=3000, near_fraction=0)
    batch = _pool(settings).draw(0, 0)
    # Object 0 has two regions, object 1 two, object 2 one: 2 of 5, 2 of 5, 1 of 5.
    shares = [float((batch.labels == c).sum()) / 3000 for c in range(3)]
    assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.04)


def test_nothing_to_learn_from_is_a_typed_error():
    dataset = Dataset("empty", ("ant",), (_sample("a", Annotations.empty()),))
    with pytest.raises(TrainingError, match="nothing to learn"):
        RegionPool(dataset, {"a": _proposals((0, 0, 5, 5))}, SamplingSettings())
