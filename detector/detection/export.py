"""A bundle's networks as a file for other programs: the mean of the ensemble, or one member.

    crops (N, 3, S, S) -> scores (N, K+1), deltas (N, K, 4)
    crops (N, 3, S, S) -> logits (N, K+1), svm, added, deltas, added_deltas

What an ensemble's file gives is what aggregate.py makes of the members' outputs, without the prior
of sizes, which needs the regions; what a member's gives is MemberOutput. Networks that share a
trunk share it in the file.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from detector import __version__
from detector.detection.aggregate import MemberOutput, class_scores, mean_deltas
from detector.detection.bundle import Bundle, bundle_sha256, load_bundle
from detector.detection.ensemble import Ensemble
from detector.detection.load import members_of
from detector.errors import SettingsError
from detector.files import make_place_for
from detector.models.inference.engines import FORMATS, check_installed, export_network, open_network
from detector.structures import FILL_MEAN

_DELTAS = "dx, dy, log dw, log dh"
MEANINGS = {
    "scores": "(N, K+1): the mean of the members, background last",
    "deltas": f"(N, K, 4): {_DELTAS} of each class",
}
MEANINGS_OF_MEMBER = {
    "logits": "(N, K+1): before the softmax, background last",
    "svm": "(N, K): scores of the SVMs",
    "added": "(N, A): scores of the added classes",
    "deltas": f"(N, 4 K): {_DELTAS} of one class after the other",
    "added_deltas": f"(N, 4 A): {_DELTAS} of one added class after the other",
}


def export_bundle(
    bundle: Path, format: str, path: Path, *, members: int | None = None, member: int | None = None
) -> bool:
    """Write the mean of the first `members` (None: all), or one `member`, as a file of `format`.

    An ensemble has the heads that the bundle's thresholds use, a member all of its own. False where
    the very file is there already. Raises SettingsError for anything else in its place.
    """
    suffix = _suffix(format)
    if path.suffix != suffix:
        raise SettingsError(f"{path}: a file of {format} ends in {suffix}")
    check_installed(format)
    loaded = load_bundle(bundle, members if member is None else None)
    network = _Exported(loaded, member)
    about = network.about(loaded) | {"bundle": bundle_sha256(bundle), "version": __version__}
    if path.exists() or (suffix != ".onnx" and path.with_suffix(".bin").exists()):
        if _about(path) == about:
            return False
        raise SettingsError(f"{path} holds something else; remove it, or choose another --out")
    make_place_for(path)
    export_network(network, network.sides, list(network.meanings), format, path, about)
    return True


def path_of(bundle: Path, format: str, member: int | None = None) -> Path:
    """A file in the working folder, named after the bundle."""
    number = "" if member is None else f"_{member}"
    return Path(f"{bundle.resolve().name}{number}{_suffix(format)}")


def _suffix(format: str) -> str:
    if format not in FORMATS:
        raise SettingsError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    return FORMATS[format].suffix


def _about(path: Path) -> dict[str, str] | None:
    try:
        return open_network(path).about
    except Exception:  # whatever an engine raises for a file that is none of its own
        return None


class _Exported(nn.Module):
    """The networks of a bundle, or of one of its members, in float32 as a function of tensors.

    sides     S of each input, by its name
    meanings  of the outputs, by their names
    """

    def __init__(self, bundle: Bundle, member: int | None) -> None:
        super().__init__()
        manifest, count = bundle.manifest, len(bundle.models)
        if member is None:
            chosen = manifest.thresholds
            heads = manifest.heads_in_use(svm=chosen.svm, regression=chosen.regression)
            self.ensemble = Ensemble(members_of(bundle, heads), engine=_as_it_is)
        elif 0 <= member < count:
            alone = replace(members_of(bundle, manifest.heads)[member], trunk=None)
            self.ensemble = Ensemble([alone], engine=_as_it_is)
        else:
            raise SettingsError(f"member {member} is not one of 0 to {count - 1}")
        self.mean = member is None
        self.networks = nn.ModuleList(_network(group.run) for group in self.ensemble.groups)
        specs = self.ensemble.crop_specs
        names = ["crops"] if len(specs) == 1 else [f"crops_{i}" for i in range(len(specs))]
        self.sides = {name: spec.size for name, spec in zip(names, specs, strict=True)}
        columns = {
            name
            for group in self.ensemble.groups
            for top in group.tops
            for name, width in zip(MemberOutput._fields, top.widths, strict=True)
            if width
        }
        if self.mean:
            columns = {"scores"} | ({"deltas"} if {"deltas", "added_deltas"} & columns else set())
        known = MEANINGS if self.mean else MEANINGS_OF_MEMBER
        self.meanings = {name: text for name, text in known.items() if name in columns}

    def forward(self, *crops: Tensor) -> list[Tensor]:
        """The outputs in the order of `meanings`."""
        given = dict(zip(self.ensemble.crop_specs, crops, strict=True))
        groups = zip(self.networks, self.ensemble.groups, strict=True)
        outputs = self.ensemble.split([network(given[group.spec]) for network, group in groups])
        if not self.mean:
            return [getattr(outputs[0], name) for name in self.meanings]
        scores = class_scores(outputs, self.ensemble.temperatures)
        deltas = mean_deltas(outputs, scores.shape[1] - 1)
        return [scores] if deltas is None else [scores, deltas]

    def about(self, bundle: Bundle) -> dict[str, str]:
        """The file's metadata: plain text, or JSON of what has parts."""
        manifest = bundle.manifest
        inputs = {
            name: {"shape": ["N", 3, spec.size, spec.size], "context": spec.context}
            for name, spec in zip(self.sides, self.ensemble.crop_specs, strict=True)
        }
        prior = manifest.prior.model_dump_json() if self.mean and manifest.prior else ""
        return {
            "inputs": json.dumps(inputs),
            "pixels": f"RGB, pixel / 255 - {list(FILL_MEAN)}; 0 outside of the picture",
            "outputs": json.dumps(self.meanings),
            "classes": json.dumps(manifest.classes),
            "licence": manifest.provenance.licence,
        } | ({"prior_left_out": prior} if prior else {})


def _as_it_is(network: nn.Module, _side: int, _group: int) -> Callable[[Tensor], Tensor]:
    return network


def _network(run: Callable[[Tensor], Tensor] | None) -> nn.Module:
    assert isinstance(run, nn.Module)
    return run
