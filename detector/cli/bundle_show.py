"""Print what a bundle holds, without loading its networks.

inception-rcnn bundle show
inception-rcnn bundle show runs/own/bundle --json
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.progress.messages import escape_controls, pluralise

if TYPE_CHECKING:
    from detector.detection.bundle import BundleManifest, MemberManifest


def main(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder. [the shipped one]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest.")] = False,
) -> None:
    """Show a bundle's classes, networks, thresholds, figures and where it comes from."""
    from detector.detection.bundle import read_manifest
    from detector.detection.load import SHIPPED

    folder = bundle or SHIPPED
    manifest = read_manifest(folder)
    if as_json:
        print(manifest.model_dump_json(indent=2, by_alias=True))
        return
    print(escape_controls(str(folder)))
    for name, text in _rows(manifest):
        print(f"{name:<13} {escape_controls(text)}")


def _rows(manifest: BundleManifest) -> Iterator[tuple[str, str]]:
    yield "classes", f"{len(manifest.classes)}: {', '.join(manifest.classes)}"
    for position, member in enumerate(manifest.members):
        heads = [one.name or one.kind for one in manifest.heads if one.member == position]
        yield f"member {position}", ", ".join([*_network(member), *(f"+ {one}" for one in heads)])
    size = sum(one.bytes for one in manifest.members) + sum(one.bytes for one in manifest.heads)
    yield "size", f"{size / 1e6:.1f} MB"
    engine = manifest.proposals.get("engine")
    if engine:
        options = manifest.proposals.get("options") or {}
        yield "proposals", ", ".join([str(engine), *(f"{k} {v}" for k, v in options.items())])
    if manifest.prescorer is not None:
        yield "pre-scorer", f"fitted on {manifest.prescorer.recipe.get('data', 'unknown data')}"
    limits = manifest.thresholds.model_dump(by_alias=True)
    yield (
        "thresholds",
        ", ".join(
            name if value is True else f"{name} {value}"
            for name, value in limits.items()
            if value is not None and value is not False
        ),
    )
    if manifest.prior is not None:
        yield "size prior", f"{pluralise(len(manifest.prior.sides), 'size')}"
    origin = manifest.provenance
    yield "trained on", origin.training_data
    yield "started from", origin.started_from
    yield "licence", origin.licence
    if origin.pictures:
        yield "pictures", f"{len(origin.pictures)} that the weights have seen are known"
    if origin.unfinished:
        yield "unfinished", f"stopped at {origin.unfinished}"
    if manifest.metrics:
        yield "metrics", ", ".join(f"{name} {one:.4g}" for name, one in manifest.metrics.items())


def _network(member: MemberManifest) -> Iterator[str]:
    yield f"{member.architecture} {member.input_size}"
    yield from (f"{name}={value}" for name, value in member.options.items())
    yield f"{member.bytes / 1e6:.1f} MB {member.stored_as}"
    if member.trunk:
        yield f"layers up to {member.trunk.after} of member {member.trunk.member}"
    if member.temperature != 1:
        yield f"temperature {member.temperature:g}"
    if member.activation_ranges:
        yield "int8 ranges"
