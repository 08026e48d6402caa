"""Settings that fine-tune a pretrained network well on few images: those of configs/bccd.yaml.

On a CPU the maps of the layers up to 4e are stored, and those above are trained; a GPU trains the
whole network.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from detector.models.inception import StagedNetwork
from detector.models.inference.prepare import fastest_precision
from detector.settings import put

AFTER = "4e"  # GoogLeNet's layers up to there are 92 % of its operations

# Chosen together, or not at all where any is set.
FINE_TUNING: tuple[dict[str, Any], ...] = (
    {
        "optimiser.method": "adamw", "optimiser.rate": 0.0002, "optimiser.head_factor": 5,
        "optimiser.weight_decay": 0.02,
    },
    {"optimiser.warmup": 20},
    {"optimiser.average_decay": 0.99},
    {"optimiser.save_every": 20},
    {
        "sampling.positives_per_batch": 32, "sampling.background_per_batch": 64,
        "sampling.hard_candidates": 64,
    },
    {
        "augment.brightness": 0.1, "augment.contrast": 0.1, "augment.saturation": 0.2,
        "augment.colour_shift": 0.02,
    },
    {"thresholds.voting": 0.5},
    {"thresholds.max_proposals": 600},
)  # fmt: skip
LEARNED_RANKING = {"proposals.engine": "selective-search", "proposals.options.ranking": "learned"}
SYNONYMS = {"voting": "voting_iou", "score": "score_threshold"}


class SettingsTree:
    """A tree of settings by dotted names."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    def get(self, name: str) -> Any:
        at: Any = self.tree
        for part in name.split("."):
            at = at.get(part) if isinstance(at, dict) else None
        return at

    def has(self, name: str) -> bool:
        """True if a setting is in the tree, by either of its names, or its whole group is null."""
        room, _, last = name.rpartition(".")
        at = self.get(room) if room else self.tree
        if at is None:
            return bool(room) and self.has(room)
        return not isinstance(at, dict) or last in at or SYNONYMS.get(last) in at

    def put(self, group: Mapping[str, Any]) -> None:
        """Set all of a group, unless any of it is set."""
        if not any(self.has(name) for name in group):
            self.replace(group)

    def replace(self, group: Mapping[str, Any]) -> None:
        for name, value in group.items():
            put(self.tree, name, value)


def put_recipe(tree: SettingsTree, network: nn.Module, device: torch.device) -> None:
    """Set what is not set yet as it suits the network and the device."""
    for group in (*FINE_TUNING, LEARNED_RANKING):
        tree.put(group)
    if not isinstance(network, StagedNetwork) or network.auxiliary:
        return
    heads = tree.get("heads")
    if not (isinstance(heads, dict) and heads.get("regression")):
        tree.put({"box_loss": {"weight": 1.0}})
    # A GPU trains the whole network in the time that a processor takes for the layers above.
    if device.type != "cuda" and network.can_be_cut and AFTER in network.inception:
        tree.put({"bank": {}})
    if isinstance(tree.get("bank"), dict):
        tree.put({"bank.after": AFTER})
        tree.put({"bank.precision": fastest_precision(device)})
        tree.put({"member.freeze": []})
