"""Write a bundle's networks as one file that ONNX Runtime or OpenVINO runs.

    inception-rcnn bundle export --to onnx
    inception-rcnn bundle export runs/own/bundle --to openvino --out own.xml
    inception-rcnn bundle export runs/own/bundle --to onnx --member 0

The file takes any number of crops, as the detector makes them, and gives class scores and box
deltas: the mean of the members or, with --member, one member's raw outputs. Its metadata name
inputs, outputs and classes. It is compared with torch before it is written.
"""

from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option
from detector.cli.app import members_of, reject_unused


def main(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder. [the shipped one]")] = None,
    to: Annotated[str, typer.Option(help="onnx or openvino.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="File, .onnx or .xml (with a .bin beside it). [the bundle's name, here]"),
    ] = None,
    ensemble: option.Ensemble = "all",
    member: Annotated[
        int | None, typer.Option(min=0, help="Only this network: its raw outputs, all its heads.")
    ] = None,
) -> int:
    """Write a bundle's networks as a file of ONNX or OpenVINO."""
    from detector.detection.export import export_bundle, path_of
    from detector.detection.load import SHIPPED

    if member is not None:
        reject_unused(context, ["ensemble"], "with --member")
    folder = bundle or SHIPPED
    path = out or path_of(folder, to, member)
    new = export_bundle(folder, to, path, members=members_of(ensemble), member=member)
    print(f"wrote {path}" if new else f"{path} is there already, with the same networks")
    return 0
