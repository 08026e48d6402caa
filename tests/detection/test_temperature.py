"""A temperature mends how sure a network is: fitted, put before the mean and the prior, stored."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.datasets import Sample
from detector.detection.aggregate import class_scores, softmax_of
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    join_bundles,
    load_bundle,
    read_manifest,
    save_bundle,
    save_heads,
    save_temperatures,
)
from detector.detection.ensemble import CropSpec, Ensemble, Member
from detector.detection.load import load_detector
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import with_prior
from detector.errors import BundleError, SettingsError, TrainingError
from detector.heads import BoxRegression, HeadManifest
from detector.models import build_model
from detector.structures import Annotations, Array
from detector.training.heads.temperature import LEFT_OUT, fit_temperature, log_loss, region_labels


class Constant(nn.Module):
    """Logits that do not look at the crop."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, len(logits))
        self.classifier.bias.data = torch.tensor(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier.bias.expand(len(x), -1)


LN3 = float(np.log(3))


def said(*members: Member, log_odds: Array | None = None) -> list[float]:
    crops = {CropSpec(8): torch.zeros(1, 3, 8, 8)}
    ensemble = Ensemble(members)
    return class_scores(ensemble.forward(crops), ensemble.temperatures, log_odds)[0].tolist()


def test_logits_are_divided_before_the_softmax_and_the_mean_comes_after():
    """Logits (2 ln 3, 0) are odds of 9, at T = 2 odds of 3: (3/4, 1/4); with (1/2, 1/2) beside."""
    sure, even = Constant(2 * LN3, 0.0), Constant(0.0, 0.0)
    assert said(Member(sure, 8)) == pytest.approx([0.9, 0.1])
    assert said(Member(sure, 8, temperature=2.0)) == pytest.approx([0.75, 0.25])
    both = [Member(sure, 8, temperature=2.0), Member(even, 8, temperature=5.0)]
    assert said(*both) == pytest.approx([0.625, 0.375])


def test_the_priors_log_odds_are_not_divided():
    """Odds of an object: 9 ** (1/2), times 1/3 of the prior, are 1."""
    member = Member(Constant(2 * LN3, 0.0), 8, temperature=2.0)
    assert said(member, log_odds=np.array([-LN3])) == pytest.approx([0.5, 0.5])


def test_at_one_the_bits_are_those_of_the_plain_softmax(rng: np.random.Generator):
    logits = [
        torch.from_numpy(rng.normal(0, 5, (50, 21)).astype(np.float32)) for _ in range(2)
    ]  # fmt: skip
    plain = (logits[0].softmax(-1) + logits[1].softmax(-1)) / 2
    assert torch.equal(softmax_of(logits, (1.0, 1.0)), plain)
    odds = rng.normal(size=50)
    found = softmax_of(logits, (1.0, 1.0), odds).numpy()
    assert found.tobytes() == with_prior(plain.numpy(), odds).tobytes()


@pytest.mark.parametrize("bad", [0.0, -1.0, 0.001, 1000.0, float("nan"), float("inf")])
def test_what_is_no_temperature_is_refused(bad: float):
    with pytest.raises(SettingsError, match=r"temperature is .*; expected 0\.01 to 100"):
        Member(Constant(0.0, 0.0), 8, temperature=bad)


def test_the_loss_by_hand():
    """p = 3/4 of the true class, then 1/2: the mean of ln(4/3) and ln 2."""
    logits = np.array([[2 * LN3, 0], [0, 0]])
    expected = (np.log(4 / 3) + np.log(2)) / 2
    assert log_loss(logits, np.array([0, 1]), 2.0) == pytest.approx(expected)
    # The prior makes the first region's odds 3 of object to background odds of 1.
    moved = log_loss(logits[:1], np.array([0]), 2.0, np.array([-LN3]))
    assert moved == pytest.approx(np.log(2))


def test_the_loss_with_a_prior_by_hand():
    """Logits of 0 and odds of an object doubled: 1 and 1 against 1/2."""
    losses = [log_loss(np.zeros((1, 3)), np.array([k]), 1.0, np.array([np.log(2)])) for k in (0, 2)]
    assert losses == pytest.approx([-np.log(1 / 2.5), -np.log(0.5 / 2.5)])


def drawn(rng: np.random.Generator, log_odds: Array | float) -> tuple[Array, Array]:
    """8,000 regions: logits of four classes and background, and classes drawn from what the
    softmax, corrected by log-odds, says: a calibrated network.
    """
    logits = rng.normal(0, 2, (8_000, 5))
    corrected = logits.copy()
    corrected[:, -1] -= log_odds
    chance = np.exp(corrected)
    chance /= chance.sum(1, keepdims=True)
    labels = (chance.cumsum(1) < rng.random((8_000, 1))).sum(1)
    return logits, labels


@pytest.mark.parametrize("true", [1.0, 3.0, 0.4])
def test_the_factor_of_a_calibrated_networks_logits_comes_back(true: float):
    rng = np.random.default_rng(0)
    logits, labels = drawn(rng, 0.0)
    assert fit_temperature(true * logits, labels) == pytest.approx(true, rel=0.05)


def test_with_a_prior_it_comes_back_too():
    rng = np.random.default_rng(1)
    log_odds = rng.uniform(-5, 0, 8_000)
    logits, labels = drawn(rng, log_odds)
    assert fit_temperature(3 * logits, labels, log_odds) == pytest.approx(3, rel=0.05)
    # Left out, the prior would be taken for a fault of the network.
    assert abs(fit_temperature(3 * logits, labels) - 3) > 0.5


@pytest.mark.parametrize(
    ("labels", "word"),
    [([2, 2, 2], "0 of 3 regions"), ([0, 1, 0], "3 of 3 regions"), ([0, 1, 2], "no temperature")],
)
def test_regions_that_cannot_tell_are_refused(labels: list[int], word: str):
    """The last are right with every region: the surer, the likelier, without end."""
    logits = np.eye(3) * 4
    with pytest.raises(TrainingError, match=word):
        fit_temperature(logits, np.array(labels))


BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4], [50, 50, 60, 60]], np.float32)
ONE_CAT = Annotations(BOXES[:1], np.array([0]))


def sample(truth: Annotations, **more: object) -> Sample:
    return Sample("a", Path("a.jpg"), (100, 100), truth, **more)  # type: ignore[arg-type]


def test_a_region_is_of_the_object_that_it_overlaps_best():
    """IoU 1, 0.6, 0.4 and 0."""
    assert region_labels(sample(ONE_CAT), BOXES, 2).tolist() == [0, 0, 2, 2]
    assert region_labels(sample(ONE_CAT), BOXES, 2, 0.3).tolist() == [0, 0, 0, 2]
    assert region_labels(sample(Annotations.empty()), BOXES, 2).tolist() == [2, 2, 2, 2]
    two = Annotations(BOXES[[0, 1]], np.array([0, 1]))
    assert region_labels(sample(two), BOXES, 2).tolist() == [0, 1, 1, 2]


def test_what_does_not_count_is_left_out():
    hard = Annotations(BOXES[:1], np.array([0]), difficult=np.array([True]))
    out = LEFT_OUT
    assert region_labels(sample(hard), BOXES, 2).tolist() == [out, out, 2, 2]
    partial = sample(ONE_CAT, annotated=frozenset({0}))
    assert region_labels(partial, BOXES, 2).tolist() == [out] * 4
    assert region_labels(sample(ONE_CAT, positives_only=True), BOXES, 2).tolist() == [out] * 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow GoogLeNet with box regression that moves nothing."""
    folder = tmp_path_factory.mktemp("temperature") / "bundle"
    options: dict[str, bool | int | float | str] = {"width": 0.125}
    generator = torch.Generator().manual_seed(0)
    model = build_model("googlenet", 3, generator=generator, **options)
    manifest = BundleManifest(
        classes=("cat", "dog"),
        members=(MemberManifest(architecture="googlenet", options=options, input_size=32),),
        proposals={"engine": "selective-search"},
        provenance=Provenance(training_data="none", licence="CC0-1.0", recipe={"seed": 1}),
        metrics={"mAP": 0.5},
    )
    save_bundle(folder, manifest, [model.state_dict()])
    still = BoxRegression(np.zeros((8, 128), np.float32), np.zeros(8, np.float32))
    kept = DetectionSettings(regression=True)
    save_heads(folder, folder, [(HeadManifest(kind="regression"), still)], kept)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_bundle_with_temperatures_comes_back_and_the_source_stays(bundle: Path, tmp_path: Path):
    path = bundle / "bundle.json"  # measured at the old temperature
    path.write_text(path.read_text().replace('"metrics": {}', '"metrics": {"mAP": 50.0}'))
    assert read_manifest(bundle).metrics
    before = files(bundle)
    written = save_temperatures(bundle, tmp_path / "new", [1.5], {"data": "9 images"})
    assert files(bundle) == before
    loaded = load_bundle(tmp_path / "new")
    assert loaded.manifest == written
    assert loaded.manifest.members[0].temperature == 1.5
    assert loaded.manifest.provenance.recipe == {"seed": 1, "temperature": {"data": "9 images"}}
    assert loaded.manifest.metrics == {}
    same = before.keys() - {"bundle.json", "README.md"}
    assert {name: data for name, data in files(tmp_path / "new").items() if name in same} == {
        name: before[name] for name in same
    }
    assert load_detector(tmp_path / "new").ensemble.temperatures == (1.5,)
    assert load_detector(bundle).ensemble.temperatures == (1.0,)


def test_a_bundle_may_be_given_temperatures_and_a_threshold_in_its_place(
    bundle: Path, tmp_path: Path
):
    bundle = Path(shutil.copytree(bundle, tmp_path / "mine"))
    made_of = files(bundle)
    networks = {name: made_of[name] for name in made_of if name.endswith(".safetensors")}
    save_temperatures(bundle, bundle, [2.0], {"data": "9 images"}, score=0.7)
    made = load_bundle(bundle).manifest
    assert (made.members[0].temperature, made.thresholds.score_threshold) == (2.0, 0.7)
    assert {name: data for name, data in files(bundle).items() if name in networks} == networks
    save_temperatures(bundle, bundle, [1.5], {})
    assert read_manifest(bundle).thresholds.score_threshold == 0.7


def test_nothing_is_said_of_a_temperature_of_one_and_nothing_said_is_one(
    bundle: Path, tmp_path: Path
):
    """Older programs read such bundles, and theirs are read."""
    assert "temperature" not in (bundle / "bundle.json").read_text()
    assert read_manifest(bundle).members[0].temperature == 1.0
    save_temperatures(bundle, tmp_path / "new", [1.0], {})
    assert (
        "temperature"
        not in json.loads((tmp_path / "new" / "bundle.json").read_text())["members"][0]
    )


@pytest.mark.parametrize("bad", ["0", "-1", "0.001", "1000", "NaN", "Infinity", '"warm"', "null"])
def test_a_bundle_with_a_bad_temperature_is_refused(bundle: Path, tmp_path: Path, bad: str):
    save_temperatures(bundle, tmp_path / "new", [1.5], {})
    path = tmp_path / "new" / "bundle.json"
    path.write_text(path.read_text().replace('"temperature": 1.5', f'"temperature": {bad}'))
    with pytest.raises(BundleError, match=r"bundle\.json: members\.0\.temperature|not a bundle"):
        load_bundle(tmp_path / "new")


def test_temperatures_that_cannot_be_are_not_written(bundle: Path, tmp_path: Path):
    before = files(bundle)
    with pytest.raises(BundleError, match="1 members but 2 values of temperature"):
        save_temperatures(bundle, tmp_path / "new", [1.5, 2.0], {})
    for bad in (0.0, float("nan")):
        with pytest.raises(BundleError, match=r"members\.0\.temperature"):
            save_temperatures(bundle, tmp_path / "new", [bad], {})
    assert files(bundle) == before
    assert not (tmp_path / "new").exists()


def test_joined_members_keep_their_temperatures(bundle: Path, tmp_path: Path):
    save_temperatures(bundle, tmp_path / "warm", [1.5], {})
    joined = join_bundles([bundle, tmp_path / "warm"], tmp_path / "both")
    assert [member.temperature for member in joined.members] == [1.0, 1.5]
    found = load_detector(tmp_path / "both", members=None).ensemble.temperatures
    assert found == (1.0, 1.5)
