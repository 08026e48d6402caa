"""Which files are mutated, and which tests are to notice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutants import Mutant, mutants_of


@dataclass(frozen=True)
class Room:
    """Files or folders below the checkout, and the tests that concern them, fast ones first."""

    files: tuple[str, ...]
    tests: tuple[str, ...]

    def tests_for(self, root: Path, file: str) -> list[str]:
        """All test files of the room; those that are named for the file come first, since the
        first test that fails ends the run.
        """
        word = Path(file).stem.partition("_")[0]
        found = _python_files(root, self.tests, "test_*.py")
        return sorted(found, key=lambda name: word not in Path(name).stem.split("_"))

    def sources(self, root: Path) -> list[str]:
        """The Python files, relative to the checkout."""
        return _python_files(root, self.files, "*.py")


def _python_files(root: Path, names: tuple[str, ...], pattern: str) -> list[str]:
    """Files as they are, and those in folders, sorted; all relative to the checkout."""
    found: list[Path] = []
    for name in names:
        path = root / name
        found += sorted(path.rglob(pattern)) if path.is_dir() else [path]
    return [path.relative_to(root).as_posix() for path in found]


ROOMS = {
    "boxes": Room(("detector/boxes.py",), ("tests/test_boxes.py",)),
    "evaluation": Room(("detector/evaluation",), ("tests/evaluation",)),
    "bundle": Room(
        ("detector/bundle",),
        (
            "tests/test_manifest.py",
            "tests/test_bundle.py",
            "tests/test_bundle_heads.py",
            "tests/test_shared_trunk.py",
            "tests/test_bundle_join.py",
            "tests/test_temperature.py",
        ),
    ),
    "detection": Room(
        (
            "detector/pipeline.py",
            "detector/suppression.py",
            "detector/ensemble.py",
            "detector/member_outputs.py",
            "detector/region_prior.py",
            "detector/region_truth.py",
            "detector/temperature.py",
        ),
        (
            "tests/test_region_prior.py",
            "tests/test_region_truth.py",
            "tests/test_pipeline.py",
            "tests/test_ensemble.py",
            "tests/test_heads_in_detector.py",
            "tests/test_temperature.py",
            "tests/test_shared_trunk.py",
            "tests/test_settings.py",
        ),
    ),
    "heads": Room(
        ("detector/heads",), ("tests/heads", "tests/test_bundle_heads.py", "tests/test_settings.py")
    ),
    "training": Room(
        (
            "detector/training/regions.py",
            "detector/training/mining.py",
            "detector/training/box_loss.py",
            "detector/training/loss.py",
            "detector/training/schedule.py",
            "detector/training/averaging.py",
            "detector/training/region_odds.py",
            "detector/training/augment.py",
        ),
        ("tests/training", "tests/test_settings.py"),
    ),
    "checkpoint": Room(
        ("detector/training/checkpoint.py",), ("tests/training/test_checkpoint.py",)
    ),
}


@dataclass(frozen=True)
class Case:
    """One mutant in its place; `source` is the hash of the file without it."""

    room: str
    file: str
    source: str
    mutant: Mutant

    @property
    def name(self) -> str:
        one = self.mutant
        return f"{self.file}:{one.line} {one.kind} {one.start}-{one.end} {one.text}"


def all_cases(root: Path, rooms: list[str]) -> Iterator[Case]:
    """Every mutant of the rooms, in a fixed order."""
    for room in rooms:
        for file in ROOMS[room].sources(root):
            source = (root / file).read_bytes()
            digest = hashlib.sha256(source).hexdigest()[:16]
            for mutant in mutants_of(source):
                yield Case(room, file, digest, mutant)
