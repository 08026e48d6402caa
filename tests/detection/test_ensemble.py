"""An ensemble is the mean of its members' softmax, and every region is judged for itself."""

import pytest
import torch
from torch import nn

from detector.detection.aggregate import class_scores
from detector.detection.ensemble import CropSpec, Ensemble, Member, SharedTrunk
from detector.errors import SettingsError
from detector.models.googlenet import GoogLeNet
from detector.models.inference.prepare import FixedBatches
from detector.models.input_normalisation import HALF, Normalisation
from detector.models.split import Trunk


class Constant(nn.Module):
    """Logits that do not look at the crop."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, len(logits))
        self.classifier.bias.data = torch.tensor(logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier.bias.expand(len(x), -1)


def noise(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0)) / 4


def test_probabilities_are_the_mean_of_softmax_not_of_logits():
    """softmax(0, ln 3) = (1/4, 3/4) and softmax(0, 0) = (1/2, 1/2): mean (3/8, 5/8)."""
    one, two = Constant(0.0, float(torch.tensor(3.0).log())), Constant(0.0, 0.0)
    both = Ensemble([Member(one, 8), Member(two, 16)])
    assert [spec.size for spec in both.crop_specs] == [8, 16]
    found = both({CropSpec(8): noise(3, 8), CropSpec(16): noise(3, 16)})
    torch.testing.assert_close(found, torch.tensor([[0.375, 0.625]]).expand(3, 2))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_region_scores_the_same_in_any_company_and_with_any_workers(precision):
    model = GoogLeNet(4, generator=torch.Generator().manual_seed(0))
    crops = noise(11, 64)
    run = Ensemble([Member(model, 64)], precision=precision, batch_size=4, workers=2)
    alone = Ensemble([Member(model, 64)], precision=precision, batch_size=4, workers=1)
    together = run({CropSpec(64): crops})
    assert len({tuple(row) for row in together.tolist()}) == 11  # the scores do differ
    for index in (0, 3, 6, 10):
        assert torch.equal(alone({CropSpec(64): crops[index : index + 1]})[0], together[index])
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    assert torch.equal(run({CropSpec(64): crops[order]}), together[order])


def test_on_a_processor_a_batch_has_eight_crops_and_a_thread_of_its_own():
    for workers in (None, 3):
        made = Ensemble([Member(Constant(0.0, 1.0), 8)], workers=workers)
        (group,) = made.groups
        assert group.batches.batch_size == 8
        assert group.batches.pool is not None
        assert group.batches.pool._max_workers == (workers or torch.get_num_threads())


def test_members_see_their_own_normalisation():
    model = GoogLeNet(3, generator=torch.Generator().manual_seed(0)).eval()
    crops = noise(2, 64)
    with torch.no_grad():
        expected = model(HALF(crops)).softmax(1)
    torch.testing.assert_close(
        Ensemble([Member(model, 64, HALF)])({CropSpec(64): crops}), expected, rtol=1e-4, atol=1e-5
    )


def test_no_regions_give_no_rows():
    assert Ensemble([Member(Constant(0.0, 1.0), 8)])({CropSpec(8): noise(0, 8)}).shape == (0, 2)


def test_what_cannot_be_an_ensemble_is_refused():
    with pytest.raises(SettingsError, match="at least one"):
        Ensemble([])
    with pytest.raises(SettingsError, match=r"\[2, 3\]"):
        Ensemble([Member(Constant(0.0, 0.0), 8), Member(Constant(0.0, 0.0, 0.0), 8)])
    with pytest.raises(SettingsError, match="classifier"):
        Ensemble([Member(nn.Sequential(), 8)])
    with pytest.raises(ValueError, match="size=16"):
        Ensemble([Member(Constant(0.0, 0.0), 16)])({CropSpec(8): noise(1, 8)})


@pytest.mark.parametrize("given", [{"batch_size": 0}, {"batch_size": -3}, {"workers": 0}])
def test_none_at_a_time_is_refused(given):
    with pytest.raises(SettingsError, match="at least 1"):
        Ensemble([Member(Constant(0.0, 0.0), 8)], **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"context": 0.4999999999999999}, "context"),
        ({"context": float("nan")}, "context"),
        ({"normalisation": Normalisation((0, 0, 0), (1, 1e-300, 1))}, "normalisation"),
        ({"normalisation": Normalisation((0, 0, 0), (1e308, 1, 1))}, "normalisation"),
        ({"normalisation": Normalisation((0, float("nan"), 0), (1, 1, 1))}, "normalisation"),
    ],
)
def test_crops_that_no_network_can_use_are_refused(given, said):
    with pytest.raises(SettingsError, match=said):
        Member(Constant(0.0, 0.0), 8, **given)


def test_members_with_a_common_trunk_give_what_they_give_alone():
    torch.manual_seed(0)
    one, two, other = GoogLeNet(3).eval(), GoogLeNet(3).eval(), GoogLeNet(3).eval()
    of_trunk = Trunk(one, "4e").state_dict()
    shared = {name: value for name, value in one.state_dict().items() if name in of_trunk}
    two.load_state_dict({**two.state_dict(), **shared})
    crops = {CropSpec(64): noise(5, 64), CropSpec(64, 0.2): noise(5, 64) / 2}
    third = Member(two, 64, trunk=SharedTrunk(0, "4e"))
    members = [Member(one, 64), Member(other, 64, context=0.2), third]
    apart = [Ensemble([Member(m.model, 64, context=m.context)])(crops) for m in members]
    together = Ensemble(members)
    positions = [[top.position for top in group.tops] for group in together.groups]
    assert positions == [[1], [0, 2]]
    torch.testing.assert_close(together(crops), sum(apart) / 3, rtol=1e-5, atol=1e-6)
    alone = [Ensemble([m], batch_size=4).features(crops)[0] for m in members[:2]]
    for found, expected in zip(together.features(crops), alone, strict=False):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_common_trunk_that_takes_other_inputs_runs_by_itself():
    torch.manual_seed(0)
    one = GoogLeNet(3).eval()
    other = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    members = [Member(one, 64), Member(one, 64, normalisation=other, trunk=SharedTrunk(0, "4e"))]
    crops = {CropSpec(64): noise(5, 64)}
    apart = [Ensemble([Member(one, 64, normalisation=m.normalisation)])(crops) for m in members]
    assert not torch.allclose(apart[0], apart[1])
    torch.testing.assert_close(Ensemble(members)(crops), sum(apart) / 2, rtol=1e-5, atol=1e-6)


class Brightness(nn.Module):
    """The mean of a crop, scaled, as the first of two logits."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.classifier = nn.Linear(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.scale * x.mean((1, 2, 3))
        return torch.stack([mean, torch.zeros_like(mean)], 1)


@pytest.mark.parametrize(("threshold", "likely"), [(0.0, 3), (0.5, 2), (0.99, 0)])
def test_members_after_the_first_see_only_regions_that_it_finds_likely(
    threshold, likely, monkeypatch
):
    spec = CropSpec(8)
    crops = {spec: torch.tensor([2.0, 1.0, -2.0]).reshape(3, 1, 1, 1).expand(3, 3, 8, 8)}
    both = Ensemble([Member(Brightness(scale), 8) for scale in (1.0, 3.0)], batch_size=1)
    alone = Ensemble([Member(Brightness(1.0), 8)], batch_size=1)
    looked, run = [], FixedBatches.__call__

    def watched(self, crops, function=None):
        looked.append((self is both.groups[1].batches, len(crops)))
        return run(self, crops, function)

    monkeypatch.setattr(FixedBatches, "__call__", watched)
    temperatures = [1.0, 2.0]
    found = class_scores(both.cascade(crops, temperatures, threshold), temperatures)
    assert looked == [(False, 3), (True, likely)]
    every = class_scores(both.forward(crops), temperatures)
    assert torch.equal(found[:likely], every[:likely])
    torch.testing.assert_close(found[likely:], alone(crops)[likely:])
