"""Inception-v3 as Keras stores it for browsers: `model.json` and shards of bytes (TensorFlow.js).

Keras numbers its layers in the order of the paper, which is ours and torchvision's: convolution i
has batch norm i. Keras leaves padding out of its average pools and has no gain in batch norm.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.errors import WeightsError
from detector.files import read_regular
from detector.models.inception import ConvReLU
from detector.models.inception_v3 import InceptionV3
from detector.models.normalisation import Normalisation
from detector.models.weights.pretrained import fit, replace_classifier
from detector.structures import Array

_TYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
}
_LAYER = re.compile(r"(?:.*/)?(conv2d|batch_normalization)(?:_(\d+))?/(\w+)$")
_MAX_MANIFEST_BYTES = 16 * 2**20


def load_keras_inception_v3(
    path: str | Path, num_outputs: int, generator: torch.Generator | None = None
) -> InceptionV3:
    """Load the trunk of a Keras Inception-v3 from its `model.json`, with a fresh last layer.

    Dense layers of the file are ignored. The network was trained on pixels in 0..1. Raises
    WeightsError.
    """
    layers: dict[str, dict[int, dict[str, Array]]] = {"conv2d": {}, "batch_normalization": {}}
    for name, values in read_browser_weights(path).items():
        match = _LAYER.match(name)
        if match:
            kind, number, part = match.groups()
            layers[kind].setdefault(int(number or 0), {})[part] = values
    model = InceptionV3(1, padding_counts=False)
    ours = {name: layer for name, layer in model.named_modules() if isinstance(layer, ConvReLU)}
    convolutions, norms = (
        [layer for _, layer in sorted(by_number.items())] for by_number in layers.values()
    )
    if not len(convolutions) == len(norms) == len(ours):
        raise WeightsError(
            f"{path}: {len(convolutions)} convolutions and {len(norms)} norms, expected"
            f" {len(ours)} of each"
        )
    state = {
        name: value
        for name, value in model.state_dict().items()
        if name.startswith("classifier.") or name.endswith("num_batches_tracked")
    }
    for name, convolution, norm in zip(ours, convolutions, norms, strict=True):
        state |= _convert_layer(name, convolution, norm, str(path))
    fit(model, state, str(path))
    replace_classifier(model, num_outputs, generator)
    model.normalisation = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return model


def _convert_layer(
    name: str, convolution: dict[str, Array], norm: dict[str, Array], source: str
) -> dict[str, Tensor]:
    try:
        kernel = torch.from_numpy(convolution["kernel"])
        shift = torch.from_numpy(norm["beta"])
        gain = torch.from_numpy(norm["gamma"]) if "gamma" in norm else torch.ones_like(shift)
        return {
            f"{name}.conv.weight": kernel.permute(3, 2, 0, 1).contiguous(),  # from (H, W, I, O)
            f"{name}.bn.weight": gain,
            f"{name}.bn.bias": shift,
            f"{name}.bn.running_mean": torch.from_numpy(norm["moving_mean"]),
            f"{name}.bn.running_var": torch.from_numpy(norm["moving_variance"]),
        }
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{source}: the layer for {name} is incomplete: {error}") from None


def read_browser_weights(path: str | Path) -> dict[str, Array]:
    """Read the named float32 arrays of a TensorFlow.js `model.json` and the shards beside it.

    Quantised values are byte * scale + min. Sizes are checked before arrays are made. Raises
    WeightsError.
    """
    path = Path(path)
    try:
        manifest = read_regular(path, _MAX_MANIFEST_BYTES + 1)
        if len(manifest) > _MAX_MANIFEST_BYTES:
            raise WeightsError(f"{path}: too large for a model.json")
        groups = json.loads(manifest)["weightsManifest"]
        arrays: dict[str, Array] = {}
        for group in groups:
            data = b"".join(_shard(path.parent, name) for name in group["paths"])
            arrays |= _arrays(group["weights"], data, path)
    except OSError as error:
        raise WeightsError(f"{error.filename}: cannot be read ({error.strerror})") from None
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise WeightsError(f"{path}: not a TensorFlow.js model ({type(error).__name__})") from None
    return arrays


def _shard(folder: Path, name: str) -> bytes:
    if Path(name).name != name or name in ("", "..", "."):
        raise WeightsError(f"{folder}: shard {name!r} is not a plain file name")
    plain = folder / name
    return read_regular(plain if plain.exists() else folder / f"{name}.bin")


def _arrays(weights: Any, data: bytes, path: Path) -> dict[str, Array]:
    kinds = [_TYPES[entry.get("quantization", entry)["dtype"]] for entry in weights]
    counts = [math.prod(entry["shape"]) for entry in weights]
    expected = sum(kind.itemsize * count for kind, count in zip(kinds, counts, strict=True))
    if expected != len(data) or min(counts, default=0) < 0:
        raise WeightsError(f"{path}: its shards hold {len(data)} bytes, expected {expected}")
    arrays: dict[str, Array] = {}
    at = 0
    for entry, kind, count in zip(weights, kinds, counts, strict=True):
        values = np.frombuffer(data, kind, count, at).astype(np.float32).reshape(entry["shape"])
        at += kind.itemsize * count
        if "quantization" in entry:
            steps = entry["quantization"]
            values = values * np.float32(steps["scale"]) + np.float32(steps["min"])
        arrays[entry["name"]] = values
    return arrays
