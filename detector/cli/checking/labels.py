"""Wrong labels, found by a detector: `inception-rcnn data check --weights`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from detector.cli.app import exclusive_out
from detector.cli.checking.data import Labelled, read_labelled
from detector.cli.checking.settings import WrongLabelSettings
from detector.cli.detecting.loading import load
from detector.datasets import Dataset, Sample
from detector.detection.aggregate import RegionScores
from detector.detection.bundle import BundleManifest, bundle_sha256, read_manifest
from detector.detection.detector import Detector
from detector.detection.load import SHIPPED
from detector.errors import ImageError
from detector.evaluation.scoring.annotated import score_annotated
from detector.evaluation.scoring.regions import (
    proposing_with,
    region_store,
    score_dataset,
    trained_on,
)
from detector.evaluation.wrong_labels.duplicates import across_splits
from detector.evaluation.wrong_labels.page import Page, wrong_labels_html
from detector.evaluation.wrong_labels.suspects import Suspect, ranked, write_suspects
from detector.evaluation.wrong_labels.suspicion import MIN_SCORE, OwnScores, own_scores, suspects_of
from detector.files import write_atomically
from detector.progress.bar import progress
from detector.progress.interruption import stop_gently
from detector.progress.messages import escape_controls, pluralise, say, say_error
from detector.proposals.cache.stored import ProposalStore
from detector.structures import Detections

LIKELY = 0.5


@exclusive_out
def check_labels(
    data: Path,
    weights: str,
    split: str | None,
    chosen: WrongLabelSettings,
    *,
    out: Path,
    quiet: bool,
    command: str,
    most: int,
    **reading: Any,
) -> int:
    """Find, rank, write and show suspects; the exit code.

    weights  the bundle's folder, or "shipped"
    most     printed
    reading  options of read_dataset
    """
    bundle = SHIPPED if weights == "shipped" else Path(weights)
    manifest = read_manifest(bundle)
    labelled = read_labelled(data, split, manifest.classes, **reading)
    remarks = remarks_on(manifest, labelled)
    for remark in remarks:
        say(f"note: {remark}")
    detector = load_for_labels(bundle, chosen, quiet)
    suspects, failed = find(detector, manifest, labelled, out, quiet)
    suspects = ranked(suspects)
    dataset = labelled.dataset
    about = {
        "weights": weights, "bundle_sha256": bundle_sha256(bundle), "data": str(data),
        "images": len(dataset), "failed": failed, "remarks": remarks,
    }  # fmt: skip
    write_suspects(out, suspects, about)
    labels = sum(suspect.row is not None for suspect in suspects)
    summary = (
        f"{pluralise(labels, 'label')} of {pluralise(len(dataset), 'image')} checked; in"
        f" {pluralise(len(suspects) - labels, 'more place')} a label may be missing."
    )
    samples = {sample.image_id: sample for sample in dataset.samples}
    judged = f"weights {weights} · data {data}"
    page = Page(dataset.name, suspects, samples, labelled.names, judged, summary, command, remarks)
    write_atomically(out / "wrong_labels.html", wrong_labels_html(page, chosen.pictures))
    show(suspects, most, out)
    return int(failed > 0)


def load_for_labels(bundle: Path, chosen: WrongLabelSettings, quiet: bool) -> Detector:
    """The bundle's detector, which names less sure detections, too."""
    return load(
        bundle, quiet, ensemble=chosen.ensemble, device=chosen.device, precision=chosen.precision,
        threads=chosen.threads, settings={"score_threshold": MIN_SCORE},
    )[0]  # fmt: skip


def remarks_on(manifest: BundleManifest, labelled: Labelled) -> list[str]:
    """Sentences for the reader of the list."""
    count = trained_on(manifest, labelled.dataset)
    if not count:
        return []
    return [
        f"the bundle learnt from at least {count} of these"
        f" {pluralise(len(labelled.dataset), 'image')}, mistakes included, and is less surprised by"
        " them: a bundle that was trained on other images finds more"
    ]


class Seen(NamedTuple):
    """One image under the detector: its labels, its regions, and detections made of them."""

    sample: Sample
    labels: OwnScores
    regions: RegionScores
    found: Detections


def find(
    detector: Detector, manifest: BundleManifest, labelled: Labelled, out: Path, quiet: bool
) -> tuple[list[Suspect], int]:
    """The suspects, unranked, and the number of images that could not be read."""
    dataset = labelled.dataset
    suspects: list[Suspect] = []
    failed = 0
    for seen in look(detector, manifest, dataset, out, quiet):
        if isinstance(seen, ImageError):
            say_error(seen)
            failed += 1
        else:
            unknown = labelled.unknown[seen.sample.image_id]
            suspects += suspects_of(*seen, labelled.names, unknown)
    if failed == len(dataset):
        raise ImageError(f"{dataset.name}: none of its images could be read")
    if len(set(labelled.splits)) > 1:
        hashed = progress(dataset.samples, "compare splits", quiet=quiet)
        suspects += across_splits(hashed, labelled.splits)
    return suspects, failed


def look(
    detector: Detector, manifest: BundleManifest, dataset: Dataset, out: Path, quiet: bool
) -> Iterator[Seen | ImageError]:
    """Run the detector on labels and regions, whose scores stay in OUT, as `evaluate` has them."""
    out.mkdir(parents=True, exist_ok=True)
    folder = out / "regions"
    store = region_store(folder, detector, manifest)
    seen: dict[str, OwnScores] = {}
    with (
        ProposalStore(out / "proposals.sqlite", "rw") as proposals,
        stop_gently("the images under way") as stop,
    ):
        boxes = score_annotated(
            detector, dataset, folder, manifest, label="score labels", quiet=quiet, stop=stop
        )
        for sample, scored in boxes:
            if not isinstance(scored, ImageError):
                seen[sample.image_id] = own_scores(sample, scored.scores)
        regions = score_dataset(
            detector, dataset, store, proposing_with(detector, proposals),
            label="score regions", quiet=quiet, stop=stop,
        )  # fmt: skip
        for sample, scored in regions:
            if isinstance(scored, ImageError):
                yield scored
            elif sample.image_id in seen:  # not where the first loop was interrupted
                found = detector.suppress(scored.boxes, scored.scores)
                yield Seen(sample, seen[sample.image_id], scored, found)


def show(suspects: list[Suspect], most: int, out: Path) -> None:
    """Print the first suspects, one a line."""
    for rank, one in enumerate(suspects[:most], 1):
        label = f"{one.label} -> {one.suggestion}" if one.label else one.suggestion
        box = "" if one.box is None else " at " + " ".join(f"{x:.0f}" for x in one.box.tolist())
        line = f"{rank:>3} {one.suspicion:.2f} {one.kind:10} {one.image_id}: {label}{box}"
        print(escape_controls(line))
    likely = sum(one.suspicion >= LIKELY for one in suspects)
    print(
        f"{pluralise(likely, 'label')} of {len(suspects):,} with a suspicion of a half or more;"
        f" {out}/: wrong_labels.html, wrong_labels.json, wrong_labels.csv"
    )
