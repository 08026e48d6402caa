"""What networks say of regions is asked once: kept exactly, resumed, shared by all settings that
only change what is made of it, and kept apart by all others.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

from detector.datasets import Dataset, Sample
from detector.detection.aggregate import MemberOutput, RegionScores
from detector.detection.bundle import BundleManifest, MemberManifest, Provenance, SharedTrunk
from detector.detection.detector import Detector
from detector.detection.ensemble import CropSpec
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import SizePrior
from detector.errors import ImageError, ProposalError
from detector.evaluation.scoring.regions import (
    picture_hashes,
    proposing_from,
    proposing_with,
    region_store,
    score_dataset,
    trained_on,
)
from detector.evaluation.scoring.store import RegionStore
from detector.progress.bar import Pace
from detector.proposals.cache.stored import ProposalStore
from detector.proposals.gather import StoredProposals
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


class Redness:
    """Networks of two classes: the redder a crop, the more it is of the first; the second network
    is twice as sure. Counts the crops that it is asked about.
    """

    num_outputs = 3
    crop_specs = (CropSpec(16),)
    arithmetic = "float32"

    def __init__(self, members: int = 1, shift: float = 0.0) -> None:
        self.members = [None] * members
        self.temperatures = (1.0,) * members
        self.shift = shift
        self.asked = 0

    def forward(self, crops: Mapping[CropSpec, torch.Tensor]) -> tuple[MemberOutput, ...]:
        red = crops[CropSpec(16)][:, 0].mean((1, 2)) + 0.5
        self.asked += len(red)
        logits = torch.stack([red, 1 - red, torch.zeros_like(red)], 1)
        none, deltas = logits[:, :0], logits[:, :0]
        if self.shift:  # class 0 moves every region to the right, class 1 leaves it
            deltas = torch.zeros(len(red), 8)
            deltas[:, 0] = self.shift
        return tuple(
            MemberOutput(logits * (1 + member), none, none, deltas, none)
            for member in range(len(self.members))
        )


def make_detector(
    members: int = 1, shift: float = 0.0, limit: int | None = None
) -> tuple[Detector, Redness]:
    ensemble = Redness(members, shift)
    settings = DetectionSettings(max_proposals=limit, regression=shift > 0)
    classes = ("red", "other")
    return Detector(Halves(), ensemble, classes, settings, chunk=4), ensemble  # type: ignore[arg-type]


def manifest(**changes: object) -> BundleManifest:
    """Of two networks, each with a box regression, the first with SVMs too."""
    members = tuple(
        MemberManifest(architecture="googlenet", sha256=name, **changes) for name in ("a", "b")
    )
    heads = (
        {"kind": "regression", "sha256": "r0"},
        {"kind": "regression", "member": 1, "sha256": "r1"},
        {"kind": "svm", "sha256": "s0"},
    )
    about = Provenance(training_data="none", licence="CC0-1.0")
    return BundleManifest(
        classes=("red", "other"), members=members, provenance=about, heads=heads
    )  # fmt: skip


def store_in(folder: Path, detector: Detector) -> RegionStore:
    return region_store(folder, detector, manifest())


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    samples = []
    for i in range(5):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (40, 30), (50 * i, 0, 0)).save(path)
        samples.append(Sample(str(i), path, (30, 40), Annotations.empty()))
    return Dataset("toy", ("red", "other"), tuple(samples))


def scored(
    detector: Detector, dataset: Dataset, store: RegionStore, *more: Any, **how: Any
) -> dict[str, RegionScores]:
    found = {}
    for sample, one in score_dataset(detector, dataset, store, *more, **how):
        assert isinstance(one, RegionScores)
        found[sample.image_id] = one
    return found


def check_as_afresh(detector: Detector, dataset: Dataset, found: dict[str, RegionScores]) -> None:
    """Bit for bit what the detector says of each image by itself."""
    assert found.keys() == {sample.image_id for sample in dataset.samples}
    for sample in dataset.samples:
        image = np.asarray(Image.open(sample.path))
        proposals = detector.propose(image)
        alone = detector.predict(image, proposals)
        one = found[sample.image_id]
        assert one.scores.tobytes() == alone.scores.tobytes()
        assert one.boxes.tobytes() == alone.boxes.tobytes()
        assert one.proposals.boxes.tobytes() == proposals.boxes.tobytes()
        assert one.proposals.size == (30, 40)


def test_scores_are_the_detectors_own_and_asked_for_once(dataset: Dataset, tmp_path: Path) -> None:
    detector, ensemble = make_detector()
    store = store_in(tmp_path / "regions", detector)
    first, again = (scored(detector, dataset, store) for _ in range(2))
    assert ensemble.asked == 15
    check_as_afresh(detector, dataset, first)
    check_as_afresh(detector, dataset, again)


def test_prior_temperature_members_and_fewer_regions_share_what_is_kept(
    dataset: Dataset, tmp_path: Path
) -> None:
    """Two networks were asked of three regions; nothing below asks again, and all is as afresh."""
    dataset = dataset.subset(["1", "3"])
    detector, _ = make_detector(members=2, shift=0.25)
    plain = scored(detector, dataset, store_in(tmp_path / "regions", detector))
    seen = {plain["3"].scores.tobytes()}
    for members, temperatures in ((1, (1.0,)), (1, (3.0,)), (2, (0.5, 3.0))):
        for prior in (None, SizePrior(sides=(0.5, 0.8), log_odds=(-2.0, 1.0))):
            for limit in (None, 1, 500):
                detector, ensemble = make_detector(members, 0.25, limit)
                detector = replace(detector, prior=prior, temperatures=temperatures)
                found = scored(detector, dataset, store_in(tmp_path / "regions", detector))
                assert ensemble.asked == 0
                check_as_afresh(detector, dataset, found)
                assert len(found["3"].scores) == min(limit or 3, 3)
                seen.add(found["3"].scores.tobytes())
    assert len(seen) == 1 + 3 * 2 * 2  # three regions or one; 500 are the three


def test_without_its_heads_a_network_is_not_asked_again(dataset: Dataset, tmp_path: Path) -> None:
    detector, _ = make_detector(shift=0.25)
    scored(detector, dataset, store_in(tmp_path / "regions", detector))
    detector, ensemble = make_detector()
    found = scored(detector, dataset, store_in(tmp_path / "regions", detector))
    assert ensemble.asked == 0
    check_as_afresh(detector, dataset, found)


def test_more_regions_than_are_kept_are_asked_for_and_then_serve_fewer(
    dataset: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "regions"
    for limit, asked in ((1, 5), (2, 10), (1, 0), (None, 15), (2, 0), (500, 0)):
        detector, ensemble = make_detector(limit=limit)
        found = scored(detector, dataset, store_in(folder, detector))
        assert ensemble.asked == asked
        check_as_afresh(detector, dataset, found)
    assert len(list(folder.rglob("*.npz"))) == 5


def test_boxes_of_each_class_are_kept_with_the_scores(dataset: Dataset, tmp_path: Path) -> None:
    detector, ensemble = make_detector(shift=0.5)
    store = store_in(tmp_path / "regions", detector)
    for _ in range(2):
        boxes = scored(detector, dataset, store)["0"].boxes
        # The left half of 40 pixels becomes the middle; other classes' boxes stay.
        assert boxes[1].tolist() == [[10, 0, 30, 30], [0, 0, 20, 30]]
        assert boxes.shape == (3, 2, 4)
    assert ensemble.asked == 15


def test_an_image_without_regions_is_kept_too(dataset: Dataset, tmp_path: Path) -> None:
    detector, _ = make_detector(members=2, shift=0.5)
    detector = replace(detector, proposer=lambda image: Proposals([], image.shape[:2]))
    store = region_store(tmp_path / "regions", detector, manifest(), "00")
    for _ in range(2):
        found = scored(detector, dataset, store)
        assert {one.scores.shape for one in found.values()} == {(0, 3)}
        assert {one.boxes.shape for one in found.values()} == {(0, 2, 4)}
    assert len(list(store.folders[0].iterdir())) == 5


def test_an_interruption_loses_nothing_that_was_done(dataset: Dataset, tmp_path: Path) -> None:
    detector, ensemble = make_detector()
    store = store_in(tmp_path / "regions", detector)
    started = iter(range(10))

    class Stopping:
        def __bool__(self) -> bool:
            return next(started) >= 2

    done = scored(detector, dataset, store, stop=Stopping())
    assert list(done) == ["0", "1"]
    assert ensemble.asked == 6
    assert list(scored(detector, dataset, store)) == list("01234")
    assert ensemble.asked == 15


def test_proposals_come_from_their_cache(dataset: Dataset, tmp_path: Path) -> None:
    detector, _ = make_detector()
    store = store_in(tmp_path / "regions", detector)
    with ProposalStore(tmp_path / "p.sqlite", "rw") as proposals:
        proposing = proposing_with(detector, proposals)
        assert len(scored(detector, dataset, store, proposing)) == 5
        assert proposals.count() == 5
    # A file of proposals may also be used as it is, by a detector that would propose others. It
    # says how they were made: these are the ones above, so what was said of them is found.
    stored = StoredProposals(tmp_path / "p.sqlite")
    same = region_store(tmp_path / "regions", detector, manifest(), stored.key)
    assert same.folders == store.folders
    other = region_store(tmp_path / "other", detector, manifest(), stored.key)
    found = scored(detector, dataset, other, proposing_from(stored))
    assert [len(one.proposals) for one in found.values()] == [3] * 5
    Image.new("RGB", (40, 30), (1, 2, 3)).save(dataset.samples[2].path)
    with pytest.raises(ProposalError, match="no proposals for"):
        scored(detector, dataset, other, proposing_from(stored))
    dataset.samples[2].path.write_text("not an image")
    errors = [one for _, one in score_dataset(detector, dataset, other, proposing_from(stored))]
    assert sum(isinstance(one, ImageError) for one in errors) == 1


def test_a_broken_image_is_an_error_in_its_place_and_the_rest_go_on(
    dataset: Dataset, tmp_path: Path
) -> None:
    dataset.samples[1].path.write_text("not an image")
    dataset.samples[3].path.unlink()
    detector, _ = make_detector()
    store = store_in(tmp_path / "regions", detector)
    found = {s.image_id: r for s, r in score_dataset(detector, dataset, store)}
    assert sorted(found) == list("01234")
    errors = {name for name, one in found.items() if isinstance(one, ImageError)}
    assert errors == {"1", "3"}


def test_what_a_bundle_learnt_from_is_known_under_other_names(
    dataset: Dataset, tmp_path: Path, monkeypatch
) -> None:
    learnt, copies = dataset.subset(["0", "2", "3"]), []
    for sample in dataset.samples:
        path = tmp_path / f"{len(copies)}.bin"
        path.write_bytes(sample.path.read_bytes())
        copies.append(replace(sample, path=path))
    copied = replace(dataset, samples=tuple(copies))

    def bundle(pictures: tuple[str, ...]) -> BundleManifest:
        origin = manifest().provenance.model_copy(update={"pictures": pictures})
        return manifest().model_copy(update={"provenance": origin})

    whole = bundle(picture_hashes(learnt))
    assert trained_on(whole, copied) == trained_on(whole, dataset) == 3
    assert trained_on(whole, dataset.subset(["1", "4"])) == 0
    assert trained_on(bundle(()), dataset) == 0
    monkeypatch.setattr("detector.evaluation.scoring.regions.TRAINED_ON", 2)
    assert len(picture_hashes(dataset)) == 2
    dataset.samples[0].path.unlink()
    assert trained_on(whole, dataset) == 2


def test_what_is_kept_comes_before_the_beginning(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, _ = make_detector()
    store = store_in(tmp_path / "regions", detector)
    scored(detector, dataset.subset(["1", "2"]), store)
    order: list[str] = []
    monkeypatch.setattr(Pace, "begin", lambda _: order.append("begin"))
    for sample, _ in score_dataset(detector, dataset, store):
        order.append(sample.image_id)
    assert order == ["1", "2", "begin", "0", "3", "4"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"x" * 100, None])
def test_a_damaged_file_counts_as_missing(
    dataset: Dataset, tmp_path: Path, damage: bytes | None
) -> None:
    detector, ensemble = make_detector()
    store = store_in(tmp_path / "regions", detector)
    scored(detector, dataset, store)
    victim = sorted(store.folders[0].iterdir())[0]
    whole = bytearray(victim.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    victim.write_bytes(bytes(whole) if damage is None else damage)
    check_as_afresh(detector, dataset, scored(detector, dataset, store))
    assert ensemble.asked == 15 + 3 + 15  # the last of judging afresh


def test_a_changed_byte_never_gives_other_numbers(dataset: Dataset, tmp_path: Path) -> None:
    """Some bytes of a file, one at a time: the file is missing, or says what it said."""
    detector, _ = make_detector()
    store = store_in(tmp_path / "regions", detector)
    before = scored(detector, dataset.subset(["1"]), store)["1"].scores
    (victim,) = store.folders[0].iterdir()
    whole = victim.read_bytes()
    missing = 0
    for place in range(0, len(whole), 20):
        victim.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        found = store.get(victim.stem)
        missing += found is None
        if found is not None:
            judged = detector.aggregate(found)
            assert judged.scores.tobytes() == before.tobytes()
    assert missing > len(whole) / 40


def a_file(store: RegionStore, **changes: Array) -> None:
    """The file "c" of the first part: one region of one, three numbers."""
    content = {
        "boxes": np.array([[0, 0, 5, 5]], np.float32), "size": np.array((10, 10)),
        "total": np.array(1), "values": np.zeros((1, 3), np.float32),
    }  # fmt: skip
    np.savez(store.folders[0] / "c.npz", **(content | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"values": np.zeros((2, 3), np.float32)},
        {"values": np.zeros((1, 4), np.float32)},
        {"values": np.zeros(3, np.float32)},
        {"values": np.zeros((1, 3))},
        {"total": np.array(0)},
        {"total": np.array(2)},
        {"total": np.array((1, 1))},
        {"size": np.array((10,))},
        {"size": np.array(10)},
        {"boxes": np.array([[5, 0, 0, 5]], np.float32)},
    ],
)
def test_what_does_not_fit_counts_as_missing(tmp_path: Path, changes: dict[str, Array]) -> None:
    store = store_in(tmp_path, make_detector()[0])
    a_file(store)
    assert store.get("c") is not None
    a_file(store, **changes)
    assert store.get("c") is None


def test_an_array_that_no_memory_holds_counts_as_missing(tmp_path: Path) -> None:
    store = store_in(tmp_path, make_detector()[0])
    a_file(store)
    head = io.BytesIO()
    what = {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 3)}
    np.lib.format.write_array_header_1_0(head, what)
    path = store.folders[0] / "c.npz"
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()} | {
            "values.npy": head.getvalue()
        }
    with zipfile.ZipFile(path, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data)
    assert store.get("c") is None


def test_parts_with_other_boxes_are_not_put_together(dataset: Dataset, tmp_path: Path) -> None:
    detector, ensemble = make_detector(members=2)
    store = store_in(tmp_path / "regions", detector)
    scored(detector, dataset, store)
    for path in store.folders[1].iterdir():
        with np.load(path) as file:
            content = dict(file)
        np.savez(path, **(content | {"boxes": content["boxes"][[0, 2, 1]]}))
    check_as_afresh(detector, dataset, scored(detector, dataset, store))
    assert ensemble.asked == 15 + 15 + 15
    scored(detector, dataset, store)  # what did not go together was replaced
    assert ensemble.asked == 45


def test_older_files_are_left_alone_and_not_used(dataset: Dataset, tmp_path: Path) -> None:
    """Finished scores, as they were kept before: whatever their folder, they count as missing."""
    detector, ensemble = make_detector()
    store = store_in(tmp_path / "regions", detector)
    scored(detector, dataset, store)
    for path in store.folders[0].iterdir():
        with np.load(path) as file:
            kept = {name: file[name] for name in ("boxes", "size")}
        np.savez_compressed(path, scores=np.ones((3, 3), np.float32), **kept)
    check_as_afresh(detector, dataset, scored(detector, dataset, store))
    assert ensemble.asked == 15 + 15 + 15


def test_what_decides_the_numbers_is_another_folder_and_nothing_else_is(tmp_path: Path) -> None:
    detector, _ = make_detector()

    def folder(proposals: str | None = None, **first: object) -> Path:
        members = manifest().members
        entries = (members[0].model_copy(update=first), members[1])
        changed = manifest().model_copy(update={"members": entries})
        return region_store(tmp_path, detector, changed, proposals).folders[0]

    one = folder()
    assert folder(stored_as="int8", file="x.safetensors", temperature=2.0) == one
    assert folder(activation_ranges={"conv1": 1.0}) == one
    apart = [
        folder(sha256="c"), folder(context=0.2), folder(input_size=128), folder(mean=(0, 0, 0)),
        folder(options={"form": "bn"}), folder(trunk=SharedTrunk(1, "4c")), folder(proposals="00"),
    ]  # fmt: skip
    detector.ensemble.arithmetic = "int8"
    apart += [folder(), folder(activation_ranges={"conv1": 1.0})]
    assert len({one, *apart}) == 10


def test_each_member_and_each_kind_of_head_has_a_folder(tmp_path: Path) -> None:
    both, _ = make_detector(members=2, shift=0.5)
    parts = [(one.member, one.field, one.columns) for one in store_in(tmp_path, both).parts]
    assert parts == [(0, "logits", 3), (0, "deltas", 8), (1, "logits", 3), (1, "deltas", 8)]
    alone, _ = make_detector(shift=0.5)
    assert store_in(tmp_path, alone).folders == store_in(tmp_path, both).folders[:2]
    alone = replace(alone, settings=alone.settings.model_copy(update={"svm": True}))
    three = store_in(tmp_path, alone).folders
    assert [three[0], three[2]] == store_in(tmp_path, both).folders[:2]
    assert len(list(tmp_path.iterdir())) == 5


def test_a_cascade_is_another_folder_by_all_that_later_members_repeat(tmp_path: Path) -> None:
    both, _ = make_detector(members=2)

    def folder(cascade: float | None, temperatures=(1.0, 1.0), **first: object) -> Path:
        members = manifest().members
        entries = (members[0].model_copy(update=first), members[1])
        changed = manifest().model_copy(update={"members": entries})
        settings = both.settings.model_copy(update={"cascade": cascade})
        detector = replace(both, settings=settings, temperatures=temperatures)
        store = region_store(tmp_path, detector, changed)
        logits = [one.field == "logits" and one.member == 1 for one in store.parts]
        return store.folders[logits.index(True)]

    assert folder(None, (1.0, 2.0), sha256="c") == folder(None)
    apart = [folder(None), folder(0.1), folder(0.2), folder(0.1, (1.0, 2.0))]
    assert len({*apart, folder(0.1, sha256="c")}) == 5
