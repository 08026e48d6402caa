"""A trained MultiBox in one safetensors file: weights and priors, with a JSON header."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from detector.errors import SettingsError, WeightsError
from detector.files import write_atomically
from detector.models import build_model
from detector.models.split import Trunk, map_shape
from detector.models.weights.pretrained import build_to_fit, metadata_of, read_tensors
from detector.models.weights.storage import StoredAs, decode, encode
from detector.proposals.calibration import Calibration
from detector.proposals.multibox.network import HeadSettings, MultiBoxNetwork, build_heads
from detector.proposals.multibox.priors import Priors
from detector.settings import Settings

_FORMAT = "multibox 1"
_PRIORS = ("priors.boxes", "priors.deviation")


class MultiBoxHeader(Settings):
    """Header of the file: the architecture, the heads and where the weights come from."""

    format: str = _FORMAT
    architecture: str
    options: dict[str, Any] = {}
    after: str
    input_size: int = Field(ge=32, le=1024)
    heads: HeadSettings
    grids: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = ()
    stored_as: StoredAs = "float16"
    calibration: dict[str, Calibration] = {}
    """Calibration of scores to the probability of an object, by the name of the engine."""
    training_data: str = "not stated"
    licence: str = "not stated"


@dataclass(frozen=True, eq=False)
class TrainedMultiBox:
    """A network with its priors; `sha256` is the file's."""

    network: MultiBoxNetwork
    priors: Priors
    header: MultiBoxHeader
    sha256: str = ""

    def calibrated(self, calibration: Mapping[str, Calibration]) -> TrainedMultiBox:
        header = self.header.model_copy(update={"calibration": dict(calibration)})
        return replace(self, header=header)


def build_network(header: MultiBoxHeader, priors: Priors) -> MultiBoxNetwork:
    """Build the network that a header describes, with random weights."""
    # One class, since the trunk ends before the classifier.
    trunk = Trunk(
        build_model(header.architecture, 1, **header.options), header.after, pool_behind=False
    )
    return on_trunk(trunk, header.input_size, priors, header.heads)


def on_trunk(
    trunk: Trunk, input_size: int, priors: Priors, settings: HeadSettings
) -> MultiBoxNetwork:
    """Put freshly initialised heads on a trunk."""
    return MultiBoxNetwork(trunk, build_heads(map_shape(trunk, input_size), priors, settings))


def save_multibox(path: str | Path, trained: TrainedMultiBox) -> None:
    """Write the file atomically. Raises WeightsError where a value is not finite."""
    from safetensors.torch import save

    header, priors = trained.header, trained.priors
    tensors = encode(trained.network.state_dict(), header.stored_as)
    tensors["priors.boxes"] = torch.from_numpy(priors.boxes.copy())
    tensors["priors.deviation"] = torch.from_numpy(priors.deviation.copy())
    head = {"multibox": header.model_dump_json()}
    # safetensors refuses tensors that are not contiguous, such as channels-last weights.
    write_atomically(path, save({k: t.contiguous() for k, t in tensors.items()}, metadata=head))


def load_multibox(path: str | Path) -> TrainedMultiBox:
    """Load and verify a file of `save_multibox`. Raises WeightsError."""
    path = Path(path)
    tensors: dict[str, Tensor] = read_tensors(path)
    header = _header(path)
    if any(name not in tensors for name in _PRIORS):
        raise WeightsError(
            f"{path}: it has no priors; expected a file of inception-rcnn train multibox"
        )
    boxes, deviation = (tensors.pop(name).float().numpy() for name in _PRIORS)
    try:
        priors = Priors(boxes, deviation, header.grids)
        state = decode(tensors, str(path))
        network = build_to_fit(lambda: build_network(header, priors), state, str(path))
    except SettingsError as error:
        raise WeightsError(f"{path}: {error}") from None
    return TrainedMultiBox(
        network.eval(), priors, header, hashlib.sha256(path.read_bytes()).hexdigest()
    )


def _header(path: Path) -> MultiBoxHeader:
    try:
        header = MultiBoxHeader.model_validate_json(metadata_of(path)["multibox"])
    except (KeyError, ValidationError):
        header = None
    if header is None or header.format != _FORMAT:
        raise WeightsError(f"{path}: no MultiBox; inception-rcnn train multibox makes such files")
    return header
