"""Labels that are probably wrong: evidence and kinds by hand, the list, and its page."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.datasets import Sample
from detector.detection.aggregate import RegionScores
from detector.evaluation.wrong_labels.duplicates import across_splits, differing_bits
from detector.evaluation.wrong_labels.page import Page, window, wrong_labels_html
from detector.evaluation.wrong_labels.suspects import Suspect, ranked, write_suspects
from detector.evaluation.wrong_labels.suspicion import (
    OF_BOXES,
    OF_OVERLOOKED,
    Logistic,
    box_evidence,
    doubled,
    overlooked_evidence,
    own_scores,
    suspects_of,
)
from detector.structures import Annotations, Array, Detections, Proposals

CAT, DOG, COW = range(3)
NAMES = ("cat", "dog", "cow")
BOX, BESIDE, FAR = [0, 0, 40, 40], [20, 0, 60, 40], [60, 60, 90, 90]  # BESIDE: an IoU of a third
SIZE = (100, 100)
NOTHING = Detections.empty()


def sample(boxes: list[list[int]], labels: list[int], **more: object) -> Sample:
    return Sample("a", Path("a.png"), SIZE, Annotations(boxes, labels, **more))


def regions(boxes: list[list[int]] = [], scores: list[list[float]] = []) -> RegionScores:  # noqa: B006
    proposals = Proposals(np.array(boxes), SIZE)
    return RegionScores(proposals, np.array(scores).reshape(-1, 4), proposals.boxes)


def suspects(
    one: Sample, scores: list[list[float]], found: Detections = NOTHING
) -> dict[str, list[Suspect]]:
    """By kind, of labels whose boxes have these scores."""
    seen = own_scores(one, np.array(scores, float).reshape(-1, 4))
    by_kind: dict[str, list[Suspect]] = {}
    for suspect in suspects_of(one, seen, regions(), found, NAMES, np.zeros((0, 4))):
        by_kind.setdefault(suspect.kind, []).append(suspect)
    return by_kind


def test_the_scores_of_a_box_are_those_of_its_class_and_of_the_best_other_one_annotated() -> None:
    cat = sample([BOX], [CAT])
    scores = np.array([[0.1, 0.2, 0.6, 0.1]])
    seen = own_scores(cat, scores)
    assert (seen.own, seen.other, seen.other_label, seen.background) == (0.1, 0.6, COW, 0.1)
    seen = own_scores(replace(cat, annotated=frozenset([CAT, DOG])), scores)
    assert (seen.other, seen.other_label) == (0.2, DOG)


def test_the_evidence_of_a_box_is_its_score_its_regions_and_the_detection_beside_it() -> None:
    """Log-odds of a half are 0 and of 0.8 ln 4; FAR's score is of no region on the box."""
    cat = sample([BOX], [CAT])
    seen = own_scores(cat, np.array([[0.5, 0.0, 0.0, 0.5]]))
    near = regions([BOX, FAR], [[0.8, 0, 0, 0.2], [0.9, 0, 0, 0.1]])
    found = Detections([BESIDE, BESIDE], [0.7, 0.9], [CAT, DOG])
    evidence, rivals = box_evidence(cat.annotations, seen, near, found)
    assert evidence.tolist() == [pytest.approx([0, np.log(4), 0.7])]
    assert rivals.tolist() == [0]


def test_a_detection_that_has_a_label_of_its_own_is_no_evidence_against_the_next() -> None:
    two = sample([BOX, BESIDE], [CAT, CAT])
    seen = own_scores(two, np.full((2, 4), 0.25))
    evidence, rivals = box_evidence(
        two.annotations, seen, regions(), Detections([BESIDE], [0.7], [CAT])
    )
    assert evidence[:, 2].tolist() == [0, 0]
    assert rivals.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("label", "more", "unknown", "overlooked"),
    [
        (CAT, {}, [], [1]),  # covered by its own class; the far dog by nothing
        (DOG, {}, [], [0, 1]),  # a dog's box covers no cat
        (DOG, {"difficult": [True]}, [], [1]),
        (DOG, {"crowd": [True]}, [], [1]),
        (DOG, {}, [BOX], [1]),  # something that the detector does not know
    ],
)
def test_labels_cover_detections(
    label: int, more: dict[str, object], unknown: list[list[int]], overlooked: list[int]
) -> None:
    found = Detections([BOX, FAR, FAR], [0.9, 0.8, 0.1], [CAT, DOG, COW])  # 0.1 is too little
    one = sample([BOX], [label], **more)
    rows, _ = overlooked_evidence(one, found, np.array(unknown).reshape(-1, 4))
    assert rows.tolist() == overlooked


def test_a_class_that_is_not_annotated_in_an_image_is_not_overlooked_there() -> None:
    one = replace(sample([BOX], [CAT]), annotated=frozenset([CAT]))
    rows, _ = overlooked_evidence(one, Detections([FAR], [0.9], [DOG]), np.zeros((0, 4)))
    assert rows.tolist() == []


def test_the_evidence_of_an_overlooked_object_by_hand() -> None:
    """Half of BESIDE lies in the cat's box; 800 of 2,400 square pixels are shared."""
    found = Detections([BESIDE], [0.5], [CAT])
    _, evidence = overlooked_evidence(sample([BOX], [CAT]), found, np.zeros((0, 4)))
    assert evidence.tolist() == [pytest.approx([0, 0.5, 1 / 3])]


def test_each_label_is_named_once_by_what_is_most_suspicious() -> None:
    one = sample([BOX, FAR, [0, 60, 30, 90]], [CAT, CAT, CAT])
    scores = [[0.01, 0.0, 0.0, 0.99], [0.01, 0.9, 0.0, 0.09], [0.01, 0.0, 0.0, 0.99]]
    by_kind = suspects(one, scores, Detections([BESIDE], [0.8], [CAT]))
    (misplaced,), (swapped,), (spurious,) = (
        by_kind[kind] for kind in ("misplaced", "swapped", "spurious")
    )
    assert (misplaced.row, misplaced.suggestion) == (0, "cat")
    assert misplaced.better_box is not None
    assert misplaced.better_box.tolist() == BESIDE
    assert (swapped.row, swapped.suggestion) == (1, "dog")
    assert (spurious.row, spurious.suggestion, spurious.label) == (2, "nothing", "cat")
    assert sum(len(rows) for kind, rows in by_kind.items() if kind != "overlooked") == 3


def test_suspicion_rises_as_the_score_falls_and_with_that_of_what_is_overlooked() -> None:
    falling = [suspects(sample([BOX], [CAT]), [[own, 0, 0, 1 - own]]) for own in (0.9, 0.1, 0.001)]
    values = [kinds["spurious" if "spurious" in kinds else "swapped"][0] for kinds in falling]
    assert [one.suspicion for one in values] == sorted(one.suspicion for one in values)
    bare = sample([], [])
    seen = [suspects(bare, [], Detections([FAR], [score], [DOG])) for score in (0.3, 0.9)]
    low, high = (kinds["overlooked"][0] for kinds in seen)
    assert low.suspicion < high.suspicion
    assert (low.label, low.suggestion, low.row) == (None, "dog", None)


def test_difficult_objects_and_crowds_are_no_suspects() -> None:
    one = sample([BOX, FAR], [CAT, CAT], difficult=[True, False], crowd=[False, True])
    assert suspects(one, [[0, 0, 0, 1], [0, 0, 0, 1]]) == {}


def test_of_two_boxes_on_one_object_the_less_likely_is_doubled() -> None:
    """34 of 40 rows: an IoU of 0.85, half way from 0.7 to 1."""
    one = sample([BOX, [0, 0, 40, 34]], [CAT, DOG])
    scores = np.array([[0.3, 0.6, 0, 0.1], [0.3, 0.6, 0, 0.1]])
    pairs = list(doubled(one.annotations, own_scores(one, scores)))
    assert pairs == [(0, (1, pytest.approx(0.5)))]
    (suspect,) = suspects(one, scores.tolist())["doubled"]
    assert (suspect.row, suspect.suspicion) == (0, pytest.approx(0.5))
    assert (
        list(doubled(sample([BOX, BESIDE], [CAT, CAT]).annotations, own_scores(one, scores))) == []
    )


def test_the_logistic_function_by_hand() -> None:
    """2 * 1 - 1 * 2 + 0 is 0, whose probability is a half; ln 3 has three quarters."""
    assert Logistic((2, -1), 0)(np.array([[1, 2]])).tolist() == [0.5]
    assert Logistic((1,), 0)(np.array([[np.log(3)]])).tolist() == [pytest.approx(0.75)]


def test_the_fitted_functions_take_the_evidence_that_there_is() -> None:
    assert len(OF_BOXES.weights) == len(OF_OVERLOOKED.weights) == 3
    assert OF_BOXES.weights[0] < 0 < OF_OVERLOOKED.weights[0]


def suspect(suspicion: float, kind: str = "swapped", image: str = "a", **more: object) -> Suspect:
    box = np.array(BOX, float)
    return Suspect(image, Path(f"{image}.png"), kind, suspicion, "cat", box, "dog", **more)  # type: ignore[arg-type]


def test_the_list_is_written_with_ranks(tmp_path: Path) -> None:
    formula = suspect(0.2, image="=cmd()")
    rows = ranked([formula, suspect(0.9, row=1), suspect(0.2, better_box=np.array(BESIDE))])
    assert [one.suspicion for one in rows] == [0.9, 0.2, 0.2]
    assert rows[1] is formula  # ties keep their order
    write_suspects(tmp_path, rows, {"weights": "mine"})
    content = json.loads((tmp_path / "wrong_labels.json").read_text())
    assert content["weights"] == "mine"
    assert [row["rank"] for row in content["labels"]] == [1, 2, 3]
    assert content["labels"][0]["box"] == BOX
    with (tmp_path / "wrong_labels.csv").open(newline="") as file:
        first, second, third = csv.DictReader(file)
    assert (first["kind"], first["class"], first["suggestion"]) == ("swapped", "cat", "dog")
    assert (first["x2"], first["to_x2"], third["to_x2"]) == ("40.0", "", "60.0")
    assert second["image"] == "'=cmd()"  # a spreadsheet runs nothing


def photograph(path: Path, seed: int, mirrored: bool = False) -> Path:
    pixels: Array = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    pixels = np.repeat(np.repeat(pixels, 8, 0), 8, 1)
    Image.fromarray(pixels[:, ::-1] if mirrored else pixels).save(path)
    return path


def test_the_same_picture_in_two_splits(tmp_path: Path) -> None:
    """0 is in both, once mirrored; 1 is twice in train, which is no matter here."""
    files = [("a", 0, False), ("b", 1, False), ("c", 1, False), ("d", 0, True), ("e", 2, False)]
    samples = [
        Sample(name, photograph(tmp_path / f"{name}.png", *of), SIZE, Annotations.empty())
        for name, *of in files
    ]
    (found,) = across_splits(samples, ["train"] * 3 + ["val"] * 2)
    assert (found.image_id, found.suggestion, found.kind) == ("d", "a of train", "two splits")
    assert found.suspicion > 0.5
    bits = np.zeros((16, 16), bool)
    other = bits.copy()
    other[0, :3] = True
    assert differing_bits(bits, other) == 3
    assert differing_bits(bits, ~bits) == 0  # its mirror image


def test_the_window_is_that_of_both_boxes_with_a_margin_inside_the_image() -> None:
    """x 0 to 60, y 0 to 40: a margin of 30 pixels; to x 100 of 0.35 * 100 = 35."""
    both = suspect(1, better_box=np.array(BESIDE))
    assert window(both, (200, 200)) == (0, 0, 90, 70)
    assert window(replace(both, better_box=np.array([0, 0, 100, 40])), (200, 200)) == (
        0,
        0,
        135,
        75,
    )
    assert window(replace(both, box=None, better_box=None), (50, 70)) == (0, 0, 70, 50)


HOSTILE = "<script>alert(1)</script>"


def page(folder: Path) -> Page:
    Image.new("RGB", (100, 100), (90, 120, 60)).save(folder / "a.png")
    one = replace(sample([BOX, FAR], [CAT, DOG]), path=folder / "a.png")
    rows = [
        replace(suspect(0.9, row=0), path=folder / "a.png", suggestion=HOSTILE),
        replace(suspect(0.4, "overlooked"), path=folder / "gone.png", label=None),
        suspect(0.1),
    ]
    return Page("pets", rows, {"a": one}, NAMES, "weights mine", "2 labels.", "check")


def test_the_page_stands_by_itself_and_escapes_names(tmp_path: Path) -> None:
    text = wrong_labels_html(page(tmp_path), 2)
    assert text.count("data:image/jpeg") == 1
    assert text.count("cannot be read") == 1
    assert "1 label less suspicious" in text
    assert HOSTILE not in text
    assert "cat → &lt;script&gt;" in text
    assert "http" not in text
    assert "Nothing is suspicious" in wrong_labels_html(replace(page(tmp_path), suspects=[]), 2)
