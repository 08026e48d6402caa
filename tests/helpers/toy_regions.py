"""A toy data set of regions, and train_regions.py run in this process."""

from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from detector.training.engine.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "train_regions.py"


def write_squares(
    root: Path,
    names: tuple[str, str] = ("green", "red"),
    images: int = 6,
    shapes: tuple[tuple[int, int], ...] = ((40, 40),),
) -> Path:
    """Photographs in VOC's layout: a block of one of two colours on noise, ``shapes`` by turns."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(images):
        pixels = rng.integers(90, 110, (80, 100, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(2, 30, 2))
        wide, high = shapes[i % len(shapes)]
        pixels[y : y + high, x : x + wide] = (220, 30, 30) if i % 2 else (30, 220, 30)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{i:06d}.jpg", quality=95)
        (root / "Annotations" / f"{i:06d}.xml").write_text(
            f"<annotation><filename>{i:06d}.jpg</filename>"
            "<size><width>100</width><height>80</height><depth>3</depth></size>"
            f"<object><name>{names[i % 2]}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + wide}</xmax><ymax>{y + high}</ymax></bndbox></object></annotation>"
        )
    listed = "\n".join(f"{i:06d}" for i in range(images)) + "\n"
    (root / "ImageSets/Main/train.txt").write_text(listed)
    return root


def write_config(toy: Path) -> Path:
    """Two steps of eight crops of 64 pixels."""
    settings = {
        "data": [{"path": str(toy), "split": "train"}],
        "member": {"input_size": 64, "freeze": ["conv1."]},
        "sampling": {"positives_per_batch": 4, "background_per_batch": 4},
        "optimiser": {"steps": 2, "save_every": 1, "warmup": 0, "precision": "float32"},
    }
    path = toy / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def arguments(config: Path, out: Path, *more: str) -> list[str]:
    cache = config.parent / "proposals.sqlite"
    common = ["--config", str(config), "--device", "cpu", "--out", str(out)]
    common += ["--set", f"run.cache={cache}"]
    return [*common, *more]


def settings(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


STILL = settings(
    "member.options={dropout: 0.0}", "augment.colour_shift=0", "augment.brightness=0",
    "augment.contrast=0", "augment.saturation=0",
)  # fmt: skip
"""Nothing is left to chance but the regions."""


def train(config: Path, out: Path, *more: str) -> int:
    """The exit code of a run in this process."""
    from detector.cli.app import run_tool

    try:
        from detector.cli import train_regions

        run_tool(train_regions.main, arguments(config, out, "--quiet", *more))
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("a tool always exits")


def weights(out: Path) -> dict[str, torch.Tensor]:
    found = load_checkpoint(out)
    assert found is not None
    return {f"{g}/{n}": t for g, values in found.groups.items() for n, t in values.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 0.0) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], rtol=0, atol=atol) for name in one
    )
