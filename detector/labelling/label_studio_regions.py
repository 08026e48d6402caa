"""Between Label Studio and detectors: the labelling setup, and regions in percent of a picture."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detector import boxes as box_ops
from detector.datasets.formats.label_tools import turned
from detector.errors import SettingsError
from detector.results.label_writers import Box, Picture, label_studio_result
from detector.structures import Array, Detections


class Setup(NamedTuple):
    """The rectangles of a labelling setup.

    control  name of the RectangleLabels;  image  name of the Image;  key  of its address in a
    task's data;  labels  label -> classes of a detector that it stands for
    """

    control: str
    image: str
    key: str
    labels: Mapping[str, Sequence[str]]

    def label_of(self, name: str) -> str | None:
        """The label for a class; capitals do not matter. None where there is none."""
        for label, names in self.labels.items():
            if name.lower() in (label.lower(), *map(str.lower, names)):
                return label
        return None


def setup_of(parsed: Mapping[str, Any]) -> Setup:
    """The first RectangleLabels on an Image. Raises SettingsError where there is none."""
    for name, control in parsed.items():
        inputs = control["inputs"]
        if control["type"] == "RectangleLabels" and inputs and inputs[0]["type"] == "Image":
            labels = {
                label: [one.strip() for one in tag.get("predicted_values", "").split(",")]
                for label, tag in control["labels_attrs"].items()
            }
            return Setup(name, control["to_name"][0], inputs[0]["value"], labels)
    raise SettingsError(
        "the labelling setup has no RectangleLabels for an Image; choose the template Object"
        " Detection with Bounding Boxes in Settings, Labeling Interface"
    )


def results_of(found: Detections, size: tuple[int, int], setup: Setup) -> list[dict[str, Any]]:
    """Detections in an image of `size` (H, W) as Label Studio's regions; classes without a label
    are left out.
    """
    labels = [setup.label_of(name) or "" for name in found.classes]
    boxes = [Box(label, score, *box.tolist()) for box, score, label in found if labels[label]]
    names = {"from_name": setup.control, "to_name": setup.image}
    return [{**row, **names} for row in label_studio_result(Picture("", size, boxes), labels)]


def regions_of(task: Mapping[str, Any], control: str) -> list[Mapping[str, Any]] | None:
    """The rectangles that people drew in a task, from its last annotation that was not skipped;
    None where there is no annotation.
    """
    submitted = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    if not submitted:
        return None
    regions = submitted[-1].get("result") or ()
    return [one for one in regions if one.get("from_name") == control and "value" in one]


def boxes_of(
    regions: Iterable[Mapping[str, Any]], size: tuple[int, int]
) -> tuple[Array, list[str]]:
    """Boxes (N, 4) and labels (N,) of regions in an image of `size` (H, W), clipped to it; a turned
    rectangle becomes the box around it, and one under a pixel or without a label is left out.
    """
    boxes, labels = [np.zeros((0, 4))], []
    for region in regions:
        value = region["value"]
        names = value.get("rectanglelabels") or []
        sides = np.array([value.get(name) for name in ("x", "y", "width", "height")], np.float64)
        x, y, right, down = (sides * [size[1], size[0], size[1], size[0]] / 100).tolist()
        corners = np.array(turned(x, y, right, down, value.get("rotation") or 0))
        box = box_ops.clip(np.concatenate([corners.min(0), corners.max(0)])[None], size)
        if len(names) == 1 and (box[:, 2:] - box[:, :2] >= 1).all():
            boxes.append(box)
            labels.append(str(names[0]))
    return np.concatenate(boxes), labels
