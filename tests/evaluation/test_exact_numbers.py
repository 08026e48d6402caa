"""IoU and area are those of the numbers in the files, as pycocotools counts them."""

import contextlib
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_cases import dataset_of
from PIL import Image
from pycocotools import mask

from detector.boxes import iou, iou_xywh, xyxy_from_coco
from detector.datasets import read_coco
from detector.evaluation import evaluate
from detector.evaluation.protocols.coco import STATISTICS
from detector.evaluation.protocols.matching import RIGHT
from detector.evaluation.protocols.rules import judge_voc
from detector.results.results import read_results
from detector.structures import Annotations, Detections

engines = pytest.mark.parametrize(
    "engine",
    [
        "pycocotools",
        pytest.param(
            "fast",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("hotcoco") is None, reason="hotcoco is not installed"
            ),
        ),
    ],
)


def pairs(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Objects and detections with one decimal; the detections are half, 3/4 or 1024 pixels."""
    objects = np.round(rng.uniform(1, 60, (count, 4)), 1)
    found = objects.copy()
    found[0::3, 2] /= 2
    found[1::3, 3] *= 0.75
    found[2::3, :2] += 0.1
    objects[::4, 2:] = found[::4, 2:] = 32
    return objects, np.round(found, 3)


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_are_pycocotools_own_to_the_last_bit(seed: int) -> None:
    objects, found = pairs(np.random.default_rng(seed), 200)
    theirs = mask.iou(found, objects, [0] * len(objects))
    ours = iou_xywh(found, objects)
    assert ours.tolist() == theirs.tolist()
    corners = iou(xyxy_from_coco(found), xyxy_from_coco(objects))
    assert ((corners >= 0.5) != (theirs >= 0.5)).any()  # what rounding would change
    right = [
        judge_voc(iou_xywh(f[None], o[None]), o[None], np.array([False]))[0] == RIGHT
        for f, o in zip(found, objects, strict=True)
    ]
    assert right == (np.diag(theirs) >= 0.5).tolist()


@pytest.mark.parametrize("protocol", ["voc12", "ilsvrc"])
def test_every_protocol_counts_the_numbers_of_the_files(protocol: Any) -> None:
    """An object and a detection an image: as many are found as pycocotools' IoU says."""
    objects, found = pairs(np.random.default_rng(3), 60)
    objects[:, 2:] += 40  # ILSVRC asks less of small objects
    found = objects * [1, 1, 0.5, 1]
    truth, results = [], {}
    for row, (one, half) in enumerate(zip(objects, found, strict=True)):
        box, detection = xyxy_from_coco(one[None]), xyxy_from_coco(half[None])
        truth.append(Annotations(box, [0], written=one[None]))
        name = dataset_of(*truth).samples[row].image_id
        results[name] = Detections(detection, [0.5], [0], written=half[None])
    theirs = np.diag(mask.iou(found, objects, [0] * 60)) >= 0.5
    assert 0.2 < theirs.mean() < 0.8  # a half but for the rounding of the numbers themselves
    result = evaluate(dataset_of(*truth), results, protocol).per_class[0]
    assert round(result.best_recall * 60) == theirs.sum()


def test_boxes_without_area_overlap_nothing() -> None:
    flat = np.array([[5.0, 5, 0, 10], [5, 5, 0, 0]])
    assert not iou_xywh(flat, np.array([[0.0, 0, 20, 20], [5, 5, 0, 10]])).any()


def written(folder: Path, seed: int) -> tuple[Path, Path]:
    """An instances file of six images and its results, some of them flat."""
    rng = np.random.default_rng(seed)
    images, objects, rows = [], [], []
    for image in range(1, 7):
        Image.new("RGB", (128, 128)).save(folder / f"{image}.jpg")
        images.append({"id": image, "file_name": f"{image}.jpg", "width": 128, "height": 128})
        for box, found in zip(*(one.tolist() for one in pairs(rng, 12)), strict=True):
            kind, area = int(rng.integers(1, 4)), box[2] * box[3]
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image,
                    "category_id": kind,
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
            )
            score = float(rng.integers(1, 9)) / 10 + 1e-9 * float(rng.integers(0, 2))
            rows.append({"image_id": image, "category_id": kind, "bbox": found, "score": score})
        flat = [3.0, 3.0, 0.0, float(image)]
        rows.append({"image_id": image, "category_id": 1, "bbox": flat, "score": 0.55})
    classes = [{"id": number, "name": str(number)} for number in (1, 2, 3)]
    content = {"images": images, "annotations": objects, "categories": classes}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(rows))
    return folder / "instances.json", folder / "found.json"


def pycocotools_on(truth: Path, found: Path, max_dets: int = 100) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        run = COCOeval(coco, coco.loadRes(str(found)), "bbox")
        run.params.maxDets = [1, 10, max_dets]
        run.evaluate()
        run.accumulate()
        if max_dets == 100:
            run.summarize()
    return run


@engines
@pytest.mark.parametrize("seed", range(3))
def test_the_twelve_numbers_of_two_files_are_pycocotools_own(
    tmp_path: Path, engine: Any, seed: int
) -> None:
    truth, found = written(tmp_path, seed)
    dataset = read_coco(truth)
    assert [len(one.annotations) for one in dataset.samples] == [12] * 6
    result = evaluate(dataset, read_results(found, dataset), "coco", engine)
    theirs = [float("nan") if one < 0 else one for one in pycocotools_on(truth, found).stats]
    assert [result.extras[name] for name in STATISTICS] == pytest.approx(
        theirs, abs=1e-15, nan_ok=True
    )


def crowded(count: int) -> tuple[Any, dict[str, Detections]]:
    boxes = [[5 * i, 0, 5 * i + 4, 40] for i in range(count)]
    found = Detections(boxes, np.linspace(0.9, 0.1, count), [0] * count)
    return dataset_of(Annotations(boxes, [0] * count)), {"a": found}


@engines
@pytest.mark.parametrize(
    ("most", "share"), [(1, 0.01), (7, 0.05), (100, 0.67), (150, 1.0), (999, 1.0)]
)
def test_only_so_many_of_a_class_count_in_an_image(engine: Any, most: int, share: float) -> None:
    result = evaluate(*crowded(150), "coco", engine, max_dets=most)
    assert result.extras[f"AR{most}"] == pytest.approx(min(most, 150) / 150)
    assert result.mean_ap == result.extras["AP"] == pytest.approx(share, abs=0.01)
    assert result.extras.get("images_beyond_max_dets") == (1 if most < 150 else None)


@engines
@pytest.mark.parametrize("most", [11, 100, 300])
def test_with_another_limit_the_numbers_are_pycocotools_too(
    tmp_path: Path, engine: Any, most: int
) -> None:
    truth, found = written(tmp_path, 9)
    dataset = read_coco(truth)
    result = evaluate(dataset, read_results(found, dataset), "coco", engine, max_dets=most)
    run = pycocotools_on(truth, found, most)
    precision, recall = run.eval["precision"][..., 0, 2], run.eval["recall"][..., 0, 2]
    assert result.mean_ap == pytest.approx(precision[precision > -1].mean(), abs=1e-15)
    assert result.extras[f"AR{most}"] == pytest.approx(recall[recall > -1].mean(), abs=1e-15)
