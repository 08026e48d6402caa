"""A small ensemble with everything that an exported file may hold."""

from pathlib import Path

import numpy as np
import torch
from class_heads import class_head

from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    SharedTrunk,
    save_bundle,
    save_heads,
)
from detector.heads import BoxRegression, HeadManifest, LinearScores
from detector.models import build_model
from detector.models.split import Trunk

NARROW = {"width": 0.25}
FEATURES = 256


def scores(rows: int, seed: int = 0) -> LinearScores:
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 1, (rows, FEATURES)).astype(np.float32)
    return LinearScores(weight, *(rng.uniform(0.1, 1, rows).astype(np.float32) for _ in range(3)))


def moves(classes: int) -> BoxRegression:
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 0.1, (4 * classes, FEATURES)).astype(np.float32)
    return BoxRegression(weight, weight[:, 0].copy())


def save_ensemble(folder: Path) -> Path:
    """Two classes and an added one; a member at 64 pixels, another on its trunk with other inputs
    above it, and one at 48 pixels; SVMs and box regression in use.
    """
    torch.manual_seed(0)
    models = [build_model("googlenet", 3, **NARROW) for _ in range(3)]
    states = [model.state_dict() for model in models]
    states[1] = {**states[1], **Trunk(models[0], "4e").state_dict()}
    member = MemberManifest(architecture="googlenet", options=NARROW, input_size=64)
    members = (
        member.model_copy(update={"temperature": 1.5}),
        member.model_copy(update={"trunk": SharedTrunk(0, "4e")}),
        member.model_copy(update={"input_size": 48, "mean": (0.5,) * 3, "std": (0.5,) * 3}),
    )
    manifest = BundleManifest(
        classes=("cat", "dog"), members=members,
        proposals={"engine": "opencv", "options": {"longest_side": 100}},
        thresholds={"score": 0.0},
        provenance=Provenance(training_data="none", licence="CC0"),
    )  # fmt: skip
    save_bundle(folder, manifest, states)
    heads = [(HeadManifest(kind="svm", member=i), scores(2, i)) for i in range(3)]
    heads += [(HeadManifest(kind="regression", member=i), moves(2)) for i in range(3)]
    heads += [(HeadManifest(kind="class", name="mug"), class_head(scores(1, 9), 0.1))]
    used = manifest.thresholds.model_copy(update={"svm": True, "regression": True})
    save_heads(folder, folder, heads, used)
    return folder
