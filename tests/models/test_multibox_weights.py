"""google/multibox's tensors under their own names and axes become our network exactly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_caffemodel import message, number, varint
from torch import Tensor

from detector.errors import WeightsError
from detector.models.bn_inception import RELEASED, PadAsDistBelief
from detector.models.caffe2_tensors import read_caffe2_tensors
from detector.models.inference import prepare_for_inference
from detector.models.multibox_weights import (
    LESS_HALF,
    load_multibox_trunk,
    load_released_multibox,
    trunk_names,
)
from detector.models.pretrained import read_tensors
from detector.models.start import load_start
from detector.structures import FILL_MEAN


def released_tensors() -> dict[str, Tensor]:
    """Random numbers in the shapes of the released files, (outputs, height, width, inputs)."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv2d0": (64, 7, 7, 3), "conv2d1": (64, 1, 1, 64), "conv2d2": (192, 3, 3, 64)}
    inputs = 192
    for block, w in RELEASED.items():
        widths = {
            "1x1": (w.one, 1, inputs),
            "3x3_bottleneck": (w.reduce3, 1, inputs),
            "3x3": (w.three, 3, w.reduce3),
            "3x3d_bottleneck": (w.reduce_double, 1, inputs),
            "3x3d_pre": (w.double, 3, w.reduce_double),
            "3x3d": (w.double, 3, w.double),
            "pool_reduce": (w.pooled, 1, inputs),
        }
        for part, (outputs, kernel, given) in widths.items():
            if outputs:
                shapes[f"mixed{block}_{part}"] = (outputs, kernel, kernel, given)
        inputs = w.one + w.three + w.double + (w.pooled or inputs)
    shapes["nn0"], shapes["nn1"] = (4096, 3, 3, 1024), (4096, 1, 1, 4096)
    shapes["imagenet_location_projection"] = (3200, 1, 1, 4096)
    shapes["imagenet_confidence_projection"] = (800, 1, 1, 4096)
    tensors = {}
    for name, shape in shapes.items():
        deviation = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        tensors[f"{name}_w"] = torch.randn(shape, generator=generator) * deviation
        tensors[f"{name}_b"] = torch.randn(shape[0], generator=generator) / 10
    return tensors


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return released_tensors()


def plain_trunk(x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """The released network's last map, layer by layer, written out from its definition."""

    def same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
        sides = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            sides += [total // 2, total - total // 2]
        return F.pad(x, sides, value=value)

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = tensors[f"{name}_w"].permute(0, 3, 1, 2)
        x = same(x, weight.shape[2], stride)
        return F.conv2d(x, weight, tensors[f"{name}_b"], stride).clamp(0, 6)

    def biggest(x: Tensor, stride: int) -> Tensor:
        return F.max_pool2d(same(x, 3, stride, -torch.inf), 3, stride)

    def mean(x: Tensor) -> Tensor:
        ones = same(torch.ones_like(x), 3, 1)
        return F.avg_pool2d(same(x, 3, 1), 3, 1) / F.avg_pool2d(ones, 3, 1)

    x = biggest(conv("conv2d0", x, 2), 2)
    x = biggest(conv("conv2d2", conv("conv2d1", x)), 2)
    for block in RELEASED:
        m, stride = f"mixed{block}", 2 if block in ("3c", "4e") else 1
        three = conv(f"{m}_3x3", conv(f"{m}_3x3_bottleneck", x), stride)
        double = conv(f"{m}_3x3d_pre", conv(f"{m}_3x3d_bottleneck", x))
        branches = [three, conv(f"{m}_3x3d", double, stride)]
        if stride == 2:
            branches.append(biggest(x, 2))
        else:
            pooled = biggest(x, 1) if block == "5b" else mean(x)
            branches = [conv(f"{m}_1x1", x), *branches, conv(f"{m}_pool_reduce", pooled)]
        x = torch.cat(branches, 1)
    return x


def plain_boxes(last_map: Tensor, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The fully connected layers on channels-last maps, as their weights are stored."""

    def full(name: str, x: Tensor) -> Tensor:
        return x @ tensors[f"{name}_w"].flatten(1).T + tensors[f"{name}_b"]

    x = F.avg_pool2d(last_map, 3, 2).permute(0, 2, 3, 1).flatten(1)
    x = full("nn1", full("nn0", x).clamp(0, 6)).clamp(0, 6)
    places = full("imagenet_location_projection", x).view(-1, 800, 4)
    return places, full("imagenet_confidence_projection", x)


def test_the_released_network_gives_its_own_boxes(tensors):
    """Same outputs to 1e-5 of their spread as the definition written out on other axes."""
    model = load_released_multibox(tensors).eval()
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) / 2
    with torch.no_grad():
        found, expected = model(x), plain_boxes(plain_trunk(x, tensors), tensors)
    assert found[0].shape == (1, 800, 4)
    assert found[1].shape == (1, 800)
    for one, other in zip(found, expected, strict=True):
        assert other.std() > 0.1
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.std()))


def test_there_are_69_convolutions_with_the_released_depths():
    """3 of the stem, 8 modules of 7 and 2 of 5; 4c and 4d keep 576 channels."""
    names = trunk_names()
    assert len(names) == len(set(names)) == 3 + 8 * 7 + 2 * 5 == 69
    depths = [w.one + w.three + w.double + w.pooled for w in RELEASED.values() if w.one]
    assert depths == [256, 320, 576, 576, 576, 576, 1024, 1024]


def test_an_input_is_pixels_less_a_half():
    crop = torch.zeros(1, 3, 1, 1)  # the mean colour
    expected = [mean - 0.5 for mean in FILL_MEAN]
    assert LESS_HALF(crop).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("kernel", "side", "before", "after"), [(7, 8, 2, 3), (3, 5, 1, 1)])
def test_padding_puts_the_odd_zero_at_the_end(kernel, side, before, after):
    padded = PadAsDistBelief(kernel)(torch.ones(1, 1, side, side))
    line = padded[0, 0, before].tolist()
    assert line == [0.0] * before + [1.0] * side + [0.0] * after


def test_the_trunk_starts_a_region_classifier(tensors, tmp_path):
    trunk = {name: value for name, value in tensors.items() if name.startswith(("conv", "mixed"))}
    torch.save(trunk, tmp_path / "multibox.pth")
    loaded = load_start(tmp_path / "multibox.pth", "bn_inception", 21, {"form": "multibox"}).eval()
    x = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(2)) / 2
    with torch.no_grad():
        features, expected = loaded.features(x), plain_trunk(x, trunk).mean((2, 3))
        assert expected.std() > 0.1
        torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
        fast = prepare_for_inference(loaded).features(x)
        torch.testing.assert_close(fast, features, rtol=1e-4, atol=1e-4)
    assert features.max() <= 6
    assert loaded(x).shape == (2, 21)
    assert loaded.normalisation == LESS_HALF
    with pytest.raises(WeightsError, match=r"options\.form"):
        load_start(tmp_path / "multibox.pth", "bn_inception", 21, {})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("mixed4c_3x3d_pre_w", None, "mixed4c_3x3d_pre_w is missing"),
        ("mixed4c_3x3d_pre_w", torch.zeros(160, 128), "mixed4c_3x3d_pre_w has 2 axes"),
        ("mixed4c_pool_reduce_b", torch.zeros(128), r"has shape \(128,\), expected \(96,\)"),
        ("conv2d0_b", torch.full((64,), torch.inf), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(name, value, words, tensors):
    spoiled = dict(tensors)
    if value is None:
        del spoiled[name]
    else:
        spoiled[name] = value
    with pytest.raises(WeightsError, match=words):
        load_multibox_trunk(spoiled, 3, "file")


def tensor_message(name: str, value: Tensor, kind: int = 1) -> bytes:
    """One TensorProto: sides, type, packed floats, name."""
    sides = b"".join(number(1, side) for side in value.shape)
    floats = value.numpy().astype("<f4").tobytes()
    return message(1, sides + number(2, kind) + message(3, floats) + message(7, name.encode()))


def test_tensors_cut_into_parts_are_read_from_any_of_them(tmp_path):
    """Cut in the middle of a number, as the released files may be."""
    expected = {"a_w": torch.arange(6.0).view(1, 2, 3), "a_b": torch.tensor([7.0])}
    data = b"".join(tensor_message(name, value) for name, value in expected.items())
    for part, piece in enumerate((data[:21], data[21:40], data[40:])):
        (tmp_path / f"t.pb.part0{part}").write_bytes(piece)
    found = read_tensors(tmp_path / "t.pb.part01")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no tensors"),
        (b"hello there", "not Caffe2's tensors"),
        (tensor_message("a", torch.ones(3))[:-4], "truncated"),
        (tensor_message("a", torch.ones(3), kind=2), "type 2, expected float"),
        (message(1, number(1, 5) + message(3, bytes(12))), r"\[5\] holds 3 numbers"),
        (message(1, varint(3 << 3) + varint(9)), "a number where a message"),
    ],
)
def test_what_is_not_such_a_file_is_refused(content: bytes, words: str, tmp_path: Path):
    (tmp_path / "t.pb").write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        read_tensors(tmp_path / "t.pb")


def test_missing_parts_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no file: no tensors"):
        read_caffe2_tensors([])
    with pytest.raises(WeightsError, match="cannot be read"):
        read_caffe2_tensors([tmp_path / "t.pb.part00"])


def test_a_pipe_among_the_parts_is_refused_and_not_waited_for(tmp_path: Path, at_most_20_s):
    (tmp_path / "t.pb.part00").write_bytes(b"")
    os.mkfifo(tmp_path / "t.pb.part01")
    with pytest.raises(WeightsError, match=r"part01: .*not a regular file"):
        read_tensors(tmp_path / "t.pb.part00")
