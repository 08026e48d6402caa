"""The Caffe reader on files written here byte by byte by the wire format's rules.

What it refuses is in test_hostile_weights.py.
"""

import struct

import numpy as np
import pytest
import torch
from test_hostile_weights import message, varint

from detector.errors import WeightsError
from detector.models.googlenet import GoogLeNet
from detector.models.weights.caffemodel import read_caffemodel
from detector.models.weights.outside import CAFFE_HEADS, CAFFE_LAYERS, load_bvlc_googlenet


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def blob(values: np.ndarray, *, old: bool = False, packed: bool = True) -> bytes:
    flat = values.astype("<f4").ravel()
    if packed:
        data = message(5, flat.tobytes())
    else:
        data = b"".join(varint(5 << 3 | 5) + struct.pack("<f", x) for x in flat)
    if old:
        four = (1,) * (4 - values.ndim) + values.shape
        return b"".join(number(i + 1, size) for i, size in enumerate(four)) + data
    return message(7, message(1, b"".join(varint(size) for size in values.shape))) + data


def layer(name: str, *blobs: bytes, kind: str = "Convolution") -> bytes:
    content = message(1, name.encode()) + message(2, kind.encode())
    return message(100, content + b"".join(message(7, one) for one in blobs))


def test_numbers_by_hand(tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    net = message(1, b"net") + layer("fc", blob(weight), blob(np.array([7.0, -8.0])))
    (tmp_path / "net.caffemodel").write_bytes(net + layer("relu"))
    found = read_caffemodel(tmp_path / "net.caffemodel")
    assert found.keys() == {"fc.weight", "fc.bias"}
    assert found["fc.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["fc.bias"].tolist() == [7, -8]


def test_the_layout_before_2014s_end(tmp_path):
    """Layers in field 2, names in 4, blobs in 6 with four sides, numbers one by one."""
    weight = np.arange(12, dtype=np.float32).reshape(2, 1, 2, 3)
    parts = [blob(weight, old=True, packed=False), blob(np.array([1.0, 2.0]), old=True)]
    content = message(4, b"conv") + b"".join(message(6, part) for part in parts)
    (tmp_path / "old.caffemodel").write_bytes(message(2, content))
    found = read_caffemodel(tmp_path / "old.caffemodel")
    assert torch.equal(found["conv.weight"], torch.from_numpy(weight))
    assert found["conv.bias"].tolist() == [1, 2]


def test_a_googlenet_in_caffes_own_file_is_loaded_exactly(tmp_path):
    model = GoogLeNet(1000, generator=torch.Generator().manual_seed(0)).eval()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    caffe = dict(state)
    caffe["conv1.conv.weight"] = state["conv1.conv.weight"][:, ::-1] / np.float32(255)
    parts = [
        layer(theirs, blob(caffe[f"{ours}.weight"]), blob(caffe[f"{ours}.bias"]))
        for ours, theirs in CAFFE_LAYERS.items()
    ]
    (tmp_path / "bvlc.caffemodel").write_bytes(b"".join(parts))
    loaded = load_bvlc_googlenet(read_caffemodel(tmp_path / "bvlc.caffemodel"))
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value.numpy(), state[name], rtol=1e-6, atol=0)


def test_the_auxiliary_heads_come_too_in_the_layout_of_2014(tmp_path):
    """All sides are four there: a linear layer is (1, 1, outputs, inputs)."""
    generator = torch.Generator().manual_seed(0)
    model = GoogLeNet(1000, auxiliary=True, generator=generator).eval()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    caffe = state | {"conv1.conv.weight": state["conv1.conv.weight"][:, ::-1] / np.float32(255)}
    content = b""
    for ours, theirs in (CAFFE_LAYERS | CAFFE_HEADS).items():
        blobs = [blob(caffe[f"{ours}.{kind}"], old=True) for kind in ("weight", "bias")]
        named = message(4, theirs.encode()) + b"".join(message(6, one) for one in blobs)
        content += message(2, named)
    (tmp_path / "old.caffemodel").write_bytes(content)
    found = read_caffemodel(tmp_path / "old.caffemodel")
    for name, value in load_bvlc_googlenet(found).state_dict().items():
        torch.testing.assert_close(value.numpy(), state[name], rtol=1e-6, atol=0)
    del found["loss1/conv.weight"]
    with pytest.raises(WeightsError, match=r"loss1/conv\.weight is missing"):
        load_bvlc_googlenet(found)
