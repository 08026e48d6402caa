"""Measure the activation ranges that 8-bit inference needs, and write them into a bundle.

    inception-rcnn fit int8 BUNDLE photos/

Half of the crops set the ranges; on the other half the scores are compared with float32, so that
what the eight bits cost is said before they are used (`detect --set precision=int8`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import options as option
from detector.cli.app import code_of_made
from detector.errors import ImageError, SettingsError
from detector.progress.messages import escape_controls, pluralise

if TYPE_CHECKING:
    from torch import Tensor

    from detector.detection.bundle import Bundle


def main(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders or globs of photographs.")],
    crops: Annotated[int, typer.Option(min=16, help="Crops used, half of them to compare.")] = 256,
    strict: option.AllImages = False,
) -> int:
    """Measure the activation ranges that 8-bit inference needs. A photograph that cannot be read is
    told and left out.
    """
    from detector.detection.bundle import load_bundle, set_activation_ranges
    from detector.images.paths import image_paths
    from detector.models.googlenet import GoogLeNet
    from detector.models.inference.int8 import activation_ranges

    loaded = load_bundle(bundle)
    named = image_paths(images, sys.stdin)
    # Photographs beyond the number of crops would give none.
    taken = named[:: max(1, len(named) // crops)][:crops]
    paths = _readable(taken)
    ranges = []
    for member, model in zip(loaded.manifest.members, loaded.models, strict=True):
        if not isinstance(model, GoogLeNet):
            raise SettingsError(f"{bundle}: {member.architecture} has no 8-bit form; nothing done")
        sample = _regions(loaded, paths, crops, member.input_size, member.context)
        # Every other crop, so that either half has regions of every photograph.
        ranges.append(activation_ranges(model, sample[::2], member.normalisation))
        _compare(loaded, len(ranges) - 1, ranges[-1], sample[1::2])
    set_activation_ranges(bundle, ranges)
    typer.echo(
        f"wrote the ranges of {pluralise(len(ranges), 'member')} into {bundle / 'bundle.json'}"
    )
    return code_of_made(len(paths) < len(taken), strict)


# Read once before any crop is made: the crops are shared out among the readable ones.
def _readable(paths: list[Path]) -> list[Path]:
    from detector.images.decoding import read_image

    found = []
    for path in paths:
        try:
            read_image(path)
        except ImageError as error:
            typer.echo(escape_controls(f"error: {error}"), err=True)
        else:
            found.append(path)
    if not found:
        raise ImageError(f"none of {pluralise(len(paths), 'photograph')} can be read")
    return found


def _regions(loaded: Bundle, paths: list[Path], count: int, size: int, context: float) -> Tensor:
    """`count` crops, evenly spread over the photographs and over each one's ranked proposals."""
    import numpy as np
    import torch

    from detector.crops.warp import crop_batch
    from detector.images.decoding import read_image
    from detector.proposals.engines import ProposalConfig, build_engine

    settings = ProposalConfig.model_validate(loaded.manifest.proposals)
    propose = build_engine(settings.engine, settings.options)
    parts = []
    for share, path in zip(np.array_split(np.arange(count), len(paths)), paths, strict=True):
        image = read_image(path)
        boxes = propose(image).boxes
        rows = np.linspace(0, len(boxes) - 1, len(share)).astype(int)
        parts.append(crop_batch(image, boxes[rows], size, context=context))
    return torch.cat(parts)


def _compare(loaded: Bundle, index: int, ranges: dict[str, float], crops: Tensor) -> None:
    from detector.models.inference.int8 import runs_in_8_bits
    from detector.models.inference.prepare import FixedBatches, prepare_for_inference

    member, model = loaded.manifest.members[index], loaded.models[index]
    if not runs_in_8_bits("cpu"):
        typer.echo("this CPU has no 8-bit products, so the scores are not compared", err=True)
        return
    exact, rounded = (
        FixedBatches(
            prepare_for_inference(model, precision, member.normalisation, ranges), batch_size=8
        )(crops).softmax(-1)
        for precision in ("float32", "int8")
    )
    difference = (rounded - exact).abs()
    same = (rounded.argmax(1) == exact.argmax(1)).float().mean()
    typer.echo(
        f"{member.architecture} {index}: scores differ by {difference.mean():.4f} on average and"
        f" {difference.max():.3f} at most on {len(crops)} other crops; same best class {same:.1%}"
    )
