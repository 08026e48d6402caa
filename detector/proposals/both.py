"""Selective search joined with MultiBox (arXiv 1409.4842, section 8) in one ranking.

The paper takes all regions of both. Here they share one ranking, so that a budget of N boxes holds
the best of both: the scores of each engine are calibrated to the probability of covering an object
(calibration.py), regions are sorted by it, and near-duplicates of a better region go to the end,
whichever engine proposed them.
"""

from typing import Any, Literal

import numpy as np

from detector.errors import SettingsError
from detector.proposals.merge import proposals_in_order
from detector.proposals.multibox.predict import MultiBox, MultiBoxSettings
from detector.proposals.selective_search import SelectiveSearch, SelectiveSearchSettings
from detector.proposals.selective_search.learned_ranking import order_by_score
from detector.settings import Settings
from detector.structures import Array, Proposals

CALIBRATED = ("multibox", "selective-search")  # in the order in which Both runs them
MULTIBOX_OPTIONS = ("weights", "keep", "near_duplicates", "scales")


class BothSettings(Settings):
    """Settings that determine the boxes and their order."""

    engine: Literal["both"] = "both"
    search: SelectiveSearchSettings
    multibox: MultiBoxSettings
    calibration: dict[str, tuple[float, float]]


class Both:
    """Image (H, W, 3) uint8 RGB -> the regions of both engines, best chance first."""

    def __init__(self, search: SelectiveSearch, multibox: MultiBox) -> None:
        self.search, self.multibox = search, multibox
        # max_boxes limits the joint list: near-duplicates go to its end, so others take their ranks
        # (and a preset that was not given must stay unset, or it is refused beside strategies).
        every = search.settings.model_dump(exclude_unset=True) | {"max_boxes": None}
        self._scored = SelectiveSearch(threads=search.threads, **every).proposals_with_scores
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
    def derived_settings(self) -> dict[str, str]:
        """Inputs beside the settings that determine the order, as in SelectiveSearch."""
        return self.search.derived_settings

    def __call__(self, image: Array) -> Proposals:
        lists = self.multibox(image), self._scored(image)
        chances = [
            self.calibration[name](proposals.scores)  # type: ignore[arg-type]
            for name, proposals in zip(CALIBRATED, lists, strict=True)
        ]
        boxes = np.concatenate([proposals.boxes for proposals in lists])
        # Departs from the paper, which takes all regions of both and ranks none.
        order = order_by_score(boxes, np.concatenate(chances))
        return proposals_in_order(
            boxes[order], (image.shape[0], image.shape[1]), self.search.settings.max_boxes
        )


def build_both(**options: Any) -> Both:
    """Build Both from the options of either engine; `threads` are those of both.

    `ranking` defaults to "learned", the only ranking of the search that has scores; any other is a
    SettingsError.
    """
    own = {name: options.pop(name) for name in MULTIBOX_OPTIONS if name in options}
    if options.setdefault("ranking", "learned") != "learned":
        raise SettingsError("both: selective search has scores only with ranking=learned")
    if "threads" in options:
        own["threads"] = options["threads"]
    return Both(SelectiveSearch(**options), MultiBox(**own))
