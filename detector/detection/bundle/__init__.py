"""A trained detector on disk: a folder of `bundle.json` and one safetensors file per member and
head.

Loading trusts nothing in it: sizes, hashes, names, shapes and values are checked.
"""

from detector.detection.bundle.card import bundle_sha256, complete_card
from detector.detection.bundle.join import join_bundles
from detector.detection.bundle.manifest import BundleManifest, MemberManifest, Provenance
from detector.detection.bundle.reading import MANIFEST, Bundle, load_bundle, read_manifest
from detector.detection.bundle.writing import (
    save_bundle,
    save_heads,
    save_prescorer,
    save_temperatures,
    set_activation_ranges,
)
from detector.models.split import SharedTrunk

__all__ = [
    "MANIFEST",
    "Bundle",
    "BundleManifest",
    "MemberManifest",
    "Provenance",
    "SharedTrunk",
    "bundle_sha256",
    "complete_card",
    "join_bundles",
    "load_bundle",
    "read_manifest",
    "save_bundle",
    "save_heads",
    "save_prescorer",
    "save_temperatures",
    "set_activation_ranges",
]
