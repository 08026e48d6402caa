"""Selective search joined with MultiBox (arXiv 1409.4842, section 8) in one ranking.

The paper takes all regions of both. Here they have one order, in which a budget of N takes the best
of both: scores of either engine become chances of covering an object (calibration.py), the better
chance comes first, and what nearly repeats a better region steps back, whoever proposed it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from detector.errors import SettingsError
from detector.proposals.merge import ranked
from detector.proposals.multibox.predict import MultiBox, MultiBoxSettings
from detector.proposals.selective_search import SelectiveSearch, SelectiveSearchSettings
from detector.proposals.selective_search.learned_ranking import ordered
from detector.settings import Settings
from detector.structures import Array, Proposals

CALIBRATED = ("multibox", "selective-search")


class BothSettings(Settings):
    """All that decides the boxes and their order."""

    engine: Literal["both"] = "both"
    search: SelectiveSearchSettings
    multibox: MultiBoxSettings
    calibration: dict[str, tuple[float, float]]


class Both:
    """Image (H, W, 3) uint8 RGB -> the regions of both engines, best chance first."""

    def __init__(self, search: SelectiveSearch, multibox: MultiBox) -> None:
        self.search, self.multibox = search, multibox
        # max_boxes is for the join: near-duplicates step back there, and others take their places
        every = search.settings.model_copy(update={"max_boxes": None})
        self._scored = SelectiveSearch.of(every, search.threads).scored
        self.calibration = multibox.trained.header.calibration
        if any(name not in self.calibration for name in CALIBRATED):
            raise SettingsError(
                "both: these MultiBox weights are not calibrated against selective search;"
                " do it with inception-rcnn fit proposals"
            )
        self.settings = BothSettings(
            search=search.settings, multibox=multibox.settings,
            calibration={k: (c.slope, c.offset) for k, c in self.calibration.items()},
        )  # fmt: skip

    @property
    def beside_settings(self) -> dict[str, str | int]:
        """What decides the order beside the settings, as in SelectiveSearch."""
        return self.search.beside_settings

    def __call__(self, image: Array) -> Proposals:
        found = dict(zip(CALIBRATED, (self.multibox(image), self._scored(image)), strict=True))
        chances = [self.calibration[name](one.scores) for name, one in found.items()]  # type: ignore[arg-type]
        boxes = np.concatenate([one.boxes for one in found.values()])
        order = ordered(boxes, np.concatenate(chances))
        return ranked(
            boxes[order], (image.shape[0], image.shape[1]), self.search.settings.max_boxes
        )


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of both engines in one mapping, taken apart: MultiBox's, selective search's.

    Where it is not said, the search ranks by what it has learnt, for only that has scores.
    """
    own = {name: value for name, value in options.items() if name in ("weights", *_OWN)}
    search = {name: value for name, value in options.items() if name not in ("weights", *_OWN)}
    if search.setdefault("ranking", "learned") != "learned":
        raise SettingsError("both: selective search has scores only with ranking=learned")
    return own, search


_OWN = ("keep", "near_duplicates", "scales")
