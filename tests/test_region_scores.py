"""Region scores are computed once: stored exactly, resumed, and keyed by all that matters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

from detector.datasets import Dataset, Sample
from detector.ensemble import CropSpec, Judgement
from detector.errors import ImageError, ProposalError
from detector.pipeline import Detector
from detector.proposals.gather import StoredProposals
from detector.proposals.stored import ProposalStore
from detector.region_prior import RegionPrior
from detector.region_scores import (
    ScoredRegions,
    ScoreStore,
    proposing_from,
    proposing_with,
    score_dataset,
    scoring_settings,
)
from detector.structures import Annotations, Array, Proposals


class Halves:
    """Proposes the image, its left half and its upper half."""

    class _None(BaseModel):
        pass

    settings = _None()

    def __call__(self, image: Array) -> Proposals:
        height, width = image.shape[:2]
        boxes = [[0, 0, width, height], [0, 0, width / 2, height], [0, 0, width, height / 2]]
        return Proposals(np.array(boxes), (height, width))


class Brightness:
    """Two classes: the redder a crop, the more it is of the first. Counts what it is asked."""

    num_outputs = 3
    crop_specs = (CropSpec(16),)
    asked = 0

    def judge(
        self, crops: Mapping[CropSpec, torch.Tensor], log_odds: Array | None = None
    ) -> Judgement:
        red = crops[CropSpec(16)][:, 0].mean((1, 2)) + 0.5
        self.asked += len(red)
        return Judgement(torch.stack([red, 1 - red, torch.zeros_like(red)], 1).softmax(1))


def make_detector() -> tuple[Detector, Brightness]:
    ensemble = Brightness()
    return Detector(Halves(), ensemble, ("red", "other"), chunk=4), ensemble  # type: ignore[arg-type]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    samples = []
    for i in range(5):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (40, 30), (50 * i, 0, 0)).save(path)
        samples.append(Sample(str(i), path, (30, 40), Annotations.empty()))
    return Dataset("toy", ("red", "other"), tuple(samples))


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    return ScoreStore(tmp_path / "regions", {"members": ["a"]})


def test_scores_are_the_detectors_own_and_computed_once(
    dataset: Dataset, store: ScoreStore
) -> None:
    detector, ensemble = make_detector()
    first = {s.image_id: r for s, r in score_dataset(detector, dataset, store)}
    assert ensemble.asked == 15
    again = {s.image_id: r for s, r in score_dataset(detector, dataset, store)}
    assert ensemble.asked == 15
    for sample in dataset.samples:
        image = np.asarray(Image.open(sample.path))
        alone = detector.classify(image, detector.propose(image))
        for found in (first[sample.image_id], again[sample.image_id]):
            assert isinstance(found, ScoredRegions)
            assert found.scores.tolist() == alone.tolist()
            assert found.proposals.boxes.tolist() == detector.propose(image).boxes.tolist()
            assert found.proposals.size == (30, 40)


def test_an_interruption_loses_nothing_that_was_done(dataset: Dataset, store: ScoreStore) -> None:
    detector, ensemble = make_detector()
    started = iter(range(10))
    done = list(score_dataset(detector, dataset, store, None, lambda: next(started) >= 2))
    assert [sample.image_id for sample, _ in done] == ["0", "1"]
    assert ensemble.asked == 6
    rest = list(score_dataset(detector, dataset, store))
    assert [sample.image_id for sample, _ in rest] == list("01234")
    assert ensemble.asked == 15


def test_proposals_come_from_their_cache(
    dataset: Dataset, store: ScoreStore, tmp_path: Path
) -> None:
    detector, _ = make_detector()
    with ProposalStore(tmp_path / "p.sqlite", "rw") as proposals:
        proposing = proposing_with(detector, proposals)
        assert len(list(score_dataset(detector, dataset, store, proposing))) == 5
        assert proposals.count() == 5
        kind = proposals.settings()
    # A file of proposals may also be used as it is, by a detector that would propose others.
    stored = StoredProposals(tmp_path / "p.sqlite")
    assert stored.key in kind
    other = ScoreStore(tmp_path / "other", {})
    found = list(score_dataset(detector, dataset, other, proposing_from(stored)))
    assert [len(regions.proposals) for _, regions in found] == [3] * 5  # type: ignore[union-attr]
    Image.new("RGB", (40, 30), (1, 2, 3)).save(dataset.samples[2].path)
    with pytest.raises(ProposalError, match="no proposals for"):
        list(score_dataset(detector, dataset, other, proposing_from(stored)))
    dataset.samples[2].path.write_text("not an image")
    errors = [one for _, one in score_dataset(detector, dataset, other, proposing_from(stored))]
    assert sum(isinstance(one, ImageError) for one in errors) == 1


def test_a_broken_image_is_an_error_in_its_place_and_the_rest_go_on(
    dataset: Dataset, store: ScoreStore
) -> None:
    dataset.samples[1].path.write_text("not an image")
    dataset.samples[3].path.unlink()
    detector, _ = make_detector()
    found = {s.image_id: r for s, r in score_dataset(detector, dataset, store)}
    assert sorted(found) == list("01234")
    errors = {name for name, one in found.items() if isinstance(one, ImageError)}
    assert errors == {"1", "3"}


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"x" * 100, None])
def test_a_damaged_file_counts_as_missing(
    dataset: Dataset, store: ScoreStore, damage: bytes | None
) -> None:
    detector, ensemble = make_detector()
    list(score_dataset(detector, dataset, store))
    victim = sorted(store.folder.iterdir())[0]
    whole = bytearray(victim.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    victim.write_bytes(bytes(whole) if damage is None else damage)
    list(score_dataset(detector, dataset, store))
    assert ensemble.asked == 18


def test_other_settings_are_another_folder(tmp_path: Path) -> None:
    detector, _ = make_detector()
    one = scoring_settings(detector, ["a"], "float32")
    sized = make_detector()[0]
    sized.prior = RegionPrior(sides=(0.5,), log_odds=(1.0,))
    folders: Iterator[Path] = (
        ScoreStore(tmp_path, settings).folder
        for settings in (
            one,
            scoring_settings(detector, ["b"], "float32"),
            scoring_settings(detector, ["a"], "bfloat16"),
            scoring_settings(detector, ["a"], "float32", {"engine": "other"}),
            {**one, "context": 0.1},
            {**one, "max_proposals": 100},
            scoring_settings(detector, ["a"], "float32", heads=["h"]),
            scoring_settings(detector, ["a"], "float32", heads=["h", "i"]),
            scoring_settings(sized, ["a"], "float32"),
        )
    )
    assert len(set(folders)) == 9


def test_without_heads_the_settings_are_what_they_were_before_there_were_any() -> None:
    """So that scores which were kept then are found."""
    detector, _ = make_detector()
    assert scoring_settings(detector, ["a"], "float32").keys() == {
        "members", "proposals", "max_proposals", "context", "device", "precision",
    }  # fmt: skip


class Shifting(Brightness):
    """Class 0 moves every region by half its width to the right, class 1 leaves it."""

    def judge(
        self, crops: Mapping[CropSpec, torch.Tensor], log_odds: Array | None = None
    ) -> Judgement:
        scores = super().judge(crops).scores
        deltas = torch.zeros(len(scores), 2, 4)
        deltas[:, 0, 0] = 0.5
        return Judgement(scores, deltas)


def test_boxes_of_each_class_are_kept_with_the_scores(dataset: Dataset, store: ScoreStore) -> None:
    ensemble = Shifting()
    detector = Detector(Halves(), ensemble, ("red", "other"), chunk=4)  # type: ignore[arg-type]
    for _ in range(2):
        found = {s.image_id: r for s, r in score_dataset(detector, dataset, store)}
        regions = found["0"]
        assert isinstance(regions, ScoredRegions)
        # The left half of 40 pixels becomes the middle; other classes' boxes stay.
        assert regions.boxes[1].tolist() == [[10, 0, 30, 30], [0, 0, 20, 30]]
        assert regions.boxes.shape == (3, 2, 4)
    assert ensemble.asked == 15


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 2, 4), (1, 2, 5)])
def test_class_boxes_that_do_not_fit_count_as_missing(
    store: ScoreStore, shape: tuple[int, ...]
) -> None:
    proposals, scores = Proposals([[0, 0, 5, 5]], (10, 10)), np.zeros((1, 3), np.float32)
    store.put("c", ScoredRegions(proposals, scores, np.zeros((1, 2, 4), np.float32)))
    assert store.get("c") is not None
    store.put("c", ScoredRegions(proposals, scores, np.zeros(shape, np.float32)))
    assert store.get("c") is None


def test_scores_that_do_not_fit_their_boxes_count_as_missing(store: ScoreStore) -> None:
    proposals = Proposals([[0, 0, 5, 5]], (10, 10))
    store.put("c", ScoredRegions(proposals, np.zeros((2, 3), np.float32)))
    assert store.get("c") is None
