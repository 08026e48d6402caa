"""The model card of a bundle: README.md beside its manifest, as Hugging Face's hub shows it.

It is made from the manifest whenever a bundle is written. Measurements are added later, from the
folder of an evaluation of the same weights, and are gone when the bundle is changed.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from detector.detection.bundle.manifest import BundleManifest
from detector.detection.bundle.reading import MANIFEST, read_manifest
from detector.errors import BundleError, EvaluationError
from detector.files import write_atomically
from detector.progress.messages import escape_controls
from detector.settings import first_fault

CARD = "README.md"
# Begins a line of every card: another README.md is its owner's, and stays.
MARK = "<!-- made by inception-rcnn"
CURVES = "precision_recall.png"
PICTURES = "card_*"
# A bundle is copied, committed and uploaded: its pictures are small beside its networks.
MAX_PICTURE_BYTES, MAX_BYTES = 200_000, 1_000_000
# Licences that the hub knows by name; a bundle's text may go on after one.
LICENCES = re.compile(r"(apache-2\.0|mit|bsd-3-clause|cc0-1\.0|cc-by-4\.0)\b", re.IGNORECASE)
# Markdown's, and those that GitHub and Hugging Face add: ~ | $.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


class _Read(BaseModel):
    """Parts of an evaluation's files, which hold more than a card shows."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class MeasuredClass(_Read):
    """One class of evaluation.json; None where a value does not exist."""

    name: str
    ap: float | None
    interval: tuple[float, float] | None
    positives: int
    recall: float


class Measured(_Read):
    """The parts of evaluation.json that a card shows."""

    protocol: str
    mean_ap: float
    interval: dict[str, float] | None
    rounds: int
    data: str
    images: int
    bundle_sha256: str
    members: int
    precision: str
    command: str
    per_class: tuple[MeasuredClass, ...]


class Kind(_Read):
    """Errors of one kind: their number, and the mAP that would be gained without them."""

    kind: str
    number: int
    gain: float


class Slice(_Read):
    """The objects of one size or shape."""

    by: str
    name: str
    objects: int
    mean_ap: float | None
    recall: float | None


class WorstImage(_Read):
    """An image with many errors, and the file of its picture beside diagnosis.json."""

    image: str
    missed: int
    false: int
    picture: str


class Diagnosed(_Read):
    """The parts of diagnosis.json that a card shows."""

    threshold: float
    errors: tuple[Kind, ...]
    misses: dict[str, int]
    slices: tuple[Slice, ...]
    worst_images: tuple[WorstImage, ...]


Part = TypeVar("Part", bound=_Read)


class Picture(NamedTuple):
    """A picture of the card: its file in the bundle, and where it comes from."""

    file: str
    source: Path
    caption: str


def bundle_sha256(folder: str | Path) -> str:
    """The hash of a bundle's manifest, which names the hashes of all its files."""
    return hashlib.sha256((Path(folder) / MANIFEST).read_bytes()).hexdigest()


def write_card(folder: str | Path, manifest: BundleManifest) -> None:
    """Write the card of a bundle without measurements; a README.md of someone else stays."""
    _write(Path(folder), manifest, None, None, ())


def complete_card(folder: str | Path, evaluation: str | Path, pictures: int = 4) -> list[str]:
    """Write the card of a bundle with what the folder of an evaluation says; returns its files.

    pictures  at most so many of the worst images, which are copied: mind their licence

    Raises EvaluationError for an evaluation of other weights or without its report.
    """
    folder, evaluation = Path(folder), Path(evaluation)
    manifest = read_manifest(folder)
    measured = _read(evaluation / "evaluation.json", Measured)
    if measured.bundle_sha256 != bundle_sha256(folder):
        raise EvaluationError(
            f"{evaluation}: is not an evaluation of {folder} as it is now; evaluate it again with"
            f" inception-rcnn evaluate detections --weights {folder} --report"
        )
    diagnosed = _read(evaluation / "diagnosis.json", Diagnosed)
    chosen = [Picture(f"card_{CURVES}", evaluation / CURVES, "Precision against recall")]
    for one in diagnosed.worst_images[:pictures]:
        caption = f"{one.image}: {one.missed} missed, {one.false} false"
        name = Path(one.picture).name  # a file of strangers leads to no other folder
        chosen.append(Picture(f"card_{name}", evaluation / name, caption))
    return _write(folder, manifest, measured, diagnosed, _small_enough(chosen))


def _read(path: Path, kind: type[Part]) -> Part:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError:
        cure = "give the --out of inception-rcnn evaluate detections --weights BUNDLE --report"
        raise EvaluationError(f"{path}: cannot be read; {cure}") from None
    except ValidationError as error:
        raise EvaluationError(
            f"{path}: not that of a bundle's evaluation with --report: {first_fault(kind, error)}"
        ) from None


def _small_enough(pictures: Sequence[Picture]) -> list[Picture]:
    chosen, total = [], 0
    for one in pictures:
        # A missing picture counts as too large.
        size = one.source.stat().st_size if one.source.is_file() else MAX_BYTES
        if size <= MAX_PICTURE_BYTES and total + size <= MAX_BYTES:
            chosen.append(one)
            total += size
    return chosen


def _write(
    folder: Path,
    manifest: BundleManifest,
    measured: Measured | None,
    diagnosed: Diagnosed | None,
    pictures: Sequence[Picture],
) -> list[str]:
    path = folder / CARD
    if path.is_file() and MARK.encode() not in path.read_bytes():
        if measured is None:
            return []
        raise BundleError(f"{path}: is not a card that this program made; move it away")
    for one in pictures:
        write_atomically(folder / one.file, one.source.read_bytes())
    write_atomically(path, _text(manifest, measured, diagnosed, pictures))
    shown = {one.file for one in pictures}
    for old in folder.glob(PICTURES):  # of a card before
        if old.name not in shown:
            old.unlink()
    return [CARD, *sorted(shown)]


def _text(
    manifest: BundleManifest,
    measured: Measured | None,
    diagnosed: Diagnosed | None,
    pictures: Sequence[Picture],
) -> str:
    # Here: who only detects or trains without writing needs no templates.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape_controls(value) if isinstance(value, str) else value,
    )
    environment.filters |= {
        "text": _as_text,
        "percent": lambda share: "-" if share is None else f"{100 * share:.1f}",
        "quoted": lambda value: json.dumps(value),  # JSON's strings are YAML's
    }
    known = LICENCES.match(manifest.provenance.licence)
    settings = {
        name: value
        for name, value in manifest.thresholds.model_dump(by_alias=True).items()
        if value is not None and value is not False
    }
    card: str = environment.get_template("card.md.j2").render(
        mark=MARK,
        manifest=manifest,
        licence=known[0].lower() if known else "other",
        settings=settings,
        architectures=sorted({member.architecture for member in manifest.members}),
        bytes=sum(one.bytes for one in manifest.members) + sum(one.bytes for one in manifest.heads),
        measured=measured,
        diagnosed=diagnosed,
        weakest=[] if measured is None else _weakest(measured),
        pictures=pictures,
    )
    return card.strip() + "\n"


def _as_text(value: Any) -> str:
    # A name from a file is no markup, and ends no row of a table.
    return SPECIAL.sub(r"\\\1", escape_controls(str(value)))


def _weakest(measured: Measured) -> list[MeasuredClass]:
    with_objects = [one for one in measured.per_class if one.ap is not None]
    return sorted(with_objects, key=lambda one: one.ap or 0.0)[:5]
