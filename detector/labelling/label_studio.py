"""A machine learning backend of Label Studio: it proposes boxes, and learns the classes of the
labelling setup that its detector lacks from those that people draw.

    inception-rcnn label-studio --weights runs/voc/bundle --model-dir learnt

The interface is label-studio-ml's: `predict` for tasks, `fit` at events. Each learning starts from
the bundle of --weights, in a process of its own, and ends in a new folder of the model folder;
Label Studio's next request uses the newest that is whole.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from label_studio_ml.model import LabelStudioMLBase

from detector.detection.bundle.reading import MANIFEST, read_manifest
from detector.detection.detector import Detector
from detector.detection.load import SHIPPED, load_detector
from detector.errors import DetectorError, ImageError, SettingsError, TrainingError
from detector.files import read_regular
from detector.hardware import use_device, use_threads
from detector.heads.few_shot import MIN_BOXES
from detector.images.decoding import content_hash, decode
from detector.labelling.label_studio_client import LabelStudio
from detector.labelling.label_studio_regions import boxes_of, regions_of, results_of, setup_of
from detector.progress.messages import pluralise, say_error
from detector.structures import Array

FIRST_VERSION = "INITIAL"  # label-studio-ml's name of a model that has learnt nothing
BUNDLE = "bundle"
EVENTS = (
    "START_TRAINING", "ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
)  # fmt: skip
"""Those at which the backend may learn."""


class Machine(NamedTuple):
    """The device and threads of a backend's detector, and the lowest score of its boxes."""

    device: str = "auto"
    threads: int | None = None
    threshold: float | None = None


class InceptionBackend(LabelStudioMLBase):  # type: ignore[misc]  # untyped where it is installed
    """A detector as Label Studio asks it. A fault of one task leaves that task without boxes."""

    TRAIN_EVENTS = EVENTS

    def __init__(
        self, label_config: str | None = None, train_output: Mapping[str, Any] | None = None, *,
        weights: Path = SHIPPED, machine: Machine = Machine(),
        server: LabelStudio | None = None, **given: Any,
    ) -> None:  # fmt: skip
        """Raises SettingsError for a labelling setup without RectangleLabels on an Image.

        train_output  result of a learning: `folder` of its bundle, `job_id`
        weights       the bundle that the backend starts from
        server        None is the one that a setup request names
        """
        super().__init__(label_config, train_output, **given)
        self.weights, self.machine = weights, machine
        self.server = server or LabelStudio(self.hostname, self.access_token)
        self.setup = setup_of(self.parsed_label_config)
        self.version = str(self.train_output.get("job_id", FIRST_VERSION))

    @property
    def detector(self) -> Detector:
        """The newest that has been learnt, or the first."""
        return loaded(str(self.train_output.get("folder", self.weights)), self.machine)

    def predict(self, tasks: Sequence[Mapping[str, Any]], **_: Any) -> list[Any]:
        """Boxes of each task with their scores; a task whose picture cannot be had gets []."""
        return [self._predict(task) for task in tasks]

    def _predict(self, task: Mapping[str, Any]) -> Any:
        try:
            data = self.server.picture(task, self.setup.key)
            pixels = decode(data, f"task {task.get('id')}").pixels
        except DetectorError as error:
            say_error(error)
            return []
        found = self.detector(pixels)
        regions = results_of(found, pixels.shape[:2], self.setup)
        scores = [region["score"] for region in regions]
        return {
            "result": regions,
            "score": sum(scores) / len(scores) if scores else 0.0,
            "model_version": self.version,
        }

    def fit(
        self, tasks: Sequence[Mapping[str, Any]], workdir: str | None = None,
        data: Mapping[str, Any] = MappingProxyType({}), **_: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Learn the labels that the first detector lacks, into a new folder of `workdir`; returns
        what the model's next `train_output` holds.

        tasks  with annotations; without any they are the event's, or its project's on the server
        data   of the event

        Raises DetectorError where nothing can be learnt.
        """
        from detector.training.heads.fit_classes import fit

        known = read_manifest(self.weights).network_classes
        missing = [label for label in self.setup.labels if self._class_of(label, known) == label]
        missing = [label for label in missing if label not in known]
        if not missing:
            raise TrainingError("the detector has every label of the setup: there is none to learn")
        tasks = tasks or data.get("annotations") or self._tasks_of(data)
        out = Path(workdir or tempfile.mkdtemp()) / BUNDLE
        with tempfile.TemporaryDirectory(dir=out.parent) as pictures:
            examples = list(self._examples(tasks, known, Path(pictures)))
            add = _learnable(missing, [labels for _, _, labels in examples])
            having = [one for one in examples if not set(add).isdisjoint(one[2])]
            without = [path for path, _, labels in examples if set(add).isdisjoint(labels)]
            images, boxes, labels = zip(*having, strict=True)
            report = fit(
                images, boxes, labels, out, bundle=self.weights, add=add, background=without,
                device=self.machine.device, threads=self.machine.threads,
            )  # fmt: skip
        warnings = [*report.warnings, *(text for one in report.classes for text in one.warnings)]
        return {
            "weights": fingerprint(self.weights), "learnt": list(map(str, report.classes)),
            "warnings": warnings,
        }  # fmt: skip

    def _tasks_of(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        project = (data.get("project") or {}).get("id")
        if not isinstance(project, int):
            raise SettingsError(
                "the event names no project; in Label Studio's Settings, Webhooks, let this"
                " backend's webhook send its payload"
            )
        return self.server.annotated_tasks(project)

    def _class_of(self, label: str, known: Sequence[str]) -> str:
        return next((name for name in known if self.setup.label_of(name) == label), label)

    def _examples(
        self, tasks: Iterable[Mapping[str, Any]], known: Sequence[str], folder: Path
    ) -> Iterable[tuple[Path, Array, list[str]]]:
        """Picture, boxes (N, 4) and class names of each task; what cannot be had is reported."""
        for number, task in enumerate(tasks):
            regions = regions_of(task, self.setup.control)
            if regions is None:
                continue
            try:
                data = self.server.picture(task, self.setup.key)
                size = decode(data, f"task {task.get('id')}").size
            except ImageError as error:
                say_error(error)
                continue
            path = folder / str(number)
            path.write_bytes(data)
            boxes, labels = boxes_of(regions, size)
            yield path, boxes, [self._class_of(label, known) for label in labels]


@lru_cache(maxsize=2)  # the one in use, and the one that has just been learnt
def loaded(folder: str, machine: Machine) -> Detector:
    """Load the detector of a bundle, once."""
    return load_detector(
        folder, device=use_device(machine.device), threads=use_threads(machine.threads),
        threshold=machine.threshold,
    )  # fmt: skip


def fingerprint(weights: Path) -> str:
    """Hash of a bundle's manifest, which has the hashes of its other files."""
    return content_hash(read_regular(weights / MANIFEST))


def _learnable(missing: Sequence[str], labels: Iterable[Sequence[str]]) -> list[str]:
    """Those labels that have enough boxes in two pictures or more. Raises TrainingError where none
    has.
    """
    boxes, pictures = Counter[str](), Counter[str]()
    for one in labels:
        boxes.update(one)
        pictures.update(set(one))
    enough = [name for name in missing if boxes[name] >= MIN_BOXES and pictures[name] > 1]
    if not enough:
        counts = ", ".join(f"{pluralise(boxes[name], 'box')} of {name}" for name in missing)
        raise TrainingError(
            f"{counts}: nothing was learnt; {MIN_BOXES} boxes of a label are needed, in two"
            " pictures or more"
        )
    return enough
