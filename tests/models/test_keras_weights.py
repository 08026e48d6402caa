"""A Keras Inception-v3 in browser layout becomes ours exactly; damaged files are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pretrained import randomised

from detector.errors import WeightsError
from detector.models.inception import ConvReLU
from detector.models.inception_v3 import InceptionV3
from detector.models.weights.keras import load_keras_inception_v3, read_browser_weights


def write_browser_model(folder: Path, arrays: dict[str, np.ndarray], shards: int = 3) -> Path:
    """Float32 arrays in TensorFlow.js layout, listed by name, cut into equal shards."""
    names = sorted(arrays)
    data = b"".join(arrays[name].astype("<f4").tobytes() for name in names)
    cut = -(-len(data) // shards)
    paths = [f"group1-shard{i + 1}of{shards}" for i in range(shards)]
    for i, path in enumerate(paths):
        (folder / f"{path}.bin").write_bytes(data[i * cut : (i + 1) * cut])
    weights = [
        {"name": name, "shape": list(arrays[name].shape), "dtype": "float32"} for name in names
    ]
    manifest = {"weightsManifest": [{"paths": paths, "weights": weights}]}
    (folder / "model.json").write_text(json.dumps(manifest))
    return folder / "model.json"


def keras_arrays(model: InceptionV3) -> dict[str, np.ndarray]:
    """Our network under Keras's names and axes; gains go into what has none."""
    arrays = {"dense_1/kernel": np.zeros((4, 2), np.float32)}
    layers = [layer for layer in model.modules() if isinstance(layer, ConvReLU)]
    for number, layer in enumerate(layers, 1):
        layer.bn.weight.data.fill_(1)
        parts = {
            f"conv2d_{number}/kernel": layer.conv.weight.permute(2, 3, 1, 0),
            f"batch_normalization_{number}/beta": layer.bn.bias,
            f"batch_normalization_{number}/moving_mean": layer.bn.running_mean,
            f"batch_normalization_{number}/moving_variance": layer.bn.running_var,
        }
        arrays |= {name: value.detach().numpy() for name, value in parts.items()}
    return arrays


def test_a_browser_model_gives_the_same_features(tmp_path):
    model = randomised(InceptionV3(4, padding_counts=False)).eval()
    path = write_browser_model(tmp_path, keras_arrays(model))
    ours = load_keras_inception_v3(path, 7).eval()
    x = torch.randn(1, 3, 99, 99, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.features(x), model.features(x))
        assert ours(x).shape == (1, 7)
    assert ours.normalisation.mean == (0, 0, 0)
    crop = torch.zeros(1, 3, 1, 1)  # the mean colour, in 0..1
    assert ours.normalisation(crop).flatten().tolist() == pytest.approx(
        [123 / 255, 117 / 255, 104 / 255]
    )


def test_pipes_are_refused_and_not_waited_for(tmp_path, at_most_20_s):
    path = write_browser_model(tmp_path, {"a/kernel": np.ones(3)}, shards=1)
    shard = tmp_path / "group1-shard1of1.bin"
    for pipe in (shard, path):
        pipe.unlink()
        os.mkfifo(pipe)
        with pytest.raises(WeightsError, match=f"{pipe.name}: .*not a regular file"):
            read_browser_weights(path)


def test_quantised_bytes_by_hand(tmp_path):
    """Bytes 0, 2 and 255 with scale 0.5 and minimum -1 are -1, 0 and 126.5."""
    steps = {"dtype": "uint8", "scale": 0.5, "min": -1.0}
    weights = [{"name": "a", "shape": [3], "dtype": "float32", "quantization": steps}]
    manifest = {"weightsManifest": [{"paths": ["one"], "weights": weights}]}
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    (tmp_path / "one").write_bytes(bytes([0, 2, 255]))
    found = read_browser_weights(tmp_path / "model.json")
    assert found["a"].tolist() == [-1, 0, 126.5]
    (tmp_path / "one").write_bytes(bytes([0, 2]))
    with pytest.raises(WeightsError, match="2 bytes, expected 3"):
        read_browser_weights(tmp_path / "model.json")
    (tmp_path / "one").unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        read_browser_weights(tmp_path / "model.json")


def test_a_scale_beyond_all_numbers_is_refused(tmp_path):
    (tmp_path / "one").write_bytes(b"0")
    steps = {"dtype": "uint8", "scale": 10**400, "min": 0}
    weights = [{"name": "a", "shape": [1], "dtype": "float32", "quantization": steps}]
    manifest = {"weightsManifest": [{"paths": ["one"], "weights": weights}]}
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match="not a TensorFlow"):
        read_browser_weights(tmp_path / "model.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "not a TensorFlow"),
        ("[]", "not a TensorFlow"),
        ('{"weightsManifest": [{"paths": ["../x"], "weights": []}]}', "plain file name"),
        ('{"weightsManifest": [{"paths": [], "weights": [{"name": "a"}]}]}', "not a TensorFlow"),
        ('{"weightsManifest": []}', "0 convolutions"),
    ],
)
def test_what_is_not_such_a_model_is_refused(text, words, tmp_path):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(WeightsError, match=words):
        load_keras_inception_v3(tmp_path / "model.json", 3)
