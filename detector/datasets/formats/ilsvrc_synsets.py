"""The two hundred classes of ILSVRC DET: WordNet ids and English names, in the order of DET ids.

Names and WordNet ids are those of the development kit's meta_det.mat as public code copied it from
there (Fast R-CNN and Faster R-CNN for ILSVRC, mmdetection). The copies agree but for two places:
most have `bow tie` before `bow` (28 and 29), some the reverse. Here stands what most have; where a
development kit is at hand, its own data/map_det.txt is asked (ilsvrc_lists.synsets_of).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Synset(NamedTuple):
    """One class: its WordNet id and its name in English."""

    wnid: str
    name: str


def _read_table() -> tuple[Synset, ...]:
    table = Path(__file__).with_name("ilsvrc_det_synsets.txt").read_text(encoding="utf-8")
    return tuple(Synset(*line.split(" ", 1)) for line in table.splitlines())


SYNSETS = _read_table()
"""DET id 1 is the first."""

NAME_OF = {synset.wnid: synset.name for synset in SYNSETS}
