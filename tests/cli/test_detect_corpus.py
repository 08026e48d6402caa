"""The whole of tools/detect.py over a hundred and forty bad and odd files in one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import odd_images
import pytest
from PIL import Image
from small_detector import save_detector

TOOL = Path(__file__).resolve().parents[2] / "tools" / "detect.py"


class Done(NamedTuple):
    code: int
    said: str
    peak_mb: float


def detect(names: list[str], folder: Path, bundle: Path, out: Path) -> Done:
    """A process of its own, whose memory is its own; the files are named on standard input."""
    options = ["-", "--weights", str(bundle), "--device", "cpu", "--threads", "2", "--quiet"]
    command = [sys.executable, str(TOOL), *options, "--out", str(out)]
    listed = b"".join(os.fsencode(name) + b"\n" for name in names)
    with (out.parent / "said").open("w+b") as said, (out.parent / "list").open("w+b") as given:
        given.write(listed)
        given.seek(0)
        process = subprocess.Popen(command, stdin=given, stderr=said, cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode()
    return Done(process.returncode, text, used.ru_maxrss / 1024)


@pytest.mark.slow
def test_bad_and_odd_files_cost_themselves_and_nothing_else(tmp_path: Path):
    """Each is a result or one sentence, none takes 10 s, all together under 500 MB more than good
    ones, and the good ones beside them are found as if alone, bit for bit.
    """
    folder, bundle = tmp_path / "corpus", save_detector(tmp_path / "bundle")
    folder.mkdir()
    expected = odd_images.write_all(folder, filled=True)
    odd = sorted(path.name for path in folder.iterdir() if "\n" not in path.name)
    Image.new("RGBA", (5000, 5000), (9, 200, 9, 99)).save(folder / "large-and-clear.png")
    good = [f"good{number}.png" for number in range(4)]
    for number, name in enumerate(good):
        odd_images.scene(number, (120, 160)).save(folder / name)
    # The stem of a good one with a file that is none.
    (folder / "good0.jpg").write_bytes(b"no picture")

    alone = detect(good, folder, bundle, tmp_path / "alone")
    assert alone[:2] == (0, "")
    beside = [*odd[::2], *good[::-1], "good0.jpg", "large-and-clear.png", *odd[1::2]]
    mixed = detect(beside, folder, bundle, tmp_path / "mixed")
    assert mixed.code == 1, mixed.said
    assert mixed.peak_mb < alone.peak_mb + 500

    inputs = json.loads((tmp_path / "mixed" / "run.json").read_text())["inputs"]
    by_name = {one["file"]: one for one in inputs}
    assert by_name.keys() == set(beside)
    assert len(beside) >= 140
    failed = {name for name, one in by_name.items() if one["error"]}
    found = {name for name, one in by_name.items() if one["detections"] is not None}
    assert failed | found == set(beside)
    assert not failed & found
    assert expected["results"] | {*good, "large-and-clear.png"} <= found
    assert (expected["errors"] & set(odd)) | {"good0.jpg"} <= failed
    assert all(by_name[name]["proposals"] >= 1 for name in found)
    assert max(by_name[name]["seconds"] for name in found) < 10
    errors = [line for line in mixed.said.splitlines() if line.startswith("error: ")]
    warnings = [line for line in mixed.said.splitlines() if line.startswith("warning: ")]
    assert len(errors) == len(failed)
    assert len(errors) + len(warnings) == len(mixed.said.splitlines())

    rows = json.loads((tmp_path / "mixed" / "detections.json").read_text())
    ours = [row for row in rows if row["file_name"] in good]
    assert ours == json.loads((tmp_path / "alone" / "detections.json").read_text())
