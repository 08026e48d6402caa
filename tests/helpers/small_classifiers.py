"""What tests of the two classifier tools share: a few coloured pictures, a network of three layers,
and a way to run a tool in this process.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detector.cli.app import run_tool
from detector.models.input_normalisation import CENTRED, Normalisation

TOOLS = Path(__file__).resolve().parents[2] / "tools"
COLOURS = {"green": (30, 200, 30), "red": (200, 30, 30)}


class SmallNetwork(nn.Module):
    """Crops (N, 3, S, S) to logits; in training with `auxiliary` a tuple of two."""

    dropout_share = 0.2

    def __init__(self, num_outputs: int, *, auxiliary: bool = False) -> None:
        super().__init__()
        self.normalisation: Normalisation = CENTRED
        self.conv = nn.Conv2d(3, 6, 5, stride=4)
        self.bn = nn.BatchNorm2d(6)
        self.auxiliary = nn.Linear(6, num_outputs) if auxiliary else None
        self.dropout = nn.Dropout(self.dropout_share)
        self.classifier = nn.Linear(6, num_outputs)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = torch.relu(self.bn(self.conv(x))).mean((2, 3))
        logits = self.classifier(self.dropout(features))
        if self.training and self.auxiliary is not None:
            return logits, self.auxiliary(features)
        return logits


def write_pictures(folder: Path, each: int, side: int = 40) -> Path:
    """`each` noisy pictures of every colour, a folder a class."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(-30, 31, (side, side + 8, 3)) + colour
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def tool(name: str) -> ModuleType:
    """The module of a command, an experiment or a benchmark."""
    room = "" if name in ("ablate", "bench") else "detector.cli."
    return importlib.import_module(room + name)


def exit_code(main: Callable[..., object], *arguments: object) -> int:
    """Run a tool's function as the command line would."""
    with pytest.raises(SystemExit) as stopped:
        run_tool(main, [str(one) for one in arguments])
    return int(stopped.value.code or 0)
