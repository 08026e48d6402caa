"""Another detector's boxes judged by a bundle, and the mAP before and after."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detector.cli.detecting.boxes import tell_outside
from detector.cli.detecting.loading import load
from detector.cli.evaluating.running import warn_of_training
from detector.cli.evaluating.settings import EvaluateSettings
from detector.datasets import Dataset
from detector.detection.bundle import bundle_sha256, read_manifest
from detector.detection.second_opinion import SecondOpinion, check_foreign
from detector.errors import ImageError
from detector.evaluation.scoring.regions import proposing_by, region_store, score_dataset
from detector.files import read_regular
from detector.images.decoding import content_hash
from detector.progress.interruption import stop_gently
from detector.progress.messages import say, say_error
from detector.results.coco_json import write_results
from detector.structures import Detections


class Rescored(NamedTuple):
    """Another detector's boxes by image id, with fused scores and with ours alone.

    about  the weights, and the file of boxes
    """

    fused: dict[str, Detections]
    alone: dict[str, Detections]
    about: dict[str, Any]
    failed: int


def rescore(
    dataset: Dataset,
    boxes: Mapping[str, Detections],
    bundle: Path,
    chosen: EvaluateSettings,
    device: str,
    out: Path,
    quiet: bool,
) -> Rescored:
    """Classify another detector's boxes and write detections.json with all three scores.

    boxes  by image id; those of images that the data set does not have do not count
    """
    assert chosen.boxes is not None
    manifest = read_manifest(bundle)
    warn_of_training(manifest, dataset)
    check_foreign(str(chosen.boxes), boxes)
    detector, _ = load(
        bundle, quiet, ensemble=chosen.ensemble, device=device, precision=chosen.precision,
        threads=chosen.threads, settings=chosen.of_detection(), engine=chosen.engine,
    )  # fmt: skip
    opinion = SecondOpinion(detector, dataset.classes, chosen.region_weight)
    alone = SecondOpinion(opinion.detector, dataset.classes, 1.0)
    detector = opinion.detector
    if opinion.unknown:
        say(f"note: the weights do not know {', '.join(opinion.unknown)}: their scores stay")
    out.mkdir(parents=True, exist_ok=True)
    # Other boxes are other regions, so that an evaluation goes on with those of the same file only.
    store = region_store(
        out / "regions", detector, manifest, content_hash(read_regular(chosen.boxes))
    )
    ids = {sample.path: sample.image_id for sample in dataset.samples}
    none, outside = Detections.empty(), 0

    regions = proposing_by(lambda path, _, size: opinion.regions(boxes.get(ids[path], none), size))
    rescored = Rescored({}, {}, {}, 0)
    with stop_gently("the images under way") as stop:
        scored = score_dataset(
            detector, dataset, store, regions, label="rescore", quiet=quiet, stop=stop
        )
        for sample, regions_scored in scored:
            if isinstance(regions_scored, ImageError):
                say_error(regions_scored)
                rescored = rescored._replace(failed=rescored.failed + 1)
                continue
            detections = boxes.get(sample.image_id, none)
            outside += opinion.outside(detections, regions_scored.proposals.size)
            rescored.fused[sample.image_id] = opinion.fuse(regions_scored, detections)
            rescored.alone[sample.image_id] = alone.fuse(regions_scored, detections)
    if not rescored.fused:
        raise ImageError(f"{dataset.name}: none of its images could be read")
    tell_outside(chosen.boxes, outside)
    (out / "run.json").unlink(missing_ok=True)  # of `detect`, whose results these replace
    write_results(out / "detections.json", dataset, rescored.fused)
    rescored.about.update({
        "weights": str(bundle), "bundle_sha256": bundle_sha256(bundle), "boxes": str(chosen.boxes),
        "members": len(detector.ensemble.members), "precision": detector.ensemble.arithmetic,
        "region_weight": opinion.weight,
    })  # fmt: skip
    return rescored
