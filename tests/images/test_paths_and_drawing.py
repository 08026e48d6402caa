"""Which images are meant, what results are called, and what a picture shows."""

import os
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detector.errors import ImageError
from detector.images.drawing import colour_of, draw, tags_of
from detector.images.lettering import drawable, font_of, remark_on
from detector.images.paths import image_ids, image_paths, output_names, short_names
from detector.structures import Detections


def test_a_folder_stands_for_its_images_sorted_and_deep(tmp_path: Path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in image_paths([str(tmp_path)])]
    assert found == ["a.PNG", "b.jpg", "deep/c.webp"]


def test_hidden_files_of_a_folder_are_left_out_unless_they_are_named(tmp_path: Path):
    hidden = [tmp_path / "._a.jpg", tmp_path / ".thumbnails" / "a.jpg"]
    for path in (*hidden, tmp_path / "a.jpg"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert image_paths([str(tmp_path)]) == [tmp_path / "a.jpg"]
    assert image_paths([str(hidden[0]), str(hidden[1].parent)]) == hidden


def test_results_of_before_are_not_taken_for_images(tmp_path: Path):
    for name in ("a.jpg", "out/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    out = tmp_path / "out"
    assert image_paths([str(tmp_path)], results=out) == [tmp_path / "a.jpg"]
    assert image_paths([str(out)], results=out) == [out / "a.jpg"]


def test_links_that_go_round_in_circles_end(tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    os.symlink(tmp_path, tmp_path / "again")
    assert len(image_paths([str(tmp_path)])) == 1


def test_globs_lists_and_repetitions(tmp_path: Path):
    for name in ("1.jpg", "2.jpg", "[x].jpg"):
        (tmp_path / name).touch()
    assert len(image_paths([f"{tmp_path}/[12].jpg", f"{tmp_path}/1.jpg"])) == 2
    # A file whose name looks like a glob is that file.
    assert image_paths([f"{tmp_path}/[x].jpg"]) == [tmp_path / "[x].jpg"]
    assert image_paths(["-"], ["a.jpg\n", "\n", "b c.jpg\n"]) == [Path("a.jpg"), Path("b c.jpg")]


def test_nothing_found_is_a_typed_error(tmp_path: Path):
    with pytest.raises(ImageError, match="no images"):
        image_paths([str(tmp_path)])
    with pytest.raises(ImageError, match="no images in no files"):
        image_paths([])


def test_ids_are_stems_and_paths_where_stems_collide():
    paths = [Path("a/x.jpg"), Path("b/x.jpg"), Path("b/y.jpg")]
    assert image_ids(paths) == ["a/x", "b/x", "y"]


def test_ids_differ_where_files_differ_in_their_suffix_alone():
    paths = [Path("a/x.jpg"), Path("a/x.png"), Path("a/y.png"), Path("")]
    assert image_ids(paths) == ["a/x.jpg", "a/x.png", "y", "."]
    assert image_ids(paths[::-1]) == image_ids(paths)[::-1]
    # The stem of the last is the whole name of the first.
    nested = [Path("x.jpg"), Path("x.png"), Path("x.jpg.png")]
    assert image_ids(nested) == ["x.jpg", "x.png", "x.jpg.png"]


def test_a_list_of_names_that_are_not_utf_8_is_read(tmp_path: Path):
    (tmp_path / "list").write_bytes(b"a\xff.jpg\nb.jpg\n")
    with (tmp_path / "list").open(encoding="utf-8") as lines:
        assert image_paths(["-"], lines) == [Path("a\udcff.jpg"), Path("b.jpg")]


def test_output_names_are_clean_and_unique():
    names = output_names(["a/x", "a_x", "../../etc/passwd", "-rf", "", "é\n", "N" * 300], ".jpg")
    assert names[:2] == ["a_x.jpg", "a_x-2.jpg"]
    assert len(set(names)) == 7
    assert all("/" not in name and name[0] not in ".-" and len(name) < 130 for name in names)


def test_boxes_are_drawn_where_they_are():
    image = np.full((100, 100, 3), 128, np.uint8)
    found = Detections([[20, 30, 80, 90]], [0.9], [1])
    picture = np.asarray(draw(image, found, ["cat", "dog"]))
    assert tuple(picture[60, 20]) == colour_of(1)
    assert tuple(picture[89, 50]) == colour_of(1)
    assert tuple(picture[60, 50]) == (128, 128, 128)
    assert (image == 128).all()  # the input is not drawn on


def test_names_stay_in_the_picture_and_off_each_other():
    """Boxes within each other at the right edge, of one corner, and at the lower edge."""
    boxes = [
        [300, 50, 398, 200], [305, 55, 395, 195], [310, 58, 390, 190], [5, 2, 120, 90],
        [20, 4, 130, 100], [150, 296, 250, 300], [150, 150, 260, 260], [152, 150, 258, 258],
    ]  # fmt: skip
    found = Detections(boxes, np.linspace(0.9, 0.3, 8), np.arange(8) % 2)
    canvas = ImageDraw.Draw(Image.new("RGB", (400, 300)))
    blocks = [one.block for one in tags_of(canvas, found, ["potted plant", "cat"], 11, (400, 300))]
    assert all(x1 >= 0 and y1 >= 0 and x2 <= 400 and y2 <= 300 for x1, y1, x2, y2 in blocks)
    for one, other in combinations(blocks, 2):
        assert min(one[2], other[2]) <= max(one[0], other[0]) or (
            min(one[3], other[3]) <= max(one[1], other[1])
        )


@pytest.mark.parametrize("name", ["cat", "Käse", "кошка", "γάτα", "žába"])
def test_the_letters_of_a_name_are_drawn_each_as_itself(name: str):
    """What a font lacks is drawn as one and the same box."""
    font = font_of(name, 20)
    drawn = {bytes(font.getmask(letter)) for letter in name}
    assert len(drawn) == len(set(name))


def test_a_name_that_no_font_can_draw_is_its_number_and_is_told_once(monkeypatch):
    from PIL import features

    from detector.images import lettering

    monkeypatch.setattr(lettering, "_FOLDERS", ())
    lettering._files.cache_clear()
    lettering._file_for.cache_clear()
    try:
        shown, missing = drawable(["cat", "猫", "кошка", "犬"])
        assert (shown, missing) == (["cat", "#2", "кошка", "#4"], ["猫", "犬"])
        assert "猫, 犬" in str(remark_on(missing))
        assert remark_on([]) is None
        monkeypatch.setattr(features, "check", lambda name: name != "fribidi")
        assert drawable(["قطة", "חתול"]) == (["#1", "#2"], ["قطة", "חתול"])  # else reversed
    finally:
        lettering._files.cache_clear()
        lettering._file_for.cache_clear()


def test_a_font_of_the_system_that_has_the_letters_is_found(tmp_path, monkeypatch):
    """A damaged one and one without the letters lie beside it."""
    import shutil

    import matplotlib

    from detector.images import lettering

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    (tmp_path / "deep").mkdir()
    shutil.copy(fonts / "STIXGeneral.ttf", tmp_path / "deep" / "letters.TTF")
    shutil.copy(fonts / "cmr10.ttf", tmp_path / "a-without-sans-regular.ttf")
    (tmp_path / "a-damaged-sans-regular.ttf").write_bytes(b"no font")
    monkeypatch.setattr(lettering, "_FOLDERS", (str(tmp_path),))
    lettering._files.cache_clear()
    lettering._file_for.cache_clear()
    try:
        name = "の"  # the one Japanese letter that a font of formulas has
        assert lettering.file_for(name) == str(tmp_path / "deep" / "letters.TTF")
    finally:
        lettering._files.cache_clear()
        lettering._file_for.cache_clear()


def test_a_name_that_is_wider_than_the_picture_is_written_smaller():
    canvas = ImageDraw.Draw(Image.new("RGB", (60, 40)))
    found = Detections([[2, 2, 50, 35]], [0.9], [0])
    (tag,) = tags_of(canvas, found, ["potted plant"], 11, (60, 40))
    assert tag.block[0] >= 0
    assert tag.block[2] <= 60


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3)])
def test_tiny_pictures_can_be_drawn_on(shape):
    height, width = shape
    found = Detections([[0, 0, width, height]], [0.5], [0])
    assert draw(np.zeros((*shape, 3), np.uint8), found, ["thing"]).size == (width, height)


def test_neighbouring_classes_have_different_colours():
    colours = [np.array(colour_of(i)) for i in range(20)]
    assert all(np.abs(a - b).max() > 40 for a, b in pairwise(colours))


def test_a_strip_is_not_covered_by_the_lines_of_its_boxes():
    found = Detections(np.array([[0.0, 0, 3000, 20]]), np.array([0.5]), np.array([0]))
    drawn = np.asarray(draw(np.full((20, 3000, 3), 128, np.uint8), found, ("x",)))
    assert (drawn == 128).all(2)[:, 300:].mean() > 0.7


def test_a_short_name_is_as_much_of_a_path_as_tells_it_from_the_others():
    paths = [
        Path(one) for one in ("/p/q/a/x.jpg", "/p/q/b/x.jpg", "/p/r/b/x.jpg", "y.jpg", "x.jpg")
    ]
    assert short_names(paths) == ["a/x.jpg", "q/b/x.jpg", "r/b/x.jpg", "y.jpg", "x.jpg"]
    assert short_names([]) == []
