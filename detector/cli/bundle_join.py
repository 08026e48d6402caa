"""Make one ensemble of several trained detectors.

    inception-rcnn bundle join runs/a/bundle runs/b/bundle --out runs/both
    inception-rcnn detect image.jpg --weights runs/both --ensemble all

The first bundle's networks come first: they are the ones in use without --ensemble. Networks that
have their lower layers in common share them, on disk and when they run.
"""

from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option
from detector.cli.app import exclusive_out


@exclusive_out
def main(
    bundles: Annotated[list[Path], typer.Argument(help="Two or more bundles of the same classes.")],
    out: option.NewBundle,
) -> int:
    """Join bundles into an ensemble."""
    from detector.detection.bundle import join_bundles

    if len(bundles) < 2:
        raise typer.BadParameter("give at least two bundles")
    manifest = join_bundles(bundles, out)
    for place, member in enumerate(manifest.members):
        shared = f", up to {member.trunk.after} as {member.trunk.member}" if member.trunk else ""
        kinds = "".join(f", {one.kind}" for one in manifest.heads if one.member == place)
        size = member.bytes / 1e6
        print(f"{place}: {member.architecture} {member.input_size}, {size:.1f} MB{shared}{kinds}")
    print(f"wrote {out}; try: inception-rcnn detect IMAGE --weights {out} --ensemble all")
    return 0
