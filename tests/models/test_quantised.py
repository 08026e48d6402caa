"""The 8-bit network is the float one to within its steps, and says where it cannot run."""

import pytest
import torch
from test_pretrained import BVLC, hits, randomised
from torch import nn

from detector.errors import SettingsError
from detector.models import build_model
from detector.models.googlenet import TABLE1, GoogLeNet
from detector.models.inference.int8 import (
    NormInSteps,
    PoolInSteps,
    QuantisedConvReLU,
    ToSteps,
    activation_ranges,
    runs_in_8_bits,
)
from detector.models.inference.prepare import FixedBatches, prepare_for_inference
from detector.models.input_normalisation import CENTRED, HALF
from detector.models.layers import ConvReLU, LocalResponseNorm, MaxPool
from detector.models.weights.outside import load_bvlc_googlenet
from detector.models.weights.pretrained import read_tensors

needs_vnni = pytest.mark.skipif(not runs_in_8_bits("cpu"), reason="no exact 8-bit products here")


def noise(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0)) / 4


def bytes_of(*shape: int) -> torch.Tensor:
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    return x.to(torch.uint8).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("normalisation", [CENTRED, HALF])
def test_every_possible_pixel_has_a_step(normalisation):
    """Black and white come within half a step, and what lies outside the image is exact."""
    enter = ToSteps(normalisation)
    fill = torch.tensor(CENTRED.mean).view(1, 3, 1, 1)
    pixels = torch.linspace(0, 1, 256).view(1, 1, 16, 16).expand(1, 3, 16, 16) - fill
    steps = enter(pixels)
    assert steps.dtype == torch.uint8
    back = (steps.float() - enter.zero) * enter.step
    assert (back - normalisation(pixels)).abs().max() < 1.01 * enter.step  # the zero is rounded too
    outside = enter(torch.zeros(1, 3, 2, 2)).float()
    expected = normalisation(torch.zeros(1, 3, 2, 2))
    assert ((outside - enter.zero) * enter.step - expected).abs().max() <= 0.5 * enter.step


@pytest.mark.parametrize("shape", [(2, 8, 7, 7), (1, 20, 12, 9), (1, 16, 3, 4)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil"),
    [(3, 1, 1, False), (3, 2, 0, True), (2, 2, 0, False), (2, 2, 0, True)],
)
def test_the_pool_of_steps_equals_the_frameworks(shape, kernel, stride, padding, ceil):
    x = bytes_of(*shape)
    pool = MaxPool(kernel, stride=stride, padding=padding, ceil=ceil)
    assert torch.equal(PoolInSteps(pool)(x).float(), pool(x.float()))


def test_the_norm_of_steps_is_right_to_half_a_step():
    x = bytes_of(2, 64, 5, 5)
    norm = LocalResponseNorm(64)
    found = NormInSteps(norm, 4.0, 0.5)(x)
    expected = (norm(x.float() * 4.0) / 0.5).clamp(max=255)
    assert (found.float() - expected).abs().max() < 0.501


@needs_vnni
@pytest.mark.parametrize(("step", "zero"), [(0.02, 0), (0.01, 115)])
def test_a_convolution_of_steps_is_right_to_half_a_step(step, zero):
    layer = randomised(ConvReLU(16, 8, 3, norm=True, padding=1)).eval()
    x = bytes_of(2, 16, 6, 6)
    exact = layer((x.float() - zero) * step)
    quantised = QuantisedConvReLU(layer, step, zero, None)
    rounded = QuantisedConvReLU(layer, step, zero, 0.05)
    with torch.no_grad():
        assert (quantised(x) - exact).abs().max() < 0.02 * exact.abs().max()
        expected = (quantised(x) / 0.05).clamp(max=255)
        assert (rounded(x).float() - expected).abs().max() < 0.51


@pytest.mark.parametrize("form", ["v1", "bn"])
def test_ranges_are_the_largest_activations(form):
    """One for each layer that is rounded: 3 + 2 norms, and 3 for each of nine modules."""
    model = randomised(GoogLeNet(3, form=form)).eval()
    crops = noise(2, 64)
    ranges = activation_ranges(model, crops)
    assert len(ranges) == (5 if form == "v1" else 3) + 3 * len(TABLE1)
    with torch.no_grad():
        expected = {name: float(x.max()) for name, x in model.stages(crops)}
        first = float(model.conv1(crops).max())
    assert ranges["conv1"] == pytest.approx(first, rel=0.2)
    assert ranges["5b"] == pytest.approx(expected["5b"])
    assert not model.training
    assert not any(m._forward_hooks for m in model.modules())


@needs_vnni
@pytest.mark.parametrize("form", ["v1", "bn", "torchvision"])
def test_eight_bit_logits_are_close_and_do_not_depend_on_company(form):
    model = randomised(GoogLeNet(5, form=form)).eval()
    crops = noise(6, 96)
    ranges = activation_ranges(model, crops, HALF)
    run = FixedBatches(prepare_for_inference(model, "int8", HALF, ranges), batch_size=4, workers=2)
    with torch.no_grad():
        expected = model(HALF(crops))
    found = run(crops)
    assert (found - expected).abs().max() < 0.3 * expected.std()
    assert torch.equal(run(crops[2:5]), found[2:5])


@needs_vnni
def test_bvlc_googlenet_in_eight_bits_recognises_thirty_pictures(shared_data, shared_weights):
    """In float32 it is 22 and 26 (test_pretrained.py)."""
    model = load_bvlc_googlenet(read_tensors(shared_weights / BVLC)).eval()
    sample = shared_data / "imagenet_sample"
    calibration = slice(3, None, 80)
    seen: list[torch.Tensor] = []

    class Collect(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return torch.zeros(len(x), 5)

    hits(Collect(), sample, calibration)
    fast = prepare_for_inference(model, "int8", CENTRED, activation_ranges(model, torch.cat(seen)))
    first, five, count = hits(fast, sample, slice(None, None, 34))
    assert count == 30
    assert first >= 20
    assert five >= 25


@pytest.mark.parametrize(
    ("name", "ranges", "words"),
    [
        ("inception_v3", {"conv1": 1.0}, "for GoogLeNet"),
        ("googlenet", None, "needs the activation ranges"),
        ("googlenet", {}, "needs the activation ranges"),
    ],
)
def test_where_it_cannot_run_it_says_why(name, ranges, words):
    with pytest.raises(SettingsError, match=words):
        prepare_for_inference(build_model(name, 3), "int8", CENTRED, ranges)


@pytest.mark.parametrize("option", ["separable_first", "double_three"])
def test_other_layers_than_the_published_are_refused(option):
    with pytest.raises(SettingsError, match="not for separable_first or double_three"):
        prepare_for_inference(GoogLeNet(3, **{option: True}), "int8", CENTRED, {"conv1": 1.0})


@needs_vnni
def test_a_missing_range_is_named():
    ranges = activation_ranges(GoogLeNet(3), noise(1, 64))
    del ranges["4c.reduce5"]
    with pytest.raises(SettingsError, match=r"no entry 4c\.reduce5"):
        prepare_for_inference(GoogLeNet(3), "int8", CENTRED, ranges)
