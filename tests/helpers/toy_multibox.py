"""A toy data set with boxes of many shapes, and train_multibox.py run in this process."""

from pathlib import Path

import numpy as np
import torch
from small_classifiers import exit_code, tool

from detector.proposals.multibox.network import HeadSettings
from detector.proposals.multibox.priors import free_priors
from detector.proposals.multibox.weights import (
    MultiBoxHeader,
    TrainedMultiBox,
    build_network,
    save_multibox,
)


def varied(root: Path) -> Path:
    """Sixty boxes more in the first image, so that there are shapes enough for priors on grids."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        x, y = (int(v) for v in rng.integers(1, 40, 2))
        w, h = (int(v) for v in rng.integers(8, 40, 2))
        rows.append(
            f"<object><name>red</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
            f"<ymax>{y + h}</ymax></bndbox></object>"
        )
    path = root / "Annotations" / "000000.xml"
    path.write_text(path.read_text().replace("</annotation>", "".join(rows) + "</annotation>"))
    return root


def run(name: str, *words: object) -> int:
    """A command, in this process."""
    found = tool(name)
    return exit_code(found.command_line() if name == "ablate" else found.main, *words)


def train(config: Path, out: Path, *more: str, quiet: bool = True) -> int:
    words = ["--config", config, "--out", out, "--device", "cpu", "--set", "run.threads=1"]
    return run("train_multibox", *words, *(["--quiet"] if quiet else []), *more)


def write_multibox(path: Path) -> Path:
    """A small and untrained one, with 50 free priors, as a file."""
    corner = np.random.default_rng(0).uniform(0, 0.6, (120, 2))
    priors = free_priors(np.concatenate([corner, corner + 0.3], 1), 50)
    header = MultiBoxHeader(
        architecture="googlenet", options={"width": 0.125}, after="3b", input_size=64,
        heads=HeadSettings(priors=50, width=16, hidden=16),
    )  # fmt: skip
    torch.manual_seed(0)
    save_multibox(path, TrainedMultiBox(build_network(header, priors), priors, header))
    return path
