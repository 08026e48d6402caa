"""Another detector's detections of the images of a run, where no data set names their classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.datasets.dataset import Dataset, Sample
from detector.datasets.formats.coco import read_json
from detector.datasets.formats.coco_entries import categories_of
from detector.errors import AnnotationError
from detector.results.coco_json import detections_in, read_rows
from detector.results.unmatched import Unmatched
from detector.structures import Annotations, Detections


class ForeignDetections(NamedTuple):
    """Detections by image id, the names of their labels, and the numbers of those in the file."""

    results: dict[str, Detections]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]


def read_foreign(
    path: Path, files: Mapping[str, Path], unmatched: Unmatched, categories: Path | None = None
) -> ForeignDetections:
    """Read COCO's results of the images `files`, by their ids.

    categories  a COCO file that names the category_ids; without it each row has its category_name

    Raises AnnotationError for a faulty file and EvaluationError where no row is of these images.
    """
    content = read_rows(path)
    if categories is None:
        numbers = _named_in(path, content)
        names, ids = tuple(numbers), tuple(numbers.values())
    else:
        names, ids = _categories_in(categories)
    if not all(type(one) is int for one in ids) or len(set(ids)) < len(ids):
        ids = ()
    empty = Annotations.empty()
    samples = tuple(Sample(image_id, file, None, empty) for image_id, file in files.items())
    images = Dataset("this run", names, samples, category_ids=ids)
    found = detections_in(path, content, images, unmatched)
    return ForeignDetections(found, images.classes, images.category_ids)


def _named_in(path: Path, content: Sequence[Any]) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for position, row in enumerate(content):
        name = row.get("category_name") if isinstance(row, dict) else None
        if not isinstance(name, str):
            raise AnnotationError(
                f"{path}: row {position} has no category_name; write one into each row, or give"
                " --categories FILE, a COCO file whose categories name the numbers"
            )
        numbers.setdefault(name, row.get("category_id"))
    return numbers


def _categories_in(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("categories"), list):
        raise AnnotationError(f"{path}: expected a COCO file with a list of categories")
    categories = categories_of(path, content["categories"], [])
    return categories.names, categories.ids
