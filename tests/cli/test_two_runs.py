"""Two runs with one --out do not mix: whatever writes a folder has it for itself."""

from pathlib import Path

import ablate
import pytest
import typer

from detector.cli.app import exclusive_out, run_tool
from detector.cli.main import main
from detector.files import exclusive_lock

FOLDERS = {
    "ablate": "proposals --data {data}",
    "detect": "{data}/JPEGImages",
    "evaluate detections": "--data {data}",
    "evaluate classifier": "--data {data} --weights {data}/none",
    "propose evaluate": "--data {data}",
    "data check": "{data} --weights shipped --quiet",
    "data convert": "{data}/found.json --data {data} --split train --to voc",
    "fit heads": "--data {data}",
    "fit temperature": "--data {data}",
    "bundle join": "{data} {data}",
    "data split": "--data {data}",
    "train classifier": "--data {data}/JPEGImages",
    "train multibox": "--data {data}",
    "train regions": "--data {data}",
}
"""Commands whose --out is a folder, each with its other arguments."""


def left_by(command: str, arguments: list[str]) -> int:
    def run() -> None:
        if command == "ablate":
            run_tool(ablate.command_line(), arguments)
        main([*command.split(), *arguments])

    with pytest.raises(SystemExit) as stopped:
        run()
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    from toy_regions import write_squares

    root = write_squares(tmp_path_factory.mktemp("toy") / "squares", images=2)
    (root / "found.json").write_text("[]")
    for name in ("a", "b"):
        folder = root / "JPEGImages" / name
        folder.mkdir()
        (folder / "1.jpg").write_bytes((root / "JPEGImages/000000.jpg").read_bytes())
    return root


@pytest.mark.parametrize("command", sorted(FOLDERS))
def test_the_second_run_in_a_folder_is_refused(command: str, data: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    arguments = [*FOLDERS[command].format(data=data).split(), "--out", str(out)]
    with exclusive_lock(out):
        assert left_by(command, arguments) == 3
        said = capsys.readouterr().err
        assert f"{out}: another" in said
        assert "another --out" in said
        assert [one.name for one in out.iterdir()] == [".lock"]


def test_a_tool_clears_its_folder_and_leaves_no_lock(tmp_path: Path):
    @exclusive_out
    def tool(out: Path = Path("out")) -> int:
        assert not (tmp_path / ".writing-00ff.tmp").exists()
        assert (tmp_path / ".lock").exists()
        return 1

    (tmp_path / ".writing-00ff.tmp").write_bytes(b"half")
    with pytest.raises(SystemExit) as stopped:
        run_tool(tool, ["--out", str(tmp_path)])
    assert stopped.value.code == 1
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_a_file_is_refused_in_the_tools_own_words(tmp_path: Path, capsys):
    @exclusive_out
    def tool(out: Path = Path("out")) -> None:
        raise typer.BadParameter(f"{out} is a file")

    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        run_tool(tool, ["--out", str(tmp_path / "file")])
    assert stopped.value.code == 2
    assert "is a file" in capsys.readouterr().err
