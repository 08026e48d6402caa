"""Complete a bundle's model card (its README.md) with what an evaluation of it has measured.

    inception-rcnn evaluate detections --data VOC2012 --split val --weights BUNDLE --report
    inception-rcnn bundle card BUNDLE --evaluation out

Without --evaluation the card is written anew from the bundle alone, as every change of it does.
"""

from pathlib import Path
from typing import Annotated

import typer


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    evaluation: Annotated[
        Path | None, typer.Option(help="Folder of an evaluation of it with --report.")
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Most of the worst images; they are copied: mind licences.")
    ] = 4,
) -> None:
    """Write a bundle's model card, README.md."""
    from detector.detection.bundle import read_manifest
    from detector.detection.bundle.card import CARD, complete_card, write_card

    written = [CARD]
    if evaluation is None:
        write_card(bundle, read_manifest(bundle))
    else:
        written = complete_card(bundle, evaluation, pictures)
    print(f"wrote {bundle}/: {', '.join(written)}")
