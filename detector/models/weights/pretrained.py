"""Reading of weight files, and exact loading of their tensors into a network.

Nothing is unpickled: `.pth` files go through `torch.load(weights_only=True)`. A tensor that does
not fit is refused by name.
"""

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import torch
from torch import Tensor, nn

from detector.errors import WeightsError, is_out_of_memory
from detector.models.weights.caffemodel import read_caffemodel

MAX_BYTES = 8_000_000_000
MAX_OUTPUTS = 100_000

Network = TypeVar("Network", bound=nn.Module)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a `.safetensors`, `.pth`, `.pt` or `.caffemodel` file.

    Raises WeightsError.
    """
    path = Path(path)
    check_regular(path)
    if path.suffix == ".caffemodel":
        return read_caffemodel(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        refuse_packed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles; the checks below decide
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path}: cannot be read as weights: holds more than tensors, and nothing else is "
            "unpickled; save the model's state_dict() and give that"
        ) from error
    except Exception as error:  # damaged files make the readers raise nearly every type
        if isinstance(error, WeightsError) or is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: cannot be read as weights: {reason}") from error
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}, expected named tensors")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path}: {name!r} is a {type(value).__name__}, expected a tensor")
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise WeightsError(f"{path}: tensor {name} is not a plain one; save it dense")
        # Strides of 0 let a few stored numbers claim gigabytes.
        if value.nbytes > value.untyped_storage().nbytes():
            raise WeightsError(f"{path}: tensor {name} says that it is larger than its numbers")
    return dict(loaded)


def metadata_of(path: Path) -> dict[str, str]:
    """Read the texts in the header of a `.safetensors` file; empty for other files.

    Raises WeightsError.
    """
    if path.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise WeightsError(f"{path}: cannot be read as weights: {error}") from error


def check_regular(path: Path) -> None:
    """Raise WeightsError unless the path is a regular file of at most MAX_BYTES."""
    try:
        is_there = path.is_file()
    except (OSError, ValueError):  # an impossible file name
        is_there = False
    if not is_there:
        raise WeightsError(f"{path}: no such file; give the path of a .safetensors or .pth file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise WeightsError(f"{path}: {size / 1e9:.1f} GB is over the limit of {MAX_BYTES / 1e9:g}")


def refuse_packed(path: Path) -> None:
    """Raise WeightsError for a compressed zip file: torch.save stores without compression.

    A few kilobytes could otherwise unpack to more than the memory.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise WeightsError(f"{path}: unpacks to {unpacked / 1e6:,.1f} MB; torch.save never packs")


def outputs_of(tensors: Mapping[str, Tensor], name: str, source: str) -> int:
    """Number of outputs, from the shape of the last layer's weight. Raises WeightsError."""
    if name not in tensors:
        raise WeightsError(f"{source}: tensor {name} is missing")
    shape = tuple(tensors[name].shape)
    if len(shape) < 2 or not 1 <= shape[0] <= MAX_OUTPUTS:
        raise WeightsError(
            f"{source}: tensor {name} has shape {shape}, expected at least two sides and at most"
            f" {MAX_OUTPUTS:,} outputs"
        )
    return shape[0]


def build_to_fit(
    build: Callable[[], Network], tensors: Mapping[str, Tensor], source: str
) -> Network:
    """Build a network and load the tensors into it. Raises WeightsError where they do not fit.

    Names and shapes are compared on the meta device before anything is allocated, since a few words
    of a header may describe gigabytes.
    """
    with torch.device("meta"):
        _check_layout(build(), tensors, source)
    model = build()
    fit(model, tensors, source)
    return model


def fit(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy `tensors` into `model`: exactly its parameters and buffers, same shapes, finite.

    Raises WeightsError otherwise.
    """
    wanted = model.state_dict()
    _check_layout(model, tensors, source)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            kinds = f"{tensor.dtype}, expected {wanted[name].dtype}"
            raise WeightsError(f"{source}: tensor {name} is of type {kinds}")
        # After the conversion: a float64 may be too large for float32.
        if not torch.isfinite(tensor.to(wanted[name].dtype)).all():
            raise WeightsError(f"{source}: tensor {name} has values that are not finite")
    model.load_state_dict({name: tensors[name].to(value.dtype) for name, value in wanted.items()})


def _check_layout(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    wanted = model.state_dict()
    for name in wanted:
        if name not in tensors:
            raise WeightsError(f"{source}: tensor {name} is missing")
    for name, tensor in tensors.items():
        if name not in wanted:
            raise WeightsError(f"{source}: tensor {name} does not belong to this architecture")
        if tensor.shape != wanted[name].shape:
            have, want = tuple(tensor.shape), tuple(wanted[name].shape)
            raise WeightsError(f"{source}: tensor {name} has shape {have}, expected {want}")


def replace_classifier(
    model: nn.Module, num_outputs: int, generator: torch.Generator | None = None
) -> None:
    """Replace the last layer: Gaussian of deviation 0.01, zero bias, as R-CNN's fine-tuning."""
    old = model.classifier
    if not isinstance(old, nn.Linear):
        raise WeightsError(f"{type(model).__name__} has no linear layer named classifier")
    fresh = nn.Linear(old.in_features, num_outputs).to(old.weight.device, old.weight.dtype)
    with torch.no_grad():
        fresh.weight.normal_(0, 0.01, generator=generator)
        fresh.bias.zero_()
    model.classifier = fresh
