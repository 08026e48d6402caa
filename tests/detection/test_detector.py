"""The detector: split at the regions, batches across images, and no result that depends on its
company.
"""

import copy
import os
import pickle
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detector.detection import detector as front
from detector.detection import forward
from detector.detection.detector import Detector
from detector.detection.ensemble import Ensemble, Member
from detector.detection.forward import Job
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import SizePrior
from detector.detection.suppression import suppress
from detector.errors import DetectorError, ImageError, ProposalError, SettingsError
from detector.structures import Array, Detections, Proposals


class Brightness(nn.Module):
    """A classifier one can check by eye: bright regions are class 0, dark ones class 1, grey is
    background.
    """

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, 3)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.tensor([[20.0], [-20.0], [0.0]]))
            self.classifier.bias.copy_(torch.tensor([-4.0, -4.0, 0.0]))

    def forward(self, crops: Tensor) -> Tensor:
        return self.classifier(crops.mean((1, 2, 3))[:, None])


def _proposer(image: Array) -> Proposals:
    height, width = image.shape[:2]
    boxes = [[0, 0, width, height], [0, 0, width / 2, height], [width / 2, 0, width, height]]
    return Proposals(boxes, (height, width))


def _detector(**settings: object) -> Detector:
    ensemble = Ensemble([Member(Brightness(), 16, context=0.0)], batch_size=4)
    options = {"score_threshold": 0.2, **settings}
    return Detector(_proposer, ensemble, ["bright", "dark"], DetectionSettings(**options), chunk=5)


def _half_white(width: int = 40) -> Array:
    image = np.zeros((30, width, 3), np.uint8)
    image[:, : width // 2] = 255
    return image


def test_bright_and_dark_halves_are_found():
    found = _detector()(_half_white())
    assert sorted(found.labels.tolist()) == [0, 1]
    by_label = dict(zip(found.labels.tolist(), found.boxes.tolist(), strict=True))
    assert by_label == {0: [0, 0, 20, 30], 1: [20, 0, 40, 30]}


def test_names_travel_with_what_is_found() -> None:
    detect = _detector()
    found = detect(_half_white())
    assert found.classes == detect.classes == ("bright", "dark")
    assert {found.classes[label] for _, _, label in found} == {"bright", "dark"}
    (many,) = detect.detect_many([_half_white()])
    assert many.filter(classes="dark").boxes.tolist() == [[20, 0, 40, 30]]
    assert detect(np.full((30, 40, 3), 60, np.uint8)).classes == detect.classes  # of nothing, too


def test_an_image_comes_in_any_form(tmp_path: Path) -> None:
    image = _half_white()
    picture, tensor = Image.fromarray(image), torch.from_numpy(image).permute(2, 0, 1)
    picture.save(tmp_path / "a.png")
    forms = [image, picture, tensor, tensor / 255, tmp_path / "a.png", str(tmp_path / "a.png")]
    detect = _detector()
    expected = [(box.tolist(), score, label) for box, score, label in detect(image)]
    for found in [*map(detect, forms), *detect.detect_many(forms)]:
        assert [(box.tolist(), score, label) for box, score, label in found] == expected
    with pytest.raises(ImageError, match="several images go to detect_many"):
        detect([image])  # type: ignore[arg-type]


_NO_COLOUR, _NO_BYTES = np.zeros((30, 40), np.uint8), np.zeros((30, 40, 3))


@pytest.mark.parametrize("image", [None, "a.jpg", _NO_COLOUR, _NO_BYTES, np.zeros((0, 40, 3), "B")])
def test_what_is_no_image_is_told_with_what_makes_one(image: Array) -> None:
    proposals = _proposer(_half_white())
    with pytest.raises(ImageError, match=r"uint8 array, RGB.*; this is .*; read_image"):
        _detector().score(image, proposals)


def test_a_detector_is_neither_copied_nor_sent() -> None:
    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="each process calls load_detector"):
            use(_detector())


def test_other_settings_of_the_same_detector_load_nothing_again() -> None:
    detect = _detector()
    other = replace(detect, settings=DetectionSettings(score_threshold=1.0))
    assert len(other(_half_white())) == 0
    assert len(detect(_half_white())) == 2
    with pytest.raises(FrozenInstanceError):
        detect.settings = other.settings  # type: ignore[misc]


def test_after_a_fork_a_detector_without_its_threads_says_so_and_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used, fresh = _detector(), _detector()
    before = used(_half_white()).boxes.tolist()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with pytest.raises(DetectorError, match="loaded before a fork"):
        used(_half_white())
    assert fresh(_half_white()).boxes.tolist() == before  # one thread is all that it needs
    unused = _detector()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(os, "getpid", lambda: -2)
    for one in (fresh, unused):
        with pytest.raises(DetectorError, match="loaded before a fork"):
            one(_half_white())


def test_detecting_is_proposing_then_scoring():
    detect, image = _detector(), _half_white()
    whole, parts = detect(image), detect.score(image, detect.propose(image))
    assert (whole.boxes == parts.boxes).all()
    assert (whole.scores == parts.scores).all()


def test_images_together_give_the_same_bits_as_alone():
    images = [_half_white(width) for width in (40, 22, 64, 30, 48)]
    detect = _detector()
    for image, found in zip(images, detect.detect_many(images), strict=True):
        alone = detect(image)
        assert (found.scores == alone.scores).all()
        assert (found.boxes == alone.boxes).all()


def test_few_images_are_held_ahead_of_the_network():
    """One more than there are threads to propose, however many will come."""
    ensemble = Ensemble([Member(Brightness(), 16, context=0.0)], batch_size=4)
    detect = Detector(_proposer, ensemble, ["bright", "dark"], threads=2, chunk=3)
    taken = 0

    def images() -> Iterator[Array]:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield _half_white()

    found = detect.detect_many(images())
    for done in range(1, 4):
        next(found)
        assert taken == done + 2
    assert len(list(found)) == 47


def test_a_job_comes_back_with_all_that_it_brought():
    detect, image = _detector(), _half_white()
    given = Proposals([[0, 0, 20, 30]], (30, 40))
    jobs = [Job(image, given, "given"), Job(image[:, ::-1], tag="searched")]
    one, other = detect.stream(jobs)
    assert detect.detections(one).boxes.tolist() == [[0, 0, 20, 30]]
    assert [(one.tag, len(one.proposals)), (other.tag, len(other.proposals))] == [
        ("given", 1), ("searched", 3),
    ]  # fmt: skip
    assert one.image is image
    assert other.image is jobs[1].image


def test_the_seconds_of_an_image_are_its_own_search_and_share_of_the_batches(monkeypatch):
    """By a clock that only a search (10 each) and crops (1 each) turn; a batch has up to five crops
    of both images.
    """
    now = 0.0
    plain = forward.crop_batch

    def crop(image, boxes, *more, **options):
        nonlocal now
        now += len(boxes)
        return plain(image, boxes, *more, **options)

    def search(image: Array) -> Proposals:
        nonlocal now
        now += 10
        return _proposer(image)

    monkeypatch.setattr(forward, "crop_batch", crop)
    for module in (front, forward):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    detect, image = replace(_detector(), proposer=search), _half_white()
    few = Proposals([[0, 0, 20, 30]] * 2, (30, 40))
    many = Proposals([[0, 0, 20, 30]] * 6, (30, 40))
    jobs = [Job(image, few), Job(image, many, seconds=7), Job(image, few[:0]), Job(image)]
    assert [one.seconds for one in detect.stream(jobs)] == [2, 7 + 6, 0, 10 + 3]


@pytest.mark.parametrize("box", [[-1e9, -1e9, 1e9, 1e9], [0, 0, 9, 1e30], [-1e5, 0, 9, 9]])
def test_a_box_far_outside_its_image_is_refused_at_once(box):
    given = Proposals([[-9, -9, 60, 60], box], (30, 40))
    with pytest.raises(ProposalError, match=r"box 1 is .* far outside"):
        _detector().score(_half_white(), given)
    assert len(_detector().predict(_half_white(), given[:1]).scores) == 1


@pytest.mark.parametrize("chunk", [0, -1])
def test_none_at_a_time_is_refused(chunk):
    with pytest.raises(SettingsError, match="at least 1"):
        Detector(_proposer, Ensemble([Member(Brightness(), 16)]), ["a", "b"], chunk=chunk)


def test_scores_that_are_not_finite_are_an_error_and_not_an_empty_image():
    network = Brightness()
    with torch.no_grad():
        network.classifier.weight.fill_(3e38)
        network.classifier.bias.fill_(3e38)
    detect = Detector(_proposer, Ensemble([Member(network, 16)]), ["a", "b"])
    with pytest.raises(DetectorError, match="not finite"):
        detect(_half_white())


def test_both_doors_take_the_best_proposals_only():
    image = _half_white()
    given = Proposals([[0, 0, 40, 30], [0, 0, 20, 30], [20, 0, 40, 30]], (30, 40))
    for limit, count in ((None, 2), (1, 0), (2, 1), (9, 2)):
        detect = _detector(max_proposals=limit)
        (found,) = detect.stream([Job(image, given)])
        one, many = detect.score(image, given), detect.detections(found)
        assert one.boxes.tolist() == many.boxes.tolist()
        assert one.scores.tolist() == many.scores.tolist()
        assert len(one) == count
        assert detect.predict(image, given).scores.shape == (3, 3)  # what is asked for, all of it


def test_threads_that_run_out_of_memory_together_each_try_half_of_what_they_tried(monkeypatch):
    """The second one hears of it when the first has already gone down to a single crop."""
    first_is_down, plain = threading.Event(), forward.crop_batch

    def crop(image, boxes, *more, **options):
        if len(boxes) == 1:
            first_is_down.set()
            return plain(image, boxes, *more, **options)
        if threading.current_thread().name == "second":
            first_is_down.wait(30)
        raise MemoryError

    detect, image = replace(_detector(), chunk=2), _half_white()
    expected = detect(image)
    monkeypatch.setattr(forward, "crop_batch", crop)
    found: list[Detections] = []
    both = [threading.Thread(target=lambda: found.append(detect(image)), name=name)
            for name in ("second", "first")]  # fmt: skip
    for one in both:
        one.start()
    for one in both:
        one.join(30)
    assert [one.boxes.tolist() for one in found] == [expected.boxes.tolist()] * 2
    assert detect.batches.chunk.size == 1


def test_no_proposals_give_no_detections():
    detect = _detector()
    found = detect.score(_half_white(), Proposals([], (30, 40)))
    assert len(found) == 0


def test_proposals_of_another_image_are_refused():
    with pytest.raises(ValueError, match=r"\(30, 99\)"):
        _detector().score(_half_white(), Proposals([[0, 0, 5, 5]], (30, 99)))


def test_only_the_best_ranked_proposals_are_used_when_limited():
    assert len(_detector(max_proposals=2).propose(_half_white())) == 2


def test_classes_must_match_the_network():
    with pytest.raises(ValueError, match="1 classes need 2 outputs"):
        Detector(_proposer, Ensemble([Member(Brightness(), 16)]), ["bright"])


SCORES = np.array(
    [[0.9, 0.0, 0.1], [0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.9, 0.05, 0.05]], np.float32
)
BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60]], np.float32)


def test_suppression_is_per_class_and_best_first():
    found = suppress(BOXES, SCORES, DetectionSettings(score_threshold=0.25))
    # Row 1 and row 2's class 0 go under row 0; row 2 stays as class 1. Equal scores keep their
    # rank.
    assert found.boxes.tolist() == [BOXES[0].tolist(), BOXES[3].tolist(), BOXES[2].tolist()]
    assert found.labels.tolist() == [0, 0, 1]


def test_suppression_across_classes_keeps_the_best_of_an_object_and_of_those_apart():
    """One animal of three kinds, a rider on the first one's back, and one animal elsewhere."""
    boxes = np.array([[0, 0, 40, 40], [1, 0, 40, 40], [0, 0, 40, 20], [50, 50, 90, 90]], np.float32)
    scores = np.array(
        [[0.5, 0.4, 0.0, 0.1], [0.2, 0.6, 0.1, 0.1], [0.0, 0.0, 0.9, 0.1], [0.7, 0.3, 0.0, 0.0]],
        np.float32,
    )
    each = suppress(boxes, scores, DetectionSettings(score_threshold=0.3))
    assert each.labels.tolist() == [2, 0, 1, 0, 1]
    across = DetectionSettings(score_threshold=0.3, class_agnostic_nms=0.6)
    found = suppress(boxes, scores, across)
    assert (found.labels.tolist(), found.boxes[:, 0].tolist()) == ([2, 0, 1], [0, 50, 1])
    strict = DetectionSettings(score_threshold=0.3, class_agnostic_nms=0.4, max_detections=2)
    assert suppress(boxes, scores, strict).labels.tolist() == [2, 0]


def test_voting_moves_boxes_and_leaves_scores():
    plain = suppress(BOXES, SCORES, DetectionSettings(score_threshold=0.5))
    voted = suppress(BOXES, SCORES, DetectionSettings(score_threshold=0.5, voting_iou=0.5))
    assert voted.scores.tolist() == plain.scores.tolist()
    # Class 0 around row 0: heights 10, 9, 10 with scores 0.9, 0.8, 0.3.
    assert voted.boxes[0, 3] == pytest.approx((0.9 * 10 + 0.8 * 9 + 0.3 * 10) / 2.0)
    assert voted.boxes[1].tolist() == BOXES[3].tolist()


def test_the_most_detections_are_the_best_ones():
    found = suppress(BOXES, SCORES, DetectionSettings(score_threshold=0.25, max_detections=1))
    assert found.scores.tolist() == pytest.approx([0.9])


def test_nothing_above_the_threshold_is_an_empty_result():
    assert len(suppress(BOXES, SCORES, DetectionSettings(score_threshold=0.95))) == 0


def test_a_prior_of_sizes_corrects_what_the_network_says():
    image, prior = _half_white(), SizePrior(sides=(0.7, 0.8), log_odds=(-2.0, 0.0))
    ensemble = Ensemble([Member(Brightness(), 16, context=0.0)], batch_size=4)
    plain = Detector(_proposer, ensemble, ["bright", "dark"])
    corrected = Detector(_proposer, ensemble, ["bright", "dark"], prior=prior)
    found = _proposer(image)
    before, after = (one.predict(image, found).scores for one in (plain, corrected))
    odds = [(1 - scores[:, -1]) / scores[:, -1] for scores in (before, after)]
    # The whole image covers all of it, its halves half.
    expected = np.exp(prior(found.boxes, found.size))
    assert odds[1] / odds[0] == pytest.approx(expected, rel=1e-3)
    assert expected[1] < 0.2
    many = [corrected.aggregate(one).scores for one in corrected.stream([Job(image, found)] * 4)]
    assert all((one == after).all() for one in many)
    plain = replace(corrected, prior=None, temperatures=[2.0])
    assert plain.predict(image, found).scores.max() < before.max()


def test_crops_that_do_not_fit_are_taken_in_smaller_chunks(monkeypatch):
    want = _detector()(_half_white())
    real, sizes = forward.crop_batch, []

    def small(image: Array, boxes: Array, *rest: object, **options: object) -> Tensor:
        sizes.append(len(boxes))
        if len(boxes) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(image, boxes, *rest, **options)

    monkeypatch.setattr(forward, "crop_batch", small)
    limit = 1
    found = _detector()(_half_white())
    assert sizes == [3, 2, 1, 1, 1]
    assert np.array_equal(found.boxes, want.boxes)
    assert np.allclose(found.scores, want.scores)
    limit = 0
    with pytest.raises(MemoryError, match="one crop at a time"):
        _detector()(_half_white())


def test_a_spent_budget_leaves_the_best_regions_as_max_proposals_would() -> None:
    def regions(image: Array) -> Proposals:
        height, width = image.shape[:2]
        columns = np.linspace(0, width - 10, 7)
        boxes = [[left, 0, left + 10, height] for left in columns]
        return Proposals(boxes, (height, width))

    image = _half_white()
    detect = replace(_detector(score_threshold=0.01), proposer=regions)
    batch = detect.ensemble.at_once
    assert 0 < batch < 7
    every = detect.predict(image, regions(image))
    for seconds, count in ((1e-9, batch), (1e9, 7)):
        hurried = replace(detect, budget=seconds)
        scored = hurried.predict(image, regions(image))
        assert len(scored.proposals) == count
        assert np.array_equal(scored.scores, every.scores[:count])
        fewer = replace(
            detect, settings=DetectionSettings(score_threshold=0.01, max_proposals=count)
        )
        assert hurried(image).boxes.tolist() == fewer(image).boxes.tolist()
    assert [len(one) for one in replace(detect, budget=1e-9).detect_many([image] * 3)]
    assert len(replace(detect, budget=1e-9).predict(image, regions(image)[:0]).scores) == 0
