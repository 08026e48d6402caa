"""The notebooks of examples/ run from first to last cell, and are stored without results."""

import json
import re
from pathlib import Path

import pytest

import detector

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == [
        "a_new_class.ipynb",
        "detection_step_by_step.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_code_and_text_only_and_takes_public_names(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    source = "\n".join("".join(cell["source"]) for cell in code)
    (names,) = re.findall(r"^from detector import (.*)$", source, re.MULTILINE)
    assert set(names.split(", ")) <= set(detector.__all__)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    before = sorted(EXAMPLES.iterdir())
    where = {"metadata": {"path": str(EXAMPLES)}}
    nbclient.NotebookClient(book, timeout=900, kernel_name="python3", resources=where).execute()
    assert sorted(EXAMPLES.iterdir()) == before  # what it makes goes to a temporary folder
    if path.stem == "a_new_class":
        text = "".join(one["text"] for one in book.cells[-1]["outputs"] if "text" in one)
        assert re.fullmatch(r"[1-9]\d* here, 0 beside the cat\n", text), text
