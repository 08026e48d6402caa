"""Proposals from and to other people's files: explicit layouts, and no code out of pickles."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detector.boxes import voc_from_xyxy
from detector.errors import ProposalError, SettingsError
from detector.proposals.interchange.export import Index, export, read_index
from detector.proposals.interchange.layout import ForeignBoxes, Layout, convert
from detector.proposals.interchange.reading import match_names, read_foreign
from detector.structures import Proposals

MATLAB = Layout("yxyx", 1, True)
OURS = Layout("xyxy", 0, False)
WIDE = (40, 100)  # H, W


def matlab_from_xyxy(boxes: np.ndarray) -> np.ndarray:
    """As Matlab's files hold them: VOC's numbers, y first."""
    return voc_from_xyxy(boxes)[:, [1, 0, 3, 2]]


@pytest.mark.parametrize(
    ("layout", "written"),
    [
        (Layout("xyxy", 0, False), [10, 20, 30, 25]),
        (Layout("xyxy", 0, True), [10, 20, 29, 24]),
        (Layout("xyxy", 1, True), [11, 21, 30, 25]),
        (Layout("yxyx", 1, True), [21, 11, 25, 30]),
        (Layout("xywh", 0, None), [10, 20, 20, 5]),
        (Layout("xywh", 1, None), [11, 21, 20, 5]),
    ],
)
def test_one_box_in_every_layout(layout, written):
    assert layout.xyxy(np.array([written])).tolist() == [[10, 20, 30, 25]]


def test_layouts_agree_with_the_conversions_of_boxes(rng):
    corner = rng.integers(0, 50, (20, 2))
    boxes = np.hstack([corner, corner + rng.integers(1, 50, (20, 2))])
    assert np.array_equal(MATLAB.xyxy(matlab_from_xyxy(boxes)), boxes)
    assert np.array_equal(Layout("xyxy", 1, True).xyxy(voc_from_xyxy(boxes)), boxes)


@pytest.mark.parametrize(
    ("order", "inclusive", "said"),
    [("xyxy", None, "--inclusive or --exclusive"), ("yxyx", None, "--inclusive or --exclusive"),
     ("xywh", True, "xywh")],
)  # fmt: skip
def test_the_end_pixel_is_said_where_it_matters_and_only_there(order, inclusive, said):
    with pytest.raises(SettingsError, match=said):
        Layout(order, 0, inclusive)


@pytest.mark.parametrize(
    ("written", "layout", "said"),
    [
        (
            [[0, 0, 40, 100], [5, 60, 20, 90]], OURS,
            ["box 0 is (0, 0, 40, 100) in an image 100 wide and 40 high", "--order yxyx",
             "x and y are probably swapped"],
        ),
        ([[80, 10, 20, 30], [0, 0, 100, 40]], OURS, ["xywh --base 0", "sizes, not corners"]),
        ([[50, 20, 90, 40]], Layout("xywh", 0, None), ["corners, not sizes"]),
        ([[0, 0, 100, 40]], Layout("xyxy", 0, True), ["--exclusive"]),
        ([[1, 1, 40, 100], [3, 50, 9, 80]], OURS, ["--order yxyx"]),  # MATLAB's
        ([[0, 0, 900, 900]], OURS, ["are these the images"]),
    ],
)  # fmt: skip
def test_boxes_that_do_not_fit_name_the_mistake(written, layout, said):
    found = {"a": ForeignBoxes(np.array(written, float))}
    with pytest.raises(ProposalError) as caught:
        convert(found, {"a": WIDE}, layout)
    assert len(str(caught.value).splitlines()) <= 3
    assert all(words in str(caught.value) for words in said)


def test_boxes_that_never_touch_a_border_raise_a_doubt():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 20, (200, 2))
    boxes = np.vstack([np.hstack([corner, corner + 15]), [[0, 0, 100, 40]]])
    sizes = {"a": WIDE}
    right = convert({"a": ForeignBoxes(matlab_from_xyxy(boxes))}, sizes, MATLAB)
    assert right.remark is None
    off = convert({"a": ForeignBoxes(voc_from_xyxy(boxes))}, sizes, Layout("xyxy", 0, False))
    assert "--base 1" in str(off.remark)
    short = convert({"a": ForeignBoxes(boxes - [0, 0, 1, 1])}, sizes, OURS)
    assert "--inclusive" in str(short.remark)


def test_boxes_without_area_are_left_out_and_counted():
    found = {"a": ForeignBoxes(np.array([[0, 0, 5, 5], [7, 7, 7, 9.0]]), np.array([0.1, 0.9]))}
    made = convert(found, {"a": WIDE}, OURS)
    assert made.proposals["a"].boxes.tolist() == [[0, 0, 5, 5]]
    assert made.dropped == 1


def test_scores_decide_the_order_where_there_are_any():
    boxes = np.array([[0, 0, 5, 5], [1, 1, 9, 9], [2, 2, 8, 8]])
    scored = convert({"a": ForeignBoxes(boxes, np.array([0.2, 0.9, 0.5]))}, {"a": WIDE}, OURS)
    assert scored.proposals["a"].boxes[:, 0].tolist() == [1, 2, 0]
    plain = convert({"a": ForeignBoxes(boxes)}, {"a": WIDE}, OURS)
    assert plain.proposals["a"].boxes[:, 0].tolist() == [0, 1, 2]


# --- files -----------------------------------------------------------------------------------


def cells(*values: object) -> np.ndarray:
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


BOXES = np.array([[1, 1, 40, 100], [3, 50, 9, 80]], np.uint16)


def test_rcnns_matlab_file_with_names(tmp_path):
    from scipy.io import savemat

    path = tmp_path / "voc_2007_test.mat"
    savemat(path, {"boxes": cells(BOXES, BOXES[:1]), "images": cells("000001", "000002").T})
    found = read_foreign(path)
    assert list(found) == ["000001", "000002"]
    made = convert(found, {"000001": WIDE, "000002": WIDE}, MATLAB)
    assert made.proposals["000001"].boxes.tolist() == [[0, 0, 100, 40], [49, 2, 80, 9]]


def test_fast_rcnns_matlab_file_without_names_needs_the_list(tmp_path):
    from scipy.io import savemat

    path = tmp_path / "voc_2007_trainval.mat"
    savemat(path, {"boxes": cells(BOXES, BOXES[:1])})
    with pytest.raises(ProposalError, match="--names"):
        read_foreign(path)
    found = read_foreign(path, ["000005", "000007"])
    assert found["000007"].boxes.tolist() == BOXES[:1].tolist()
    with pytest.raises(ProposalError, match="3 image names for 2"):
        read_foreign(path, ["1", "2", "3"])


def test_a_matlab_file_of_something_else(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"faces": BOXES})
    with pytest.raises(ProposalError, match="no variable `boxes`"):
        read_foreign(tmp_path / "a.mat")


def test_detectrons_dictionary(tmp_path):
    content = {
        "ids": [139, 285],
        "boxes": [np.array([[0, 0, 5, 5], [1, 1, 9, 9]], np.float32), np.zeros((0, 4))],
        "objectness_logits": [np.array([0.5, 2.5], np.float32), np.zeros(0)],
        "bbox_mode": 0,
    }
    for protocol in range(6):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
        found = read_foreign(tmp_path / "a.pkl")
        assert list(found) == ["139", "285"]
        assert found["139"].scores.tolist() == [0.5, 2.5]
        assert len(found["285"].boxes) == 0


def test_mmdetections_list_and_dictionary(tmp_path):
    rows = np.array([[0, 0, 5, 5, 0.9], [1, 1, 9, 9, 0.1]], np.float32)
    (tmp_path / "two.pkl").write_bytes(pickle.dumps([rows, rows[:1]]))
    assert read_foreign(tmp_path / "two.pkl", ["a", "b"])["b"].scores.tolist() == pytest.approx(
        [0.9]
    )
    three = {"val/a.jpg": {"bboxes": rows[:, :4], "scores": rows[:, 4]}}
    (tmp_path / "three.pkl").write_bytes(pickle.dumps(three))
    assert read_foreign(tmp_path / "three.pkl")["val/a.jpg"].boxes.tolist() == rows[:, :4].tolist()


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/should-not-exist",)


class Sly:
    """A harmless-looking way in: numpy's own pickle loader."""

    def __reduce__(self):
        return np.load, ("x.npy", None, True)


@pytest.mark.parametrize("evil", [Evil(), {"boxes": [Evil()]}, [Sly()], eval, open, pickle.loads])
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, evil):
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(evil))
    with pytest.raises(ProposalError, match="could run code"):
        read_foreign(path)
    assert not Path("/tmp/should-not-exist").exists()


class Calls:
    """Pickles as `function(*arguments)`, then given `state`."""

    def __init__(self, function, arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def crafted(fields: dict, code: str, size: int, data: object) -> bytes:
    """A pickle of an array whose type says what NumPy's `__setstate__` would believe."""
    state = (3, "|", None, tuple(fields), fields, size, 1, 16 if code == "V8" else 63)
    kind = Calls(np.dtype, (code, False, True), state)
    reconstruct = np.zeros(1).__reduce__()[0]
    array = Calls(reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), kind, False, data))
    return pickle.dumps({"a.jpg": array}, protocol=2)


@pytest.mark.parametrize(
    "attack",
    [
        crafted({"x": (np.dtype("f8"), 1 << 30)}, "V8", 8, b"12345678"),
        crafted({"x": (np.dtype("O"), 0)}, "V8", 8, b"12345678"),
        crafted({"x": (np.dtype("f8"), 1 << 30)}, "f8", 8, b"12345678"),
        crafted({}, "O8", 8, b"12345678"),
    ],
)
def test_a_type_with_fields_never_reaches_numpys_own_loader(tmp_path, attack):
    """NumPy checks neither offsets nor sizes there: such files ended the process."""
    (tmp_path / "a.pkl").write_bytes(attack)
    code = (
        "import sys; from detector.errors import ProposalError\n"
        "from detector.proposals.interchange.reading import read_foreign\n"
        "try: read_foreign(sys.argv[1])\n"
        "except ProposalError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.pkl")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "an array" in done.stdout


@pytest.mark.parametrize(
    "state",
    [
        (1, (2, 4), np.dtype("f4"), False, bytes(16)),
        (1, (-1, 4), np.dtype("f4"), False, bytes(16)),
        (1, (1, 4), np.dtype("f4"), 7, bytes(16)),
        (1, (1, 4), np.dtype("f4"), False, 16),
        (1, (1, 4), 4, False, bytes(16)),
        (1, (2,), np.dtype("O"), False, [1]),
        (1, (1,), np.dtype("O"), False, b"12345678"),
        (1, (1, 4)),
        7,
    ],
)
def test_an_array_that_is_not_as_long_as_its_shape(tmp_path, state):
    array = Calls(np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b"), state)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a.jpg": array}))
    with pytest.raises(ProposalError, match="an array"):
        read_foreign(tmp_path / "a.pkl")


@pytest.mark.parametrize("core", [b"numpy.core.", b"numpy._core."])
@pytest.mark.parametrize("kind", ["?", "i1", "u2", ">i4", "<u8", "f2", ">f4", "f8"])
def test_arrays_of_numpy_1_and_2_in_all_types(tmp_path, core, kind):
    boxes = np.arange(8).reshape(2, 4).astype(kind)
    objects = np.empty(2, object)
    objects[:] = [boxes, np.asfortranarray(boxes)]
    content = {"ids": np.array([3, 4]), "boxes": objects, "bbox_mode": np.int64(0)}
    for protocol in range(4):  # later ones give lengths, which the other name would not have
        written = pickle.dumps(content, protocol).replace(b"numpy._core.", core)
        (tmp_path / "a.pkl").write_bytes(written)
        found = read_foreign(tmp_path / "a.pkl")
        assert found["3"].boxes.tolist() == found["4"].boxes.tolist() == boxes.tolist()


def test_a_pickle_cannot_change_its_readers(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.")
    with pytest.raises(ProposalError, match="has none"):
        read_foreign(tmp_path / "a.pkl")


def test_an_archive_of_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", one=np.array([[0, 0, 5, 5.0]]), two=np.zeros((0, 4)))
    found = read_foreign(tmp_path / "a.npz")
    assert found["one"].boxes.tolist() == [[0, 0, 5, 5]]
    assert len(found["two"].boxes) == 0


def test_an_archive_of_pickled_objects_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", one=np.array([Evil()], object))
    with pytest.raises(ProposalError, match="not a readable proposal file"):
        read_foreign(tmp_path / "a.npz")


def test_json_by_name_and_as_cocos_results(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"one": [[0, 0, 5, 5]], "two": []}))
    assert read_foreign(path)["one"].boxes.tolist() == [[0, 0, 5, 5]]
    results = [
        {"image_id": 139, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 139, "category_id": 1, "bbox": [5, 6, 7, 8], "score": 0.9},
    ]
    path.write_text(json.dumps(results))
    assert read_foreign(path)["139"].scores.tolist() == [0.5, 0.9]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"1 2 3 4", "ends in"),
        ("a.mat", b"not MATLAB", "not a readable"),
        ("a.pkl", b"not a pickle", "not a readable"),
        ("a.pkl", b"", "not a readable"),
        ("a.npz", b"PK not an archive", "not a readable"),
        ("a.json", b"{", "not a readable"),
        ("a.json", b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        ("a.json", b'{"a": [[1, 2, 3]]}', r"shape \(1, 3\)"),
        ("a.json", b'{"a": [[1, 2, 3, NaN]]}', "finite"),
        ("a.json", b"{}", "no boxes"),
        ("a.json", b"7", "no boxes"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProposalError, match=message) as caught:
        read_foreign(tmp_path / name)
    assert name in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ProposalError, match="cannot be read"):
        read_foreign(tmp_path / "a.mat")


@pytest.mark.parametrize("key", ["bboxes", "scores"])
def test_a_list_that_holds_itself_is_refused(tmp_path, key, at_most_20_s):
    endless: list[object] = []
    endless += [endless, endless]
    content = {"a": {"bboxes": [[0, 0, 5, 5]], "scores": [1]} | {key: endless}}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ProposalError, match="nested too deeply"):
        read_foreign(tmp_path / "a.pkl")


@pytest.mark.parametrize("read", [read_foreign, read_index])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, read, at_most_20_s):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ProposalError, match="not a regular file"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize(
    "name", ["photos/000139.jpg", "000139.jpg", "000139", "139", "elsewhere/000139.png"]
)
def test_foreign_names_find_their_images(name):
    path = Path("photos/000139.jpg")
    assert match_names([name, "unknown"], [Path("photos/7.jpg"), path]) == {name: path}


def test_names_that_fit_two_images_are_an_error():
    x, y = Path("d/x/1.jpg"), Path("d/y/1.jpg")
    assert match_names([str(x), str(y)], [y, x]) == {str(x): x, str(y): y}
    with pytest.raises(ProposalError, match=r"'x/1\.jpg', 'y/1\.jpg'"):
        match_names(["1"], [x, y])
    with pytest.raises(ProposalError, match=f"{x} and {y} both fit"):
        match_names([str(x), str(y)], [x])
    # A file name counts for more than a number.
    both = [Path("01.jpg"), Path("1.jpg")]
    assert match_names(["1.jpg", "01"], both) == {"1.jpg": both[1], "01": both[0]}


def test_a_name_of_very_many_digits_is_a_name():
    path = Path("7" * 5000 + ".jpg")
    assert match_names(["7" * 5000], [path]) == {"7" * 5000: path}


# --- export ----------------------------------------------------------------------------------

FOUND = {
    "b.jpg": Proposals([[0, 0, 5, 5], [1, 1, 9, 9], [2, 2, 4, 4]], (10, 10)),
    "a.jpg": Proposals([[3, 3, 6, 6]], (10, 10), [0.25]),
}


def test_detectron2s_layout_sorts_back_into_rank_order():
    content = pickle.loads(export(FOUND, "detectron2"))
    assert content["ids"] == ["b", "a"]
    assert content["bbox_mode"] == 0
    # What detectron2.data.build.load_proposals_into_dataset does with it:
    boxes, logits = content["boxes"][0], content["objectness_logits"][0]
    order = logits.argsort()[::-1]
    assert boxes[order].tolist() == FOUND["b.jpg"].boxes.tolist()
    assert content["objectness_logits"][1].tolist() == [0.25]


def test_detectron2s_ids_come_from_a_coco_index(tmp_path):
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}]
    (tmp_path / "index.json").write_text(json.dumps({"images": images, "annotations": []}))
    content = pickle.loads(export(FOUND, "detectron2", read_index(tmp_path / "index.json")))
    assert content["ids"] == [7, 9]
    assert content["boxes"][0].tolist() == [[3, 3, 6, 6]]


def test_mmdetection_3_finds_images_by_folder_and_name():
    content = pickle.loads(export(FOUND, "mmdetection", folder="val2017"))
    assert list(content) == ["val2017/b.jpg", "val2017/a.jpg"]
    assert content["val2017/b.jpg"]["bboxes"].shape == (3, 4)
    assert content["val2017/b.jpg"]["scores"].tolist() == sorted(
        content["val2017/b.jpg"]["scores"].tolist(), reverse=True
    )
    with pytest.raises(SettingsError, match="--folder"):
        export(FOUND, "mmdetection")


def test_names_of_a_list_may_have_blanks_and_be_followed_by_a_label(tmp_path):
    text = "2008_000008  1\r\n2008_000015 -1\n\nmy cat.jpg\nIMG 0001.jpg 65\n"
    (tmp_path / "cat_val.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = read_index(tmp_path / "cat_val.txt")
    assert found.names == ("2008_000008", "2008_000015", "my cat.jpg", "IMG 0001.jpg")
    assert found.ids == ("2008_000008", "2008_000015", "my cat", "IMG 0001")


def test_whatever_follows_a_suffix_is_not_the_name(tmp_path):
    lines = ("a/x.jpg 0.5", "a/y.JPG cat", "a/my photo.jpg", "a/my photo.tiff 3 b.png", "jpg cat")
    (tmp_path / "val.txt").write_text("\n".join(lines))
    assert read_index(tmp_path / "val.txt").names == (
        "a/x.jpg", "a/y.JPG", "a/my photo.jpg", "a/my photo.tiff", "jpg cat",
    )  # fmt: skip


def test_mmdetection_2_reads_a_list_in_the_order_of_the_index(tmp_path):
    (tmp_path / "val.txt").write_text("a\nb\n")
    content = pickle.loads(export(FOUND, "mmdetection2", read_index(tmp_path / "val.txt")))
    assert [one.shape for one in content] == [(1, 5), (3, 5)]
    with pytest.raises(SettingsError, match="--index"):
        export(FOUND, "mmdetection2")


def test_what_is_exported_can_be_imported_again(tmp_path):
    (tmp_path / "a.pkl").write_bytes(export(FOUND, "detectron2"))
    found = read_foreign(tmp_path / "a.pkl")
    made = convert(found, {"a": (10, 10), "b": (10, 10)}, OURS)
    assert made.proposals["b"].boxes.tolist() == FOUND["b.jpg"].boxes.tolist()


def test_an_index_with_images_that_have_no_proposals_is_an_error():
    with pytest.raises(ProposalError, match="1 of 2 images of the index, for example c"):
        export(FOUND, "detectron2", Index(("a", "c"), (1, 2)))


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(SettingsError, match="detectron2, mmdetection"):
        export(FOUND, "yolo")


ONE, OTHER = Proposals([[0, 0, 5, 5]], (10, 10)), Proposals([[1, 1, 9, 9]], (10, 10))


def test_an_index_entry_finds_the_image_that_it_names():
    stored = {"x/1.jpg": ONE, "y/1.jpg": OTHER, "2.png": ONE, "2.jpg": OTHER}
    index = Index(("y/1.jpg", "x/1.jpg", "d/2.jpg"), (1, 2, 3))
    content = pickle.loads(export(stored, "detectron2", index))
    assert [one.tolist() for one in content["boxes"]] == [
        [[1, 1, 9, 9]],
        [[0, 0, 5, 5]],
        [[1, 1, 9, 9]],
    ]


@pytest.mark.parametrize(
    ("stored", "asked", "message"),
    [
        (("x/1.jpg", "y/1.jpg"), ("1.jpg",), "x/1.jpg.*y/1.jpg"),
        (("1.jpg", "1.png"), ("1",), "1.jpg.*1.png"),
        (("1.jpg",), ("x/1.jpg", "y/1.jpg"), "x/1.jpg.*y/1.jpg of the index both fit"),
        (("1.jpg",), ("1.jpg", "1.jpg"), "1.jpg and 1.jpg of the index both fit"),
    ],
)
def test_an_index_that_fits_in_two_ways_is_an_error(stored, asked, message):
    index = Index(asked, tuple(range(len(asked))))
    with pytest.raises(ProposalError, match=message):
        export(dict.fromkeys(stored, ONE), "mmdetection2", index)


def test_two_names_of_one_image_may_share_a_key():
    """A file that was renamed is known by both names; whichever is read, the boxes are its own."""
    content = pickle.loads(export({"1.jpg": ONE, "1.jpeg": ONE}, "detectron2"))
    assert content["ids"] == ["1", "1"]
    assert np.array_equal(*content["boxes"])


def test_two_images_never_share_a_key():
    with pytest.raises(ProposalError, match=r"1.jpg and 1.png would both have the id 1"):
        export({"1.jpg": ONE, "1.png": OTHER}, "detectron2")
    with pytest.raises(ProposalError, match=r"x/1.jpg.*y/1.jpg would both have the name 1.jpg"):
        export({"x/1.jpg": ONE, "y/1.jpg": OTHER}, "mmdetection", folder="val")
