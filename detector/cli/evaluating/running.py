"""A bundle run over a data set; the scores of its regions are kept, so that a run goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detector.cli.detecting.loading import load
from detector.cli.evaluating.settings import EvaluateSettings
from detector.datasets import Dataset
from detector.detection.bundle import BundleManifest, bundle_sha256, read_manifest
from detector.errors import ImageError
from detector.evaluation import evaluate, oracle_detections
from detector.evaluation.coverage import coverage
from detector.evaluation.diagnosis.misses import RegionEvidence, region_evidence
from detector.evaluation.evaluating import check_classes
from detector.evaluation.scoring.regions import (
    proposing_from,
    proposing_with,
    region_store,
    score_dataset,
    trained_on,
)
from detector.progress.interruption import stop_gently
from detector.progress.messages import pluralise, say, say_error
from detector.proposals.cache.stored import ProposalStore
from detector.results.coco_json import write_results
from detector.structures import Detections, Proposals


class Seen(NamedTuple):
    """The regions of each image, their evidence of its objects, and the weights that were run."""

    regions: dict[str, Proposals]
    evidence: dict[str, RegionEvidence]
    weights: dict[str, Any]


def detect(
    dataset: Dataset, bundle: Path, chosen: EvaluateSettings, device: str, out: Path, quiet: bool
) -> tuple[Seen, int]:
    """Run the bundle and write detections.json; its regions, and the number of failed images."""
    manifest, digest = read_manifest(bundle), bundle_sha256(bundle)
    warn_of_training(manifest, dataset)
    detector, file = load(
        bundle, quiet, ensemble=chosen.ensemble, device=device, precision=chosen.precision,
        threads=chosen.threads, settings=chosen.of_detection(), proposals=chosen.proposals,
        engine=chosen.engine,
    )  # fmt: skip
    check_classes(detector.classes, dataset)
    out.mkdir(parents=True, exist_ok=True)
    store = region_store(out / "regions", detector, manifest, file.key if file else None)
    weights = {
        "weights": str(bundle), "bundle_sha256": digest,
        "members": len(detector.ensemble.members), "precision": detector.ensemble.arithmetic,
    }  # fmt: skip
    seen = Seen({}, {}, weights)
    results: dict[str, Detections] = {}
    failed = 0
    with (
        ProposalStore(chosen.cache or out / "proposals.sqlite", "rw") as stored,
        stop_gently("the images under way") as stop,
    ):
        proposing = proposing_from(file) if file else proposing_with(detector, stored)
        scored = score_dataset(
            detector, dataset, store, proposing, label="score", quiet=quiet, stop=stop
        )
        for sample, found in scored:
            if isinstance(found, ImageError):
                say_error(found)
                failed += 1
                continue
            truth = sample.annotations
            seen.regions[sample.image_id] = found.proposals
            seen.evidence[sample.image_id] = region_evidence(truth, found.proposals, found.scores)
            results[sample.image_id] = detector.suppress(found.boxes, found.scores)
    if not results:
        raise ImageError(f"{dataset.name}: none of its images could be read")
    (out / "run.json").unlink(missing_ok=True)  # of `detect`, whose results these replace
    write_results(out / "detections.json", dataset, results)
    return seen, failed


def warn_of_training(manifest: BundleManifest, dataset: Dataset) -> None:
    """Warn, before the work, of a bundle that was trained on images of the evaluation."""
    if count := trained_on(manifest, dataset):
        say(
            f"warning: {dataset.name}: the weights learnt from at least {count} of these"
            f" {pluralise(len(dataset), 'image')}, so that their scores flatter; use others"
        )


def stages_of(dataset: Dataset, regions: Mapping[str, Proposals]) -> dict[str, float]:
    """The bounds that proposals set: their recall, and the mAP of a perfect classifier on them."""
    oracle = evaluate(dataset, oracle_detections(dataset, regions), "voc12", rounds=0)
    return {
        "proposals_per_image": sum(map(len, regions.values())) / len(regions),
        "proposal_recall": float(coverage(dataset, regions, [None]).recall(0.5)[0]),
        "oracle_class_map": oracle.mean_ap,
    }
