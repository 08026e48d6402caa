"""The development kits' result files and the table: by hand, round trips, and what is refused."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.datasets import Dataset, Sample
from detector.errors import DetectorError, EvaluationError, SettingsError
from detector.results.results import LAYOUTS, layout_of, read_results, write_results
from detector.structures import Annotations, Detections

NAMES = {"coco": "a.json", "voc": "results", "ilsvrc": "a.txt", "csv": "a.csv"}


@pytest.fixture
def dataset() -> Dataset:
    """Images that their list numbers 7, 9 and 12; classes that the set numbers 3, 17 and 18."""
    samples = tuple(
        Sample(name, Path(f"{name}.jpg"), (100, 100), Annotations.empty(), index=index)
        for name, index in (("2008_01", 7), ("000012", 9), ("c", 12))
    )
    return Dataset("VOC2012/val", ("cat", "wild_cat", "tv or monitor"), samples, (), (3, 17, 18))


@pytest.fixture
def results() -> dict[str, Detections]:
    """In image 2008_01 a wild cat in the upper left pixel; in c two cats, the better one second."""
    return {
        "2008_01": Detections([[0, 0, 1, 1]], [0.5], [1]),
        "c": Detections([[10, 20, 30, 40], [1.25, 2, 3, 4]], [0.25, 0.75], [0, 0]),
    }


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_voc_counts_pixels_from_one_and_includes_the_last(
    tmp_path: Path, dataset: Dataset, results: dict[str, Detections]
) -> None:
    write_results(tmp_path, dataset, results, "voc")
    assert text_of(tmp_path / "comp3_det_val_wild_cat.txt") == (
        "2008_01 0.500000 1.00 1.00 1.00 1.00\n"  # one pixel, the first
    )
    assert text_of(tmp_path / "comp3_det_val_cat.txt") == (
        "c 0.750000 2.25 3.00 3.00 4.00\nc 0.250000 11.00 21.00 30.00 40.00\n"
    )
    assert text_of(tmp_path / "comp3_det_val_tv or monitor.txt") == ""


def test_ilsvrc_counts_pixels_from_zero_and_includes_the_last(
    tmp_path: Path, dataset: Dataset, results: dict[str, Detections]
) -> None:
    write_results(tmp_path / "a.txt", dataset, results, "ilsvrc")
    assert text_of(tmp_path / "a.txt").splitlines() == [
        "7 17 0.500000 0.00 0.00 0.00 0.00",
        "12 3 0.750000 1.25 2.00 2.00 3.00",
        "12 3 0.250000 10.00 20.00 29.00 39.00",
    ]


def test_the_table_keeps_our_own_corners(
    tmp_path: Path, dataset: Dataset, results: dict[str, Detections]
) -> None:
    write_results(tmp_path / "a.csv", dataset, results, "csv")
    assert text_of(tmp_path / "a.csv").splitlines() == [
        "image_id,class,score,x1,y1,x2,y2",
        "2008_01,wild_cat,0.500000,0.00,0.00,1.00,1.00",
        "c,cat,0.750000,1.25,2.00,3.00,4.00",
        "c,cat,0.250000,10.00,20.00,30.00,40.00",
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_back_what_was_written_and_the_same_bytes(
    tmp_path: Path, dataset: Dataset, rng: np.random.Generator, layout: str
) -> None:
    results = {}
    for sample in dataset.samples:
        low = rng.uniform(0, 50, (9, 2)).round(2)
        boxes = np.concatenate([low, low + rng.uniform(0.02, 50, (9, 2)).round(2)], 1)
        scores = np.sort(rng.random(9).round(6))[::-1]
        results[sample.image_id] = Detections(boxes, scores, np.sort(rng.integers(0, 3, 9)))
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first, second = tmp_path / "one" / NAMES[layout], tmp_path / "two" / NAMES[layout]
    write_results(first, dataset, results, layout)
    assert layout_of(first) == layout
    back = read_results(first, dataset)
    assert set(back) == set(results)
    for image, found in results.items():
        # VOC's files are by class, so that the order between classes is lost.
        order = np.lexsort((-back[image].scores, back[image].labels))
        expected = found[np.lexsort((-found.scores, found.labels))]
        assert back[image].boxes[order] == pytest.approx(expected.boxes, abs=1e-4)
        assert back[image].scores[order] == pytest.approx(expected.scores, abs=1e-7)
        assert back[image].labels[order].tolist() == expected.labels.tolist()
    write_results(second, dataset, back, layout)
    files = sorted(first.iterdir()) if first.is_dir() else [first]
    for one in files:
        other = second / one.name if first.is_dir() else second
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "name", ["a\nb", "a\rb", "a\r\nb", " a", "a ", "\ta", "a\u2028b", 'a"b', '"', "a,b", "\n", "é"]
)
def test_a_table_gives_back_every_image_id(tmp_path: Path, name: str) -> None:
    samples = (Sample(name, Path("x.jpg"), None, Annotations.empty()),)
    plain = Dataset("toy", ("cat",), samples)
    written = {name: Detections([[0, 0, 10, 10], [1, 1, 5, 5]], [0.5, 0.25], [0, 0])}
    write_results(tmp_path / "a.csv", plain, written, "csv")
    back = read_results(tmp_path / "a.csv", plain)
    assert list(back) == [name]
    assert back[name].boxes.tolist() == written[name].boxes.tolist()


@pytest.mark.parametrize(
    "name", ["=1+1", "+x", "-1", "@x", "\tx", "\rx", "\nx", "'=x", "''", "'x", "-"]
)
def test_a_spreadsheet_runs_no_name_and_reading_gives_it_back(tmp_path: Path, name: str) -> None:
    samples = (Sample(name, Path("x.jpg"), None, Annotations.empty()),)
    plain = Dataset("toy", (name,), samples)
    found = {name: Detections([[-1, 0, 9, 9]], [0.5], [0])}
    write_results(tmp_path / "a.csv", plain, found, "csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        _, (image, label, *numbers) = csv.reader(file)
    assert image[0] not in "=+-@\t\r\n"
    assert image == label
    assert numbers[1] == "-1.00"  # a number is one
    back = read_results(tmp_path / "a.csv", plain)
    assert {image: one.labels.tolist() for image, one in back.items()} == {name: [0]}


@settings(max_examples=25)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True)
)
def test_any_names_come_back_from_a_table(names: list[str]) -> None:
    samples = tuple(Sample(one, Path("x.jpg"), None, Annotations.empty()) for one in names)
    dataset = Dataset("toy", tuple(names), samples)
    found = {one: Detections([[0, 0, 9, 9]], [0.5], [i]) for i, one in enumerate(names)}
    with tempfile.TemporaryDirectory() as folder:
        write_results(Path(folder) / "a.csv", dataset, found, "csv")
        back = read_results(Path(folder) / "a.csv", dataset)
    assert {one: names[found.labels[0]] for one, found in back.items()} == dict(
        zip(names, names, strict=True)
    )


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_saved_by_a_spreadsheet_has_decimal_commas(
    tmp_path: Path, dataset: Dataset, separator: str
) -> None:
    lines = [HEADER, f"c,cat,{0.75:.2f},1.25,2,3,4.5", "2008_01,cat,1,0,0,9,9"]
    text = "\r\n".join(one.replace(",", separator).replace(".", ",") for one in lines)
    for written in (text, f"sep={separator}\r\n{text}", text.replace("c;", '"c";')):
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + written.encode())
        found = read_results(tmp_path / "a.csv", dataset)
        assert found["c"].boxes.tolist() == [[1.25, 2, 3, 4.5]]
        assert found["c"].scores.tolist() == [0.75]
        assert list(found) == ["c", "2008_01"]


def test_a_spreadsheet_may_have_taken_the_zeros_off(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\n12,cat,0.5,0,0,9,9\n12.0,cat,0.5,0,0,9,9\n")
    assert len(read_results(tmp_path / "a.csv", dataset)["000012"]) == 2


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.txt", "9 3 0.5 5 0 4 9"),
        ("a.csv", "image_id,class,score,x1,y1,x2,y2\n000012,cat,0.5,5,0,5,9"),
        ("comp3_det_val_cat.txt", "000012 0.5 6 1 5 9"),
        ("a.json", '[{"image_id": 12, "category_id": 3, "bbox": [5, 0, 0, 9], "score": 0.5}]'),
    ],
)
def test_a_box_without_area_is_a_detection_like_others(
    tmp_path: Path, dataset: Dataset, file: str, text: str
) -> None:
    (tmp_path / file).write_text(text)
    found = read_results(tmp_path if file.startswith("comp") else tmp_path / file, dataset)
    assert found["000012"].xywh[:, 2].tolist() == [0]


def test_a_table_of_another_program_may_have_blank_lines(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "a.csv").write_bytes(
        f"\ufeff\r\n{HEADER} \r\n  \r\nc,cat, 0.5,0,0,9,9\r\n\r\n".encode()
    )
    assert read_results(tmp_path / "a.csv", dataset)["c"].boxes.tolist() == [[0, 0, 9, 9]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_found_reads_as_nothing(tmp_path: Path, dataset: Dataset, layout: str) -> None:
    write_results(tmp_path / NAMES[layout], dataset, {}, layout)
    assert read_results(tmp_path / NAMES[layout], dataset) == {}


@pytest.mark.parametrize("layout", ["voc", "ilsvrc", "csv"])
def test_a_tiny_box_keeps_an_area(tmp_path: Path, dataset: Dataset, layout: str) -> None:
    tiny = {"c": Detections([[5, 5, 5.001, 5.001]], [0.5], [0])}
    write_results(tmp_path / NAMES[layout], dataset, tiny, layout)
    sides = read_results(tmp_path / NAMES[layout], dataset)["c"].boxes[0]
    assert sides == pytest.approx([5, 5, 5.01, 5.01], abs=1e-5)


def test_files_of_other_programs_are_read(tmp_path: Path, dataset: Dataset) -> None:
    """Whole numbers, exponents, more blanks, Windows' line ends; comp4: trained on further data."""
    (tmp_path / "comp4_det_test_cat.txt").write_bytes(b"\r\n000012   1e-1 11 21 30 40\r\n")
    (tmp_path / "a.txt").write_text("9 3 .1 10 20 29 39\n")
    for path in (tmp_path, tmp_path / "a.txt"):
        found = read_results(path, dataset)["000012"]
        assert found.boxes.tolist() == [[10, 20, 30, 40]]
        assert found.scores.tolist() == pytest.approx([0.1])
        assert found.labels.tolist() == [0]


def test_images_without_numbers_of_their_own_count_from_one(tmp_path: Path) -> None:
    sample = Sample("x", Path("x.jpg"), None, Annotations.empty())
    (tmp_path / "a.txt").write_text("1 1 0.5 0 0 9 9\n")
    plain = Dataset("toy", ("cat",), (sample,))
    assert read_results(tmp_path / "a.txt", plain)["x"].boxes.tolist() == [[0, 0, 10, 10]]


HEADER = "image_id,class,score,x1,y1,x2,y2"
BAD = [
    ("a.txt", "7 17 0.5 0 0 9", "line 1: expected: image_index class score"),
    ("a.txt", "7", "line 1: expected: image_index class score"),
    ("a.txt", "\n7 17 high 0 0 9 9", "line 2: expected numbers"),
    ("a.txt", "7 17 0.5 0 0 nan 9", "line 1: expected numbers"),
    ("a.txt", "7 17 0.5 0 0 1e12 9", "line 1: expected numbers"),
    ("a.txt", "7 17 0.5 9 9 0 0", "has a negative side"),
    ("a.csv", f"{HEADER}\nc,cat,1,9,0,8,9", "image c: .*has a negative side"),
    ("a.csv", f"{HEADER}\nc,cat,1,0,0,nan,9", "line 2: expected numbers"),
    ("a.csv", f'{HEADER}\nc,cat,1,0,0,"9,5",9', "line 2: expected numbers"),
    ("a.csv", f"{HEADER}\nc,cat,1,0,0,9,5,9", "line 2: expected: image_id"),
    ("a.csv", f"{HEADER.replace(',', ';')}\nc;cat;1;0;0;1.009,5;9", "line 2: expected numbers"),
    ("a.txt", "7.5 17 0.5 0 0 9 9", "'7.5' is not a whole number"),
    ("a.txt", "8 17 0.5 0 0 9 9", "is of an image that VOC2012/val does not have: '8'"),
    ("a.txt", "7 1 0.5 0 0 9 9", "is of a class that VOC2012/val does not have: '1'"),
    ("a.txt", f"{'7' * 5000} 17 0.5 0 0 9 9", "line 1: '7+' is not a whole number"),
    ("a.csv", f"{HEADER}\n{'c' * 140_000},cat,1,0,0,9,9", "line 2: field"),
    ("a.csv", f'{HEADER}\n"c\nd",cat,1,0,0,9,9', "of an image that .* does not have: 'c.*d'"),
    ("a.csv", f'{HEADER}\nc,cat,1,0,0,9,9\n"c\nd,cat', "line 3: expected: image_id"),
    ("a.csv", "2008_01,cat,0.5,0,0,9,9", "expected a first line image_id,class"),
    (
        "a.csv",
        "image_id,class,score,x1,y1,x2,y2\nc,dog,1,0,0,9,9",
        "of a class that .* does not have: 'dog'.*class lists must match",
    ),
    (
        "a.csv",
        "image_id,class,score,x1,y1,x2,y2\nz,cat,1,0,0,9,9",
        "of an image that .* does not have: 'z'",
    ),
    ("a.csv", "image_id,class,score,x1,y1,x2,y2\nc,cat,1,0,0,9", "line 2: expected: image_id"),
    ("voc/comp3_det_val_cat.txt", "c 0.5 1 1 9", "expected: image score xmin"),
    ("voc/comp3_det_val_cat.txt", "z 0.5 1 1 9 9", "of an image that .* does not have: 'z'"),
    ("voc/comp3_det_val_dog.txt", "c 0.5 1 1 9 9", "of a class that .* does not have: 'dog'"),
    ("a.xml", "", r"no results recognised; expected COCO's results \(.json\)"),
    ("other/readme.txt", "", r"folder of VOC's files \(comp\*_det_\*.txt\)"),
]


def test_a_folder_of_the_detector_stands_for_the_detections_in_it(
    tmp_path: Path, dataset: Dataset
) -> None:
    row = '[{"image_id": "c", "category_name": "cat", "bbox": [1, 2, 3, 4], "score": 0.5}]'
    (tmp_path / "detections.json").write_text(row)
    (tmp_path / "run.json").write_text("{}")
    found = read_results(tmp_path, dataset)
    assert found["c"].boxes.tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    tmp_path: Path, dataset: Dataset, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    given = path if path.parent == tmp_path else path.parent
    with pytest.raises(DetectorError, match=message) as refused:
        read_results(given, dataset)
    assert str(refused.value).startswith(str(given))
    assert "\n" not in str(refused.value)


def test_results_of_two_kinds_in_one_folder_are_refused(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "comp3_det_val_cat.txt").write_text("")
    (tmp_path / "comp3_det_test_wild_cat.txt").write_text("")
    with pytest.raises(EvaluationError, match="comp3_det_test, comp3_det_val"):
        read_results(tmp_path, dataset)
    with pytest.raises(EvaluationError, match="give its folder"):
        read_results(tmp_path / "comp3_det_val_cat.txt", dataset)


def test_names_that_a_layout_cannot_hold_are_refused(tmp_path: Path) -> None:
    sample = Sample("a b", Path("a b.jpg"), None, Annotations.empty())
    found = {"a b": Detections([[0, 0, 9, 9]], [0.5], [0])}
    with pytest.raises(EvaluationError, match="'a b' has a blank"):
        write_results(tmp_path, Dataset("toy", ("cat",), (sample,)), found, "voc")
    with pytest.raises(EvaluationError, match=r"'\.\./cat' cannot be part"):
        write_results(tmp_path, Dataset("toy", ("../cat",), (sample,)), {}, "voc")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingsError, match="choose one of coco, voc, ilsvrc, csv"):
        write_results(tmp_path, Dataset("toy", ("cat",), (sample,)), {}, "xml")
