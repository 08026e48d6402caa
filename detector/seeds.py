"""What a seed may be, wherever one is asked for: what numpy, torch and scikit-learn all take."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval  # pydantic's own, without pydantic: a tool's --help is quick

LARGEST = 2**32 - 1
"""scikit-learn's limit; a training multiplies it with its steps, within torch's 64 bits."""

Seed = Annotated[int, Interval(ge=0, le=LARGEST)]
"""The type of a seed among settings."""
