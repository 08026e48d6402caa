"""The range of seeds that numpy, torch and scikit-learn all accept."""

from typing import Annotated

from annotated_types import Interval  # pydantic's own, without pydantic: a tool's --help is quick

# Limit of scikit-learn; a training multiplies seeds by steps, within torch's 64 bits.
LARGEST = 2**32 - 1

# The type of a seed among settings.
Seed = Annotated[int, Interval(ge=0, le=LARGEST)]
