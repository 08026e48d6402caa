"""Print the architectures that can be trained, with their sizes.

inception-rcnn models
inception-rcnn models --classes 20 --json
"""

import json
from typing import Annotated

import typer


def main(
    classes: Annotated[int, typer.Option(min=1, help="Outputs of the last layer.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no table.")] = False,
) -> None:
    """Show the known architectures: side of their crops, the least side, and parameters."""
    import torch

    from detector.models import ARCHITECTURES, build_model
    from detector.models.traits import traits_of

    rows: list[dict[str, str | int]] = []
    for name in ARCHITECTURES:
        with torch.device("meta"):  # shapes only: nothing is allocated or initialised
            model = build_model(name, classes)
        traits = traits_of(name)
        rows.append(
            {
                "architecture": name,
                "input_size": traits.side,
                "least_input_size": traits.min_side,
                "parameters": sum(one.numel() for one in model.parameters()),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'architecture':<22} input  least  parameters")
    for row in rows:
        print("{:<22} {:5d}  {:5d} {:11,d}".format(*row.values()))
