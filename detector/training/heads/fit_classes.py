"""New classes from a few boxes, beside those of a detector, which stay as they are."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detector import boxes as box_ops
from detector.datasets import Dataset, Sample
from detector.detection.bundle import read_manifest, save_heads
from detector.detection.load import SHIPPED
from detector.errors import SettingsError
from detector.files import exclusive_lock
from detector.images.decoding import read_image
from detector.images.inputs import ImageLike, to_pixels
from detector.settings import validate
from detector.structures import Annotations
from detector.training.heads.class_data import check_names, images_of_classes
from detector.training.heads.class_learner import ClassLearner
from detector.training.heads.class_report import ClassReport
from detector.training.heads.settings import FitClassesSettings


@dataclass(frozen=True)
class FitReport:
    """A bundle with new classes.

    bundle    its folder, for `load_detector`
    classes   a report on each class that was added or refined
    warnings  sentences about the data
    complete  all images could be read
    """

    bundle: Path
    classes: tuple[ClassReport, ...]
    warnings: tuple[str, ...] = ()
    complete: bool = True


def fit(
    images: Sequence[ImageLike], boxes: Sequence[Any], labels: Sequence[Sequence[str]],
    out: str | Path, *, bundle: str | Path | None = None, add: Sequence[str] | None = None,
    refine: Sequence[str] | None = None, background: Sequence[str | Path] = (),
    device: str = "auto", quiet: bool = True, **settings: Any,
) -> FitReport:  # fmt: skip
    """Learn the classes of a few boxes beside those of a detector: the folder `out` becomes a
    bundle for `load_detector`. What the detector knew before, it finds as before.

    images      paths, Pillow pictures, arrays (H, W, 3) or tensors (3, H, W)
    boxes       for each image (N, 4) xyxy pixels of everything of these classes that it shows
    labels      for each image the N names
    bundle      the detector that learns; None is the one that ships
    add         names to learn; None: those that the detector does not have
    refine      added classes to learn from these boxes, too; None: those among the labels
    background  photographs without the classes, or folders of them
    settings    `FitClassesSettings` by name, such as budget="2m"

    Raises SettingsError, DatasetError or TrainingError, with the cure, where there is too little to
    learn from; nothing is written then.
    """
    if not len(images) == len(boxes) == len(labels):
        raise SettingsError(
            f"{len(images)} images, {len(boxes)} arrays of boxes and {len(labels)} lists of labels"
            " do not pair up"
        )
    names = tuple(dict.fromkeys(name for image in labels for name in image))
    manifest = read_manifest(bundle or SHIPPED)
    if add is None:
        add = [name for name in names if name not in manifest.classes]
    if refine is None:
        refine = [name for name in names if name in manifest.added_classes]
    with tempfile.TemporaryDirectory() as folder:
        samples = [
            _sample(number, *image, names, Path(folder))
            for number, image in enumerate(zip(images, boxes, labels, strict=True))
        ]
        return fit_classes(
            Dataset("the images", names, tuple(samples)) if names else None, out,
            add=add, refine=refine, bundle=bundle, background=background, device=device,
            quiet=quiet, **settings,
        )  # fmt: skip


def fit_classes(
    data: str | Path | Dataset | None, out: str | Path, *, add: Sequence[str] = (),
    refine: Sequence[str] = (), remove: Sequence[str] = (), split: str | None = None,
    bundle: str | Path | None = None, background: Sequence[str | Path] = (), device: str = "auto",
    quiet: bool = True, **settings: Any,
) -> FitReport:  # fmt: skip
    """Add classes to a detector, refine and remove added ones, as `inception-rcnn fit` does: the
    folder `out` becomes a bundle for `load_detector`.

    The other classes' scores stay the same to the bit. Images that cannot be read are left out,
    and named on stderr.

    data        a data set as `read_dataset` finds it, or its folder, file or archive; boxes of all
                objects of these classes in its images
    add         names of at least 5 boxes each, in two images or more
    refine      classes added before, whose new boxes join those of the earlier fits
    bundle      the detector that learns; None is the one that ships
    background  photographs without the classes, or folders of them
    quiet       without it, the estimated time and progress are shown
    settings    `FitClassesSettings` by name
    """
    started = time.perf_counter()
    out, bundle = Path(out), Path(bundle or SHIPPED)
    chosen = validate(FitClassesSettings, settings, "fit")
    if not (add or refine or remove):
        raise SettingsError("nothing to do: give classes to add, refine or remove")
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out}: a detector is written to a folder, and this is none")
    manifest = read_manifest(bundle)
    check_names(add, refine, remove, manifest)
    with exclusive_lock(out):
        if not (add or refine):
            save_heads(bundle, out, [], remove=remove)
            return FitReport(out, ())
        dataset = images_of_classes(
            data if data is None or isinstance(data, Dataset) else Path(data), split, add, refine,
            chosen.boxes, list(map(str, background)),
        )  # fmt: skip
        work = ClassLearner(dataset, bundle, manifest, chosen, device, quiet, started)
        reports, warnings, complete = work.run(out, remove)
        return FitReport(out, reports, warnings, complete)


def _sample(
    number: int, image: ImageLike, boxes: Any, labels: Sequence[str], names: Sequence[str],
    folder: Path,
) -> Sample:  # fmt: skip
    """An image with its boxes; pixels that are not in a file are written into `folder`."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if len(boxes) != len(labels):
        raise SettingsError(f"image {number}: {len(boxes)} boxes and {len(labels)} labels")
    if not isinstance(image, (str, os.PathLike)):
        pixels = to_pixels(image)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path, compress_level=1)
    else:
        path = Path(image)
        pixels = read_image(path)
    height, width = pixels.shape[:2]
    inside = box_ops.clip(boxes, (height, width))
    flat = (inside[:, 2:] - inside[:, :2] < 1).any(1)
    if not np.isfinite(boxes).all() or flat.any():
        wrong = boxes[flat | ~np.isfinite(boxes).all(1)][0].tolist()
        raise SettingsError(
            f"image {number}: box {wrong} is not x1, y1, x2, y2 inside its {width}x{height} pixels"
        )
    truth = Annotations(inside, np.array([names.index(name) for name in labels], np.int64))
    return Sample(f"image {number}", path, (height, width), truth)
