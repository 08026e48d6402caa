"""What all settings, manifests and headers have in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

_TENSOR_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")


def _plain_name(file: str) -> str:
    if file and (not _TENSOR_FILE.fullmatch(file) or ".." in file):
        raise ValueError("a file of weights is a plain name that ends in .safetensors")
    return file


TensorFile = Annotated[str, AfterValidator(_plain_name)]
"""A file beside the manifest that names it, and nowhere else; "" where there is none yet."""


class Settings(BaseModel):
    """Values that nobody changes; unknown names and numbers that are not finite are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
