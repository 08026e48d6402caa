"""A small random detector: nothing it says is right, everything it does is real."""

from pathlib import Path

import torch

from detector.detection.bundle import BundleManifest, MemberManifest, Provenance, save_bundle
from detector.models import build_model


def save_detector(folder: Path, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """GoogLeNet at 32 pixels on OpenCV's proposals at 100; every detection is above its threshold.

    The folder, as a bundle.
    """
    generator = torch.Generator().manual_seed(0)
    model = build_model("googlenet", len(classes) + 1, generator=generator)
    manifest = BundleManifest(
        classes=classes,
        members=(MemberManifest(architecture="googlenet", input_size=32),),
        proposals={"engine": "opencv", "options": {"longest_side": 100}},
        thresholds={"score": 0.0},
        provenance=Provenance(training_data="none", licence="CC0"),
    )
    save_bundle(folder, manifest, [model.state_dict()])
    return folder
