"""The precision-recall picture is a PNG with one panel a class."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from detector.evaluation.report.plots import plot_coverage, plot_precision_recall
from detector.evaluation.result import ClassResult, Evaluation


def evaluation_of(classes: int) -> Evaluation:
    recall, precision = np.array([0.25, 0.5, 0.5]), np.array([1.0, 1.0, 2 / 3])
    rows = tuple(
        ClassResult(f"$class {i} 車", 0.5, i, 3, recall, precision, np.array([0.9, 0.8, 0.7]))
        for i in range(classes)
    )
    return Evaluation("voc12", 0.5, rows)


def test_the_numbers_of_boxes_are_written_as_numbers(tmp_path: Path, monkeypatch) -> None:
    said: list[str] = []
    save = Figure.savefig

    def read(figure: Figure, *arguments: object, **how: object) -> None:
        save(figure, *arguments, **how)
        said.extend(tick.get_text() for tick in figure.axes[0].get_xticklabels(which="both"))

    monkeypatch.setattr(Figure, "savefig", read)
    boxes = [10, 50, 100, 200, 500, 1000, 1082]
    one = {
        "boxes_per_image": boxes,
        **dict.fromkeys(("recall_0.5", "recall_0.7", "mabo"), [0.5] * 7),
    }
    plot_coverage({"ours": one}, tmp_path / "coverage.png")
    assert {"10", "20", "50", "100", "200", "500", "1,000"} <= set(said)
    assert not any("$" in one for one in said)


@pytest.mark.parametrize(
    ("classes", "columns", "rows"),
    [(1, 1, 1), (3, 2, 1), (12, 5, 3), (45, 5, 8)],  # the class without objects has no panel
)
def test_the_picture_grows_with_the_classes(
    tmp_path: Path, classes: int, columns: int, rows: int
) -> None:
    path = tmp_path / "precision_recall.png"
    plot_precision_recall(evaluation_of(classes), path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (260 * columns, 240 * rows + 60)
        assert len(set(picture.convert("L").resize((60, 60)).tobytes())) > 5  # not blank
    assert [one.name for one in tmp_path.iterdir()] == ["precision_recall.png"]
