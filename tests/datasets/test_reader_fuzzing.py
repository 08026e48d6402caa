"""Whatever an annotation file says, a reader gives a data set or a typed error."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import (
    coco_content,
    coco_image,
    coco_object,
    voc_object,
    voc_xml,
    write_coco,
    write_voc,
    write_yolo,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.datasets import Dataset, read_coco, read_voc, read_yolo
from detector.errors import DatasetError, DetectorError

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.sampled_from([10**400, -1, 0, 1, 2, 17]),
    st.floats(),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
quick = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    write_voc(root / "voc", {"a": voc_xml(voc_object())})
    write_coco(root / "coco", coco_content((), [coco_object()]))
    write_yolo(root / "yolo", {"a": "0 0.5 0.5 0.2 0.5"})
    return root


def check_usable(dataset: Dataset) -> None:
    """Whatever a reader lets pass: boxes with an area, of numbers, and labels that are classes."""
    for sample in dataset.samples:
        boxes, labels = sample.annotations.boxes, sample.annotations.labels
        assert np.isfinite(boxes).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert ((labels >= 0) & (labels < len(dataset.classes))).all()


@quick
@given(data=st.data())
def test_any_value_anywhere_in_a_coco_file(folder: Path, data: st.DataObject) -> None:
    content: Any = coco_content([coco_image(), coco_image(2, "2.jpg")], [coco_object()])
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(["images", "annotations", "categories"]))
        rows = content[part]
        if not isinstance(rows, list) or not rows or data.draw(st.integers(0, 9)) == 0:
            content[part] = data.draw(VALUES)
            continue
        row = data.draw(st.sampled_from(range(len(rows))))
        if isinstance(rows[row], dict) and rows[row]:
            key = data.draw(st.sampled_from(sorted(rows[row])))
            rows[row] = {**rows[row], key: data.draw(VALUES)}
        else:
            rows[row] = data.draw(VALUES)
    path = folder / "coco" / "annotations" / "instances_train.json"
    path.write_text(json.dumps(content))
    with contextlib.suppress(DetectorError):
        check_usable(read_coco(path))


@quick
@given(line=st.text(alphabet="0123456789.-+einaf \t\n", max_size=60) | st.text(max_size=30))
def test_any_text_in_a_yolo_label_file(folder: Path, line: str) -> None:
    (folder / "yolo" / "labels" / "train" / "a.txt").write_text(
        line, encoding="utf-8", errors="surrogatepass"
    )
    with contextlib.suppress(DatasetError):  # the only image is left out with its zero bytes
        check_usable(read_yolo(folder / "yolo" / "data.yaml"))


@quick
@given(text=st.text(alphabet="[]{}:,-'\"&*!#|> \nabnamestri:01", max_size=60))
def test_any_text_in_a_data_yaml(folder: Path, text: str) -> None:
    path = folder / "yolo" / "fuzz.yaml"
    path.write_text(text)
    with contextlib.suppress(DetectorError):
        check_usable(read_yolo(path))


@quick
@given(
    values=st.lists(st.text(max_size=12) | st.floats().map(str), min_size=4, max_size=4),
    cut=st.integers(0, 400),
    noise=st.binary(max_size=4),
)
def test_any_damage_to_a_voc_file(folder: Path, values: list[str], cut: int, noise: bytes) -> None:
    whole = voc_xml(voc_object(), voc_object(box=values)).encode("utf-8", "surrogatepass")
    path = folder / "voc" / "Annotations" / "a.xml"
    for content in (whole, whole[:cut] + noise + whole[cut:], whole[:cut]):
        path.write_bytes(content)
        with contextlib.suppress(DetectorError):
            assert len(read_voc(folder / "voc", "train")) == 1
