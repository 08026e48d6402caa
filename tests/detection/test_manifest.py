"""What a bundle may say of itself: each limit holds at the value and not beyond it."""

import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from detector.detection.bundle import BundleManifest, MemberManifest, Provenance
from detector.detection.settings import DetectionSettings
from detector.errors import SettingsError
from detector.heads import HeadManifest
from detector.models.input_normalisation import Normalisation

MEMBER = MemberManifest(architecture="googlenet")
ON_TRUNK = MemberManifest(architecture="googlenet", trunk=(0, "4c"))
LATER = MemberManifest(architecture="googlenet", trunk=(1, "4c"))
PROVENANCE = Provenance(training_data="two drawings", licence="CC0-1.0")


def bundle(**changes: Any) -> BundleManifest:
    told: dict[str, Any] = {"classes": ("cat", "dog"), "members": (MEMBER,)}
    return BundleManifest(**{**told, "provenance": PROVENANCE, **changes})


LIMITS = [
    (MemberManifest, "input_size", [16, 2048], [15, 2049]),
    (MemberManifest, "context", [0, 0.49], [-0.01, 0.4999999999999999, 0.5, float("nan")]),
    (MemberManifest, "bytes", [0, 1], [-1]),
    (MemberManifest, "temperature", [0.01, 1, 100], [0.0099, 100.1, 0, -1, float("nan")]),
    (
        MemberManifest,
        "std",
        [(0.1, 0.1, 0.1), (1 / 255,) * 3, (1e4,) * 3],
        [(0.1, 0, 0.1), (0.1, 0.1, -1), (1, 1), (1, 1e-300, 1), (1e308, 1, 1), (1, 1, 9e-5)],
    ),
    (MemberManifest, "mean", [(0, -1, 1e4)], [(1e308, 0, 0), (0, 0, -1e5), (0, float("inf"), 0)]),
    (
        MemberManifest,
        "activation_ranges",
        [{}, {"conv1": 1e-9, "norm1": 1e6}],
        [{"conv1": 0}, {"conv1": -1}, {"conv1": 1e308}, {"conv1": float("nan")}, []],
    ),
    (MemberManifest, "stored_as", ["float32", "float16", "int8"], ["float64"]),
    (
        MemberManifest,
        "file",
        ["", "a.safetensors", "_9.b-c.safetensors"],
        ["a", "a.safetensors.gz", ".a.safetensors", "-a.safetensors", "a/b.safetensors", "..",
         "a..safetensors", "a b.safetensors"],
    ),
    (MemberManifest, "colour", [], ["red"]),
    (DetectionSettings, "score_threshold", [0, 1], [-0.01, 1.01, float("nan")]),
    (DetectionSettings, "nms_threshold", [0, 1], [-0.01, 1.01]),
    (DetectionSettings, "voting_iou", [None, 0.01, 1], [0, 1.01]),
    (DetectionSettings, "max_detections", [1], [0]),
    (DetectionSettings, "max_proposals", [None, 1], [0]),
    (DetectionSettings, "colour", [], ["red"]),
    (Provenance, "colour", [], ["red"]),
]  # fmt: skip
NEEDED = {
    MemberManifest: {"architecture": "googlenet"},
    Provenance: {"training_data": "none", "licence": "CC0-1.0"},
}


@pytest.mark.parametrize(("kind", "field", "good", "bad"), LIMITS, ids=str)
def test_a_value_is_taken_up_to_its_limit(
    kind: type[BaseModel], field: str, good: list[Any], bad: list[Any]
) -> None:
    needed = NEEDED.get(kind, {})
    for value in good:
        assert getattr(kind(**needed, **{field: value}), field) == value
    for value in bad:
        with pytest.raises(ValidationError, match=field):
            kind(**needed, **{field: value})


def test_what_is_not_said_is_as_published() -> None:
    assert DetectionSettings().model_dump(by_alias=True) == {
        "score": 0.05,
        "nms": 0.3,
        "class_agnostic_nms": None,
        "voting": None,
        "max_detections": 100,
        "max_proposals": None,
        "prescore": None,
        "cascade": None,
        "svm": False,
        "regression": False,
        "tile": None,
        "tile_overlap": 0.2,
    }
    assert (MEMBER.input_size, MEMBER.stored_as, MEMBER.trunk) == (224, "float16", None)
    assert MEMBER.context == pytest.approx(16 / 227)
    assert MEMBER.normalisation == Normalisation(MEMBER.mean, MEMBER.std)
    assert PROVENANCE.started_from == "random initialisation"
    assert (bundle().format_version, bundle().prior, bundle().heads) == (1, None, ())


def test_an_entry_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MEMBER.input_size = 299


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ()}, "at least 1"),
        ({"classes": ("cat", " ")}, "distinct and not empty"),
        ({"classes": ("cat", "cat")}, "distinct and not empty"),
        ({"members": ()}, "at least 1"),
        ({"members": (MEMBER,) * 1001}, "at most 1000"),
        ({"classes": tuple(map(str, range(100_001)))}, "at most 100000"),
        ({"heads": [HeadManifest(kind="svm")] * 10_001}, "at most 10000"),
        ({"format_version": 2}, "Input should be 1"),
        ({"members": (ON_TRUNK,)}, "not before it"),
        ({"members": (MEMBER, LATER)}, "not before it"),
        ({"metrics": {"mAP": float("inf")}}, "finite"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_bundle_that_cannot_be_true_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        bundle(**changes)


def test_as_many_members_and_classes_as_allowed_are_taken() -> None:
    many = bundle(members=(MEMBER,) * 1000, classes=tuple(map(str, range(100_000))))
    assert (len(many.members), len(many.classes)) == (1000, 100_000)


def added(*names: str) -> tuple[HeadManifest, ...]:
    return tuple(HeadManifest(kind="class", name=name) for name in names)


def test_added_classes_come_last_in_the_order_of_their_heads() -> None:
    told = bundle(classes=("cat", "mug", "jug"), heads=added("mug", "jug"))
    assert told.network_classes == ("cat",)
    for heads in (added("jug", "mug"), added("mug"), added("cat"), added("cat", "mug", "jug")):
        with pytest.raises(ValidationError, match="the last classes must be those of the heads"):
            bundle(classes=("cat", "mug", "jug"), heads=heads)


def test_a_head_stands_on_a_member_and_alone_of_its_kind() -> None:
    one, two = HeadManifest(kind="svm"), HeadManifest(kind="svm", member=1)
    assert bundle(members=(MEMBER, MEMBER), heads=(one, two)).heads == (one, two)
    both = (one, HeadManifest(kind="regression"))
    assert bundle(heads=both).heads == both
    with pytest.raises(ValidationError, match="at most one head of each kind"):
        bundle(heads=(one, one))
    with pytest.raises(ValidationError, match="not among 1"):
        bundle(heads=(two,))


def test_heads_in_use_are_those_of_all_members_in_use() -> None:
    heads = (
        HeadManifest(kind="svm"), HeadManifest(kind="svm", member=1),
        HeadManifest(kind="regression", member=1), *added("mug"),
    )  # fmt: skip
    told = bundle(classes=("cat", "mug"), members=(MEMBER, MEMBER), heads=heads)
    assert told.heads_in_use(svm=False, regression=False) == (heads[3],)
    assert told.heads_in_use(svm=True, regression=False) == (heads[0], heads[1], heads[3])
    assert told.heads_in_use(svm=True, regression=False, members=1) == (heads[0], heads[3])
    words = (
        "no regression head for member 0; fit one with inception-rcnn fit heads, or leave it off"
    )
    with pytest.raises(SettingsError, match=re.escape(words)):
        told.heads_in_use(svm=False, regression=True)
