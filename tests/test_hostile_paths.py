"""Crafted names and paths: nothing outside the output folder is written, nothing odd is opened."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.datasets.formats.annotation_files import read_limited
from detector.datasets.image_files import is_inside
from detector.errors import AnnotationError, ImageError, WeightsError
from detector.files import write_atomically
from detector.images.decoding import read_bytes
from detector.images.paths import image_ids, image_paths, output_names
from detector.models.weights.pretrained import read_tensors
from detector.progress.messages import escape_controls

# Ids as image files, annotations and lists may give them.
IDS = [
    "", " ", ".", "..", "...", "-", "--", "-rf", "--out=x", "~", "~root", "$HOME", "`id`", "$(id)",
    "a;id", "a|id", "a&b", "a b", "a\tb", "a\nb", "a\r\nb", "a\x1b[31mb", "a\x00b", "a\x7fb",
    "../a", "../../etc/passwd", "/etc/passwd", "a/../../b", "a\\..\\b", "C:\\a", "\\\\host\\a",
    "con", "nul.jpg", "é", "e\u0301", "\u202egpj.exe", "\u200b", "\ufeff", "\udcff", "😀" * 40,
    "x" * 255, "é" * 127, "a.jpg.exe", ".hidden", "a:b", "a*b?", "%2e%2e%2f", "A", "a", "a-2",
]  # fmt: skip
OUT_OF_THE_FOLDER = [
    "", "..", "../a", "a/../../b", "/etc/passwd", "//host/a", "a\\..\\b", "..\\a", "C:\\a", "C:a",
    "\\a", "\\\\host\\a", "a\x00b", "a/..",
]  # fmt: skip


def test_results_of_fifty_hostile_ids_stay_in_their_folder(tmp_path: Path) -> None:
    """Each has a file of its own, on a disk that does not tell A from a, too."""
    out = tmp_path / "out"
    out.mkdir()
    names = output_names(IDS, ".jpg")
    assert len({name.lower() for name in names}) == len(IDS) == 50
    for name in names:
        assert name[0] not in ".-"
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert len(name) <= 120
        write_atomically(out / name, b"x")
    assert len(list(out.iterdir())) == 50
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", OUT_OF_THE_FOLDER)
def test_a_name_that_leads_out_is_no_name(name: str) -> None:
    assert not is_inside(name)


@pytest.mark.parametrize("name", ["a.jpg", "train/a.jpg", "a..jpg", "...", "-rf", "é", " a"])
def test_a_name_that_stays_inside_is_one(name: str) -> None:
    assert is_inside(name)


@pytest.mark.parametrize("name", IDS)
def test_what_is_shown_on_a_terminal_cannot_move_its_cursor(name: str) -> None:
    assert escape_controls(name).isprintable()


def test_a_folder_of_odd_names_is_read_as_it_is(tmp_path: Path) -> None:
    """All that the system can store, 255 bytes and bytes that are not UTF-8 included, but what is
    hidden.
    """
    names = [one for one in IDS if one.strip(".") and "/" not in one and "\0" not in one]
    stored = {f"{one}.jpg".encode(errors="surrogateescape")[-255:] for one in names}
    for name in stored:
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    found = image_paths([str(tmp_path)])
    shown = {name for name in stored if name[:1] != b"."}
    assert {os.fsencode(path.name) for path in found} == shown
    assert all(read_bytes(path) == b"x" for path in found)
    assert len(set(output_names(image_ids(found), ".jpg"))) == len(shown) > 35


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _pair(path: Path) -> None:
    other = path.with_name("other")
    other.symlink_to(path)
    path.symlink_to(other)


def _nowhere(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


def _nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize("make", [_fifo, _loop, _pair, _nowhere, _device, _folder, _nothing])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".caffemodel"])
def test_only_regular_files_are_opened(
    make: Callable[[Path], None], suffix: str, tmp_path: Path
) -> None:
    """A pipe that nobody writes to and a device without end would hang whoever opens them."""
    path = tmp_path / f"odd{suffix}"
    make(path)
    assert not os.path.isfile(path)
    with pytest.raises(ImageError, match="odd"):
        read_bytes(path)
    with pytest.raises(AnnotationError, match="odd"):
        read_limited(path, 100)
    with pytest.raises(WeightsError, match="odd"):
        read_tensors(path)


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "x/" * 3000])
def test_names_that_cannot_exist(name: str) -> None:
    assert not os.path.isfile(Path(name))
    with pytest.raises(ImageError):
        read_bytes(name)
    with pytest.raises(AnnotationError):
        read_limited(Path(name), 100)
    with pytest.raises(WeightsError):
        read_tensors(name)


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    """A link to the folder above would be walked for ever."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "photos" / "up").symlink_to(tmp_path)
    found = image_paths([str(tmp_path / "photos")])
    assert [path.name for path in found] == ["a.jpg"]
