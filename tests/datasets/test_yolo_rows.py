"""What a long row of a YOLO label file means, and that what is not understood is no background."""

import random
from pathlib import Path

import numpy as np
import pytest
from dataset_files import write_yolo

from detector.datasets import read_yolo
from detector.datasets.check import lint
from detector.datasets.formats.yolo_rows import Fault, Meaning, meaning_of, read_row
from detector.errors import AnnotationError

BOX = "0.5 0.5 0.2 0.5"  # of 100 x 80 pixels: 40 to 60, and 20 to 60
CORNERS = "0.4 0.25 0.6 0.25 0.6 0.75 0.4 0.75"
PIXELS = [[40, 20, 60, 60]]


def boxes_in(path: Path) -> list[list[list[float]]]:
    return [np.round(one.annotations.boxes, 3).tolist() for one in read_yolo(path).samples]


def rules_in(path: Path) -> set[str]:
    """What reader and linter say alike."""
    left_out = {(one.file, one.id, one.rule) for one in read_yolo(path).dropped}
    defects = {(one.file, one.id, one.rule) for one in lint(path).defects}
    assert left_out == defects - {one for one in defects if one[2] == "same-image"}
    return {rule for _, _, rule in left_out}


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (f"0 {BOX} 0.87", None),  # a detector's confidence
        (f"0 {BOX} 1", None),
        (f"0 {BOX} 41", None),  # a track without confidence
        (f"0 {BOX} 0.87 1", None),
        (f"0 {BOX} 0.87 1234", None),
        (f"0 {BOX} {CORNERS}", None),
        (f"0 {BOX} {CORNERS} 0.5 0.5", None),  # five points
        (f"0 {BOX} {CORNERS} 0.91 7", None),  # points, confidence and track
        (f"0 {BOX} {CORNERS} 0 0 -1 -1", None),  # two points that nobody labelled
        (f"0 {BOX} 0.45 0.3 2 0.55 0.3 1 0 0 0 0.5 0.6 2", None),
        (f"0 {BOX} 0.45 0.3 0.91 0.55 0.3 0.87 0.5 0.6 0.1", None),  # a detector's points
        (f"0 {BOX} 0.39 0.25 0.61 0.75", None),  # just beyond the box
        (f"0\t{BOX}\t0.5\t0.6  ", None),
        (f"0 {BOX} {CORNERS}", "[4, 2]"),
        (f"0 {BOX} {CORNERS} 0.9", "[4, 2]"),
        (f"0 {BOX} {CORNERS} 0.9 3", "[4, 2]"),
        (f"0 {BOX} 0.1 0.1 0 0.9 0.9 2", "[2, 3]"),  # points anywhere: data.yaml says so
        (f"0 {BOX}", "[4, 2]"),
        (f"0 {BOX} 0.87", "[4, 2]"),
        (f"0 {BOX} 0.87 3", "[4, 2]"),
        (f"0 {CORNERS}", None),
        (f"0 {CORNERS}", "null"),
        (f"0 {CORNERS} 0.4 0.25", None),
        ("0 0.4 0.25 0.6 0.25 0.6 0.75 0.4 0.75 0.45 0.5", "null"),
        ("0 0.5 0.25 0.6 0.75 0.4 0.5", None),
    ],
)
def test_each_kind_of_row_gives_its_box(tmp_path: Path, row: str, shape: str | None) -> None:
    path = write_yolo(tmp_path, {"a": row, "b": f"\ufeff# two rows\n\n{row}\r\n"})
    if shape is not None:
        path.write_text(path.read_text() + f"kpt_shape: {shape}\n")
    assert boxes_in(path) == [PIXELS, PIXELS]
    assert rules_in(path) == set()


@pytest.mark.parametrize(
    ("row", "shape", "rule"),
    [
        (f"0 {BOX} {CORNERS}", "[5, 2]", "missing-field"),
        (f"0 {CORNERS}", "[4, 2]", "missing-field"),
        (f"0 {BOX} 0.9 0.9 2", None, "missing-field"),  # a point outside the box
        (f"0 {BOX} 1.87 1234", None, "not-normalised"),
        ("0 40 20 60 20 60 60 40 60", None, "not-normalised"),
        ("0 nan 0.2 0.3 0.2 0.3 0.4", None, "missing-field"),
        (f"0 0.93 {BOX}", None, "missing-field"),  # confidence first
        (f"cat {BOX}", None, "missing-field"),
        (f"0;{BOX.replace(' ', ';')}", None, "missing-field"),
        (f"7 {BOX}", None, "unknown-class"),
    ],
)
def test_what_is_not_understood_is_counted_and_gives_no_background(
    tmp_path: Path, row: str, shape: str | None, rule: str
) -> None:
    path = write_yolo(tmp_path, {"a": f"1 0.2 0.2 0.2 0.2\n{row}", "b": f"1 {BOX}"})
    if shape is not None:
        path.write_text(path.read_text() + f"kpt_shape: {shape}\n")
    assert rules_in(path) == {rule}
    one, other = read_yolo(path).samples
    assert (len(one.annotations), one.background_of) == (1, frozenset())
    assert (len(other.annotations), other.background_of) == (1, None)


def test_the_same_box_twice_hides_nothing(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": f"0 {BOX}\n0 {BOX}"})
    assert read_yolo(path).dropped_by_rule() == {"duplicate": 1}
    assert read_yolo(path).samples[0].background_of is None


def outline(points: int, chance: random.Random, at: float, size: float) -> list[float]:
    """A star around (at, at): neighbouring points lie close together, as in a traced outline."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False) + chance.random()
    reach = np.array([size * chance.uniform(0.7, 1) for _ in range(points)])
    return np.stack([at + reach * np.cos(angles), at + reach * np.sin(angles)], 1).ravel().tolist()


def row_of(values: list[float]) -> str:
    return "0 " + " ".join(f"{one:.6f}" for one in values)


def test_outlines_that_look_like_a_box_with_points_are_known_by_their_company() -> None:
    """Near the middle of a picture the first two points of an outline may be read as centre and
    size of a box that holds the others: one in five of COCO's can. The other rows tell.
    """
    chance = random.Random(0)
    for points in (4, 8, None):
        rows = [
            outline(points or chance.randint(5, 60), chance, at, 0.1)
            for at in np.linspace(0.25, 0.75, 30)
        ]
        alike = [one for one in rows if Meaning(None, "box").box_of(one) == one[:4]]
        assert 3 <= len(alike) < 30  # else this shows nothing
        meaning = meaning_of({}, ["\n".join(map(row_of, rows))])
        for one in rows:
            row = read_row(row_of(one), meaning, 1)
            assert not isinstance(row, Fault)
            assert row.box[2] == pytest.approx(max(one[::2]) - min(one[::2]), abs=1e-5)


def test_where_nothing_tells_the_row_is_left_out_with_the_cure(tmp_path: Path) -> None:
    """Three rows that can be both, one that is a box with points, one that is an outline."""
    both, outline = f"0 {BOX} 0.42 0.3 0.58 0.7", "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9"
    rows = [both, both.replace("0.42", "0.43"), both.replace("0.3", "0.31"), outline]
    rows.append(f"0 {BOX} -1 -1 0.5 0.5")
    path = write_yolo(tmp_path, {"a": "\n".join(rows[:3]), "b": "\n".join(rows[3:])})
    assert rules_in(path) == {"ambiguous-row"}
    dropped = read_yolo(path).dropped
    assert [one.id for one in dropped] == ["line 1", "line 2", "line 3"]
    assert "kpt_shape: [points, 2 or 3]" in dropped[0].why
    assert read_yolo(path).samples[0].background_of == frozenset()
    path.write_text(path.read_text() + "kpt_shape: null\n")
    assert read_yolo(path).dropped_by_rule() == {"duplicate": 1}  # 0.42 and 0.43, of one box


@pytest.mark.parametrize("shape", ["17", "[17]", "[17, 4]", "[0, 2]", "[true, 2]", "[a, 2]", "x"])
def test_a_kpt_shape_that_is_none_is_one_error(tmp_path: Path, shape: str) -> None:
    path = write_yolo(tmp_path, {"a": f"0 {BOX}"})
    path.write_text(path.read_text() + f"kpt_shape: {shape}\n")
    with pytest.raises(AnnotationError, match=r"data\.yaml: kpt_shape is .*expected \[points"):
        read_yolo(path)
    first = lint(path).defects[0]
    assert (first.id, first.rule) == ("kpt_shape", "unreadable")


def test_reader_and_linter_leave_out_the_same_of_any_rows(tmp_path: Path) -> None:
    """But for boxes that reach beyond 0 to 1 by less than half, which only the linter minds."""
    chance, odd = random.Random(3), ["0", "1", "2", "nan", "x", "-1", "0.5", "1.2", "17"]
    counts = (3, 4, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10, 12, 13)
    found = set()
    for _ in range(30):
        texts: dict[str, str | None] = {}
        for name in "ab":
            rows = [
                [chance.choice("02")]
                + [
                    f"{chance.random():.3f}" if chance.random() < 0.85 else chance.choice(odd)
                    for _ in range(chance.choice(counts))
                ]
                for _ in range(4)
            ]
            texts[name] = "\n".join(map(" ".join, rows))
        path = write_yolo(tmp_path, texts)
        shape = chance.choice(["", "", "kpt_shape: [2, 3]\n", "kpt_shape: null\n"])
        path.write_text(path.read_text() + shape)
        left_out = {(one.file, one.id, one.rule) for one in read_yolo(path).dropped}
        said = {(one.file, one.id, one.rule) for one in lint(path, fast=True).findings}
        assert left_out <= said
        rules = {"missing-field", "unknown-class", "ambiguous-row", "negative", "degenerate"}
        assert {one for one in said if one[2] in rules} <= left_out
        found |= {rule for _, _, rule in left_out}
    assert {"missing-field", "unknown-class", "negative"} <= found


@pytest.mark.parametrize(
    ("rows", "refused"),
    [(["1", "2"], True), (["2"], False), (["0", "2"], False), (["1"], False), (["1", "3"], False)],
)
def test_classes_counted_from_1_are_refused(tmp_path: Path, rows: list[str], refused: bool) -> None:
    path = write_yolo(tmp_path, {f"a{row}": f"{row} {BOX}" for row in rows})
    if refused:
        with pytest.raises(AnnotationError, match="train: class numbers go from 1 to 2, as if fr"):
            read_yolo(path)
    else:
        read_yolo(path)
    said = {one.rule for one in lint(path, fast=True).findings}
    assert ("shifted-classes" in said) is (refused or rows == ["2"])
