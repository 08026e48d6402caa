"""Reading YOLO's layout: a data.yaml, image folders, and a text file of boxes for each image.

images/SPLIT/NAME.jpg   labels/SPLIT/NAME.txt   with lines: class cx cy width height, in 0..1

What else such sets are like is in yolo_files (folders, lists, names) and yolo_rows (long rows).
"""

from pathlib import Path

from detector.boxes import xyxy_from_yolo
from detector.datasets.dataset import Dataset, Ledger
from detector.datasets.formats.annotation_files import read_text
from detector.datasets.formats.entries import Convention, Entry, Row, samples_of
from detector.datasets.formats.yolo_files import Files, images_of, labels_without_image, texts_of
from detector.datasets.formats.yolo_rows import (
    Fault,
    Meaning,
    meaning_of,
    numbered_rows,
    read_row,
    shift_of,
)
from detector.datasets.formats.yolo_settings import classes_of, read_settings, root_of
from detector.datasets.image_files import upright_size
from detector.errors import AnnotationError
from detector.structures import Array


def read_yolo(data_yaml: str | Path, split: str = "train", *, strict: bool = False) -> Dataset:
    """Read the images of one split. One without a label file has no objects, as YOLO means it.

    data_yaml  or Darknet's obj.data, or a classes.txt beside the images
    strict     stop with an AnnotationError at the first defect instead of leaving it out
    """
    data_yaml = Path(data_yaml)
    settings = read_settings(data_yaml)
    classes = classes_of(data_yaml, settings)
    root = root_of(data_yaml, settings)
    ledger, files = Ledger(root, strict), Files(root)
    images = images_of(data_yaml, settings, split, files, ledger)
    labels = {image_id: files.labels_of(path) for image_id, path in images.items()}
    try:
        meaning = meaning_of(settings, texts_of(labels.values()))
    except AnnotationError as error:
        raise AnnotationError(f"{data_yaml}: {error}", error.rule) from None
    entries: list[Entry] = []
    numbers: set[float] = set()
    for image_id, path in images.items():
        entry = entry_of(image_id, path, labels[image_id], ledger)
        entry.size = upright_size(path)  # YOLO's own files have none
        if entry.size is None:
            empty = path.stat().st_size == 0
            fault = ("empty-file", "has 0 bytes") if empty else ("unreadable-image", "is no image")
            ledger.add(path, image_id, *fault)
        elif read_labels(entry, labels[image_id], meaning, len(classes), numbers):
            entries.append(entry)
    shift = shift_of(numbers, len(classes))
    if shift and min(numbers) < len(classes):  # else every object is left out, and counted
        cure = "subtract 1 from each, or add the missing class to names"
        raise AnnotationError(f"{data_yaml}: {split}: {shift}; {cure}", "shifted-classes")
    dropped = len(ledger.entries)
    labels_without_image(images.values(), files, ledger)
    if len(ledger.entries) > dropped:  # those of no image may belong to one that has none
        for entry in entries:
            entry.complete = entry.complete and entry.labelled
    name = f"{data_yaml.resolve().parent.name}/{split}"
    samples = samples_of(entries, CONVENTION)
    return Dataset(name, classes, samples, tuple(ledger.entries)).not_empty()


def entry_of(image_id: str, path: Path, labels: Path | None, ledger: Ledger) -> Entry:
    file = ledger.shown(labels or path)
    return Entry(image_id, path, file, ledger, labelled=labels is not None)


def read_labels(
    entry: Entry, labels: Path | None, meaning: Meaning, classes: int, numbers: set[float]
) -> bool:
    """Read the objects of an image; False where the file cannot be read, for then nobody knows what
    the image shows. `numbers` takes the classes that it names, whether there are such or not.
    """
    if labels is None:
        return True
    try:
        text = read_text(labels)
    except AnnotationError as error:
        entry.ledger.refuse(labels, entry.image_id, error)
        return False
    for number, line in numbered_rows(text):
        row = read_row(line, meaning, classes)
        if row.label is not None:
            numbers.add(row.label)
        if isinstance(row, Fault):
            entry.leave_out(number, row.rule, row.why)
        else:
            entry.rows.append(Row(number, int(row.label), row.box))
    return True


def _in_pixels(written: Array, sizes: Array) -> Array:
    return written * sizes[:, [1, 0, 1, 0]]


CONVENTION = Convention(
    "centre and size",
    lambda written, sizes: xyxy_from_yolo(_in_pixels(written, sizes), (1, 1)),
    lambda written, sizes: _in_pixels(written, sizes)[:, 2:],
    "two corners",
    _in_pixels,
    shares=True,
)
