"""Which image a name means: what is found, what is ambiguous, and what is never another image."""

import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.dataset import Dataset, Dropped, Sample
from detector.datasets.formats.annotation_files import listed_name
from detector.datasets.image_files import path_inside
from detector.datasets.image_names import ImageNames
from detector.errors import AmbiguousName
from detector.structures import Annotations


def names_of(*paths: str, root: str | None = None) -> ImageNames:
    return ImageNames({path: path for path in paths}, root)


def on_disk(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("image", "written"),
    [
        ("x.png", r"..\..\label-studio\media\upload\4\x.png"),
        ("x.png", "images/1/x.png"),
        ("x.png", "/data/upload/4/x.png"),
        ("x.png", "upload/4/abcdef-x.png"),
        ("x.png", "/data/upload/4/3c5b0b6d-x.png"),
        ("x.png", "3c5b0b6d-x.png"),
        ("a/b.jpg", "/data/local-files/?d=a/b.jpg"),
        ("a b.jpg", "/data/local-files/?d=set%2Fa%20b.jpg"),
        ("000000397133.jpg", "http://images.cocodataset.org/val2017/000000397133.jpg?w=1#top"),
        ("a.jpg", "s3://bucket/set/a.jpg"),
        ("a.jpg", "file:///home/me/a.jpg"),
        ("a.jpg", r"C:\Users\me\set\a.jpg"),
        ("a/b.jpg", r".\a\b.jpg"),
        ("a/b.jpg", "./a//b.jpg"),
        ("a/b.jpg", "c/../a/b.jpg"),
        ("a/b.jpg", "b"),
        ("a/b.jpg", "a/b"),
        ("IMG_1.JPG", "IMG_1.jpg"),
        ("IMG_1.JPG", "IMG_1.PnG"),
        ("a.jpg.jpg", "a.jpg"),
        ("shot 16.42.jpg", "shot 16.42"),
        ("a.jpg", "a.jpg "),
        ("a.jpg", "\ta.jpg\r"),
        ("a b.jpg", "a%20b.jpg"),
        ("a%20b.jpg", "a%20b.jpg"),
        ("#1 of 2.jpg", "#1 of 2"),
        ("\U0001f642.jpg", "\U0001f642"),
        (unicodedata.normalize("NFD", "café.jpg"), "café.jpg"),
        ("café.jpg", unicodedata.normalize("NFD", "café")),
        ("000012.jpg", "12"),
        ("12.jpg", "000012.jpg"),
    ],
)
def test_an_equivalent_is_found_where_one_image_fits(image: str, written: str) -> None:
    assert names_of(image, "another.jpg").find(written) == image


@pytest.mark.parametrize(
    "written",
    [
        "", ".", "..", "/", "\\", "%", "?d=", "z", "img_1.jpg", "IMG_1.JPG.txt", "y/b.jpg", "a",
        "20201216-x.png", "facade-x.png", "%00", "\0", "\ud800", "1" * 5000, "x.png/..", "-12",
        "12.5", "١٢", "http://", "x.png/y",
    ],
)  # fmt: skip
def test_what_is_no_image_of_the_set_is_none(tmp_path: Path, written: str) -> None:
    on_disk(tmp_path, "x.png", "IMG_1.JPG", "a/b.jpg", "12.jpg", ".hidden.jpg")
    names = ImageNames.in_folder(tmp_path)
    assert names.find(written) is None
    assert names.find_id(written) is None


@pytest.mark.parametrize(
    ("images", "written"),
    [
        (("a/x.jpg", "b/x.jpg"), "x.jpg"),
        (("a/x.jpg", "b/x.jpg"), "x"),
        (("x.jpg", "x.png"), "x"),
        (("x.jpg", "x.png"), "x.bmp"),
        (("07.jpg", "007.jpg"), "7"),
        (("x.jpg", "b/x.jpg"), "upload/4/x.jpg"),
    ],
)
def test_what_fits_several_is_an_error_that_names_them(
    images: tuple[str, ...], written: str
) -> None:
    with pytest.raises(AmbiguousName) as raised:
        names_of(*images, root="/set").find(written)
    assert set(raised.value.candidates) == set(images)
    assert all(repr(one) in str(raised.value) for one in images)


@pytest.mark.parametrize(
    ("images", "written", "found"),
    [
        (("a/x.jpg", "b/x.jpg"), "b/x.jpg", "b/x.jpg"),
        (("a/x.jpg", "b/x.jpg"), r"D:\set\b\x.JPG", "b/x.jpg"),
        (("x.jpg", "b/x.jpg"), "x.jpg", "x.jpg"),  # exactly so
        (("x.jpg", "b/x.jpg"), "/set/x.jpg", "x.jpg"),
        (("x.jpg", "x.png"), "x.png", "x.png"),
        (("7.jpg", "007.jpg"), "007", "007.jpg"),
        (("a.jpg", "a.jpg.jpg"), "a.jpg", "a.jpg"),
        (("a b.jpg", "a%20b.jpg"), "a%20b.jpg", "a%20b.jpg"),
        (("é.jpg", unicodedata.normalize("NFD", "é.jpg")), "é.jpg", "é.jpg"),
        (("a.jpg", "a.jpg .jpg"), "a.jpg ", "a.jpg .jpg"),
        (("upload/x.png", "abcdef-x.png"), "abcdef-x.png", "abcdef-x.png"),
    ],
)
def test_the_name_as_it_is_written_comes_first(
    images: tuple[str, ...], written: str, found: str
) -> None:
    assert names_of(*images, root="/set").find(written) == found


def test_another_file_of_that_name_is_never_taken_for_an_image_of_the_set(tmp_path: Path) -> None:
    root = on_disk(tmp_path, "one/x.jpg", "two/x.jpg", "one/12.jpg", "one/0012.jpg", "one/b.png")
    names = ImageNames({"x": "x.jpg", "12": "12.jpg", "b": "b.jpg"}, on_disk(root / "one", "b.jpg"))
    assert names.find("two/x.jpg") is None  # it is there, beside the set
    assert names.find(str(root / "two/x.jpg")) is None
    assert names.find("0012.jpg") is None
    assert names.find("0012") is None
    assert names.find("b.png") is None
    for written in ("one/x.jpg", "elsewhere/x.jpg", str(root / "one/x.jpg")):
        assert names.find(written) == "x"


def test_an_image_of_one_split_is_none_of_another() -> None:
    names = names_of("1.jpg", root="/coco/val2017")
    assert names.find("train2017/1.jpg") is None
    assert names.find("coco/val2017/1.jpg") == "1.jpg"
    assert names.find("images/1.jpg") == "1.jpg"


def test_images_left_out_mean_no_other(tmp_path: Path) -> None:
    samples = (Sample("4", tmp_path / "4.jpg", None, Annotations.empty()),)
    dropped = (
        Dropped("0004.xml", "0004", "wrong-size", "..."),
        Dropped("4.xml", "object 1", "negative", "..."),
        Dropped("4.txt", "4", "not-utf8", "..."),
    )
    dataset = Dataset("toy", ("cat",), samples, dropped)
    assert dataset.left_out() == {"0004": "wrong-size"}
    names = ImageNames.of(dataset)
    assert [names.find(one) for one in ("4", "04", "0004", "0004.jpg")] == ["4", "4", None, None]
    assert [names.find_id(one) for one in ("4", 4, 4.0, "0004")] == ["4", "4", "4", None]


def test_an_id_that_is_left_out_says_nothing_of_a_file_called_so() -> None:
    names = ImageNames({"1": "7.jpg", "2": "8.jpg"}, left_out=["7"])
    assert (names.find("7.JPG"), names.find_row(7, "7.JPG"), names.find_id(7)) == ("1", "1", None)


def shifted() -> ImageNames:
    """COCO's ids 1, 2, 30 of the files 2.jpg, 1.jpg, 3.jpg."""
    return ImageNames({"1": "2.jpg", "2": "1.jpg", "30": "3.jpg"})


@pytest.mark.parametrize("image_id", [1, 1.0, "1", "1.0", "001", " 1 "])
def test_an_id_may_be_a_number_of_any_type(image_id: object) -> None:
    names = ImageNames({"1": "one.jpg", "12": "twelve.jpg"})
    assert names.find_id(image_id) == "1"
    assert shifted().find_id(1) == "1"


@pytest.mark.parametrize(
    "image_id", [None, True, False, float("nan"), float("inf"), 1.5, 2.0**60, [], {}]
)
def test_what_is_no_id_is_none(image_id: object) -> None:
    assert ImageNames({"1": "one.jpg", "12": "twelve.jpg"}).find_id(image_id) is None


def test_where_ids_and_file_names_disagree_the_file_name_decides() -> None:
    names = shifted()
    assert names.find_row(2, "2.jpg") == "1"
    assert names.find_row(1, "somewhere/1.jpg") == "2"
    assert names.find_row(1, "7.jpg") is None  # no image of the set, whatever has the id 1
    assert names.find_row(1, None) == names.find_row(1, " ") == "1"
    with pytest.raises(AmbiguousName, match="no image id but the file name of"):
        names.find_id(3)
    with pytest.raises(AmbiguousName):  # the number 1, or the file 01.jpg
        ImageNames({"1": "2.jpg", "2": "01.jpg"}).find_id("01")


def test_an_id_tells_files_of_one_name_apart() -> None:
    names = ImageNames({"5": "x.jpg", "6": "b/x.jpg"}, "/set")
    assert names.find_row(6, "x.jpg") == "6"
    assert names.find_row("set/b/x", "x.jpg") == "6"
    assert names.find_row("set/x", "x.jpg") == "5"
    assert names.find_row(99, "b/x.jpg") == "6"
    with pytest.raises(AmbiguousName):
        names.find_row("x", "x.jpg")
    assert ImageNames({"5": "x.jpg"}, "/set/val").find_row("set/train/x", "x.jpg") is None
    forms = {form: unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")}
    for form, name in forms.items():
        assert ImageNames(forms).find_row(None, name) == form


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("IMG 2", ("IMG 2.jpg", None)),
        ("IMG 1", ("IMG.jpg", 1)),  # there is no IMG 1
        ("IMG -1", ("IMG.jpg", -1)),
        ("IMG  1\r", ("IMG.jpg", 1)),
        ("IMG 2 1", ("IMG 2.jpg", 1)),
        ("IMG 2.jpg", ("IMG 2.jpg", None)),
        ("IMG 2.JPG 1", ("IMG 2.jpg", 1)),
        ("  IMG 2  ", ("IMG 2.jpg", None)),
        ("IMG 7", ("IMG 7", None)),  # 7 is no such number
        ("gone 1", ("gone", 1)),
        ("gone", ("gone", None)),
    ],
)
def test_a_line_of_a_list_is_a_name_where_that_exists(
    line: str, expected: tuple[str, int | None]
) -> None:
    assert listed_name(line, names_of("IMG.jpg", "IMG 2.jpg").find) == expected
    assert listed_name("IMG 7", names_of("IMG.jpg").find, None) == ("IMG.jpg", 7)


def test_a_path_inside_may_be_absolute_or_of_windows(tmp_path: Path) -> None:
    root = on_disk(tmp_path / "set", "a/b.jpg", r"a\c.jpg")
    link = tmp_path / "link"
    link.symlink_to(root)
    for name in ("a/b.jpg", r"a\b.jpg", r".\a\b.jpg", "x/../a/b.jpg", str(root / "a/b.jpg")):
        assert path_inside(root, name) == "a/b.jpg"
    assert path_inside(link, str(root / "a/b.jpg")) == "a/b.jpg"
    assert path_inside(root, r"a\c.jpg") == r"a\c.jpg"  # a file is called so
    for name in (
        "",
        "\0",
        "..",
        "../set2/b.jpg",
        r"..\b.jpg",
        "/etc/passwd",
        r"C:\b.jpg",
        f"{root}2/b",
    ):
        assert path_inside(root, name) is None


STEMS = st.text(st.sampled_from("aA10é%2.\\-_# \U0001f642"), min_size=1, max_size=5)


def core(name: str) -> str:
    """What no equivalent may change: the letters and digits of the file, but for leading zeros."""
    name = unquote(unicodedata.normalize("NFC", name)).replace("\\", "/").rpartition("/")[2]
    stem = re.sub(r"\.(jpg|png)$", "", name.strip(), flags=re.IGNORECASE)
    return "".join(sign for sign in stem if sign.isalnum()).lstrip("0")


@given(st.lists(STEMS, min_size=1, max_size=6), STEMS)
def test_an_image_is_found_by_its_own_name_and_no_other_is_taken_for_it(
    stems: list[str], other: str
) -> None:
    images = [f"{stem}{('.jpg', '.PNG')[i % 2]}" for i, stem in enumerate(stems)]
    names = names_of(*images)
    assert [names.find(image) for image in images] == images
    for written in (other, f"{other}.jpg", f"x/{other}.png", f" {images[0]}", stems[0]):
        try:
            found = names.find(written)
        except AmbiguousName as error:
            assert {core(one) for one in error.candidates} == {core(written)}  # noqa: PT017
        else:
            assert found is None or core(found) == core(written)
