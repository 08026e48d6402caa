"""Bundles with heads: back as saved, refused where damaged, silent about heads they do not have."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from class_heads import class_head
from safetensors.numpy import load_file, save_file
from torch import nn

from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    load_bundle,
    read_manifest,
    save_bundle,
    save_heads,
    set_activation_ranges,
)
from detector.detection.load import SHIPPED
from detector.detection.settings import DetectionSettings
from detector.errors import BundleError, SettingsError
from detector.heads import BoxRegression, HeadManifest, LinearScores
from detector.models import ARCHITECTURES


class Tiny(nn.Module):
    """Four features and a last layer."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.classifier = nn.Linear(4, num_outputs)


@pytest.fixture(autouse=True)
def _tiny_is_an_architecture(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "tiny", Tiny)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Two members, two classes, no heads."""
    torch.manual_seed(0)
    manifest = BundleManifest(
        classes=("cat", "dog"),
        members=(MemberManifest(architecture="tiny", input_size=32),) * 2,
        provenance=Provenance(training_data="two drawings", licence="CC0-1.0"),
        metrics={"mAP": 0.5},
    )
    save_bundle(tmp_path / "plain", manifest, [Tiny(3).state_dict(), Tiny(3).state_dict()])
    return tmp_path / "plain"


def scores(rows: int, seed: int = 0, features: int = 4) -> LinearScores:
    rng = np.random.default_rng(seed)
    columns = (rng.uniform(0.1, 1, rows).astype(np.float32) for _ in range(3))
    return LinearScores(rng.normal(0, 1, (rows, features)).astype(np.float32), *columns)


def moves(classes: int = 2) -> BoxRegression:
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 1, (4 * classes, 4)).astype(np.float32)
    return BoxRegression(weight, weight[:, 0].copy())


def all_heads() -> list[tuple[HeadManifest, LinearScores | BoxRegression]]:
    return [
        (HeadManifest(kind="svm", recipe={"c": 1e-3}), scores(2)),
        (HeadManifest(kind="svm", member=1), scores(2, 5)),
        (HeadManifest(kind="regression"), moves()),
        (HeadManifest(kind="class", name="mug"), class_head(scores(1, 2))),
    ]


def same(one: LinearScores | BoxRegression, other: LinearScores | BoxRegression) -> bool:
    names = one.__dataclass_fields__
    return all((getattr(one, name) == getattr(other, name)).all() for name in names)


def test_heads_come_back_as_saved_and_the_networks_untouched(plain, tmp_path):
    fitted = all_heads()
    written = save_heads(plain, tmp_path / "new", fitted, DetectionSettings(score=0.3, svm=True))
    bundle = load_bundle(tmp_path / "new")
    assert bundle.manifest == written
    assert bundle.manifest.classes == ("cat", "dog", "mug")
    assert bundle.manifest.network_classes == ("cat", "dog")
    assert bundle.manifest.thresholds.svm
    assert bundle.manifest.metrics == {}  # they were of the softmax
    assert all(same(a, b) for (_, a), b in zip(fitted, bundle.heads, strict=True))
    heads = bundle.heads_of(0, bundle.manifest.heads)
    assert heads.svm is bundle.heads[0]
    assert heads.regression is bundle.heads[2]
    assert heads.added == (bundle.heads[3],)
    assert bundle.heads_of(1, bundle.manifest.heads).added == ()
    for old, new in zip(load_bundle(plain).models, bundle.models, strict=True):
        for name, tensor in old.state_dict().items():
            assert torch.equal(tensor, new.state_dict()[name])
    assert len(load_bundle(tmp_path / "new", members=1).heads) == 3


def test_what_was_measured_holds_until_a_head_in_use_is_another(plain):
    with_svms = [(HeadManifest(kind="svm", member=place), scores(2)) for place in (0, 1)]
    assert save_heads(plain, plain, with_svms).metrics == {"mAP": 0.5}  # off as before
    used = read_manifest(plain).model_copy(update={"thresholds": DetectionSettings(svm=True)})
    (plain / "bundle.json").write_text(used.model_dump_json())
    assert save_heads(plain, plain, [(HeadManifest(kind="regression"), moves())]).metrics
    assert save_heads(
        plain, plain, [(HeadManifest(kind="class", name="mug"), class_head(scores(1)))]
    ).metrics
    assert save_heads(plain, plain, with_svms[1:]).metrics == {}


def test_more_heads_go_into_the_same_folder(plain):
    save_heads(plain, plain, [(HeadManifest(kind="svm"), scores(2))])
    save_heads(plain, plain, [(HeadManifest(kind="class", name="mug"), class_head(scores(1)))])
    save_heads(plain, plain, [(HeadManifest(kind="class", name="jug"), class_head(scores(1, 1)))])
    save_heads(plain, plain, [(HeadManifest(kind="svm"), scores(2, 9))])  # in the first one's place
    bundle = load_bundle(plain)
    assert bundle.manifest.classes == ("cat", "dog", "mug", "jug")
    assert [head.kind for head in bundle.manifest.heads] == ["svm", "class", "class"]
    assert bundle.manifest.metrics == {"mAP": 0.5}
    assert same(bundle.heads[0], scores(2, 9))
    assert len(list(plain.glob("svm-*"))) == 1


def test_what_was_measured_holds_while_the_thresholds_do(plain, tmp_path):
    same_ones = read_manifest(plain).thresholds
    svm = [(HeadManifest(kind="svm"), scores(2))]
    assert save_heads(plain, tmp_path / "same", svm, same_ones).metrics == {"mAP": 0.5}
    other = save_heads(plain, tmp_path / "other", svm, DetectionSettings(score=0.3))
    assert (other.metrics, other.thresholds.score_threshold) == ({}, 0.3)


def test_networks_and_their_heads_are_saved_in_one_step(plain):
    bare = read_manifest(plain)
    states = [model.state_dict() for model in load_bundle(plain).models]
    heads = [(HeadManifest(kind="svm"), scores(2))]
    written = save_bundle(plain, bare, states, fitted=heads)
    assert [head.kind for head in written.heads] == ["svm"]
    assert np.array_equal(load_bundle(plain).heads[0].weight, heads[0][1].weight)
    with pytest.raises(BundleError, match="shape"):
        save_bundle(plain, bare, states, fitted=[(HeadManifest(kind="svm"), scores(7))])
    assert read_manifest(plain) == written


def test_a_bundle_saved_anew_leaves_no_heads_behind(plain):
    save_heads(plain, plain, all_heads())
    manifest = read_manifest(plain)
    states = [model.state_dict() for model in load_bundle(plain).models]
    with pytest.raises(BundleError, match="beside its manifest"):
        save_bundle(plain, manifest, states)
    bare = manifest.model_copy(update={"heads": (), "classes": ("cat", "dog")})
    save_bundle(plain, bare, states)
    assert len(list(plain.glob("*.safetensors"))) == 2


def test_a_bundle_without_heads_says_nothing_of_them(plain):
    """So that programs which know of none read it."""
    set_activation_ranges(plain, [{}, {}])
    tree = json.loads((plain / "bundle.json").read_text())
    assert "heads" not in tree
    assert {*tree["thresholds"]} == {"score", "nms", "voting", "max_detections", "max_proposals"}
    assert tree["format_version"] == 1


def test_the_shipped_bundle_has_none_and_uses_none():
    manifest = read_manifest(SHIPPED)
    assert manifest.network_classes == manifest.classes
    assert manifest.heads_in_use(svm=False, regression=False) == ()
    with pytest.raises(
        SettingsError, match=r"no svm head for member 0; fit one with inception-rcnn fit"
    ):
        manifest.heads_in_use(svm=True, regression=False)


def test_heads_in_use_are_of_the_members_in_use(plain):
    save_heads(plain, plain, all_heads())
    manifest = read_manifest(plain)
    assert [h.kind for h in manifest.heads_in_use(svm=False, regression=False)] == ["class"]
    kinds = [h.kind for h in manifest.heads_in_use(svm=True, regression=True, members=1)]
    assert kinds == ["svm", "regression", "class"]
    with pytest.raises(SettingsError, match="no regression head for member 1"):
        manifest.heads_in_use(svm=True, regression=True)


@pytest.mark.parametrize(
    ("head", "values", "words"),
    [
        ({"kind": "svm"}, scores(3), r"weight has shape \(3, 4\), expected \(2, 4\)"),
        ({"kind": "svm"}, moves(), r"weight has shape \(8, 4\), expected \(2, 4\)"),
        ({"kind": "regression"}, moves(3), r"weight has shape \(12, 4\), expected \(8, 4\)"),
        ({"kind": "class", "name": "cat"}, class_head(scores(1)), "distinct"),
        ({"kind": "svm", "member": 2}, scores(2), "a member that is not among 2"),
    ],
)
def test_what_cannot_be_loaded_is_not_saved(plain, tmp_path, head, values, words):
    with pytest.raises(BundleError, match=words):
        save_heads(plain, tmp_path / "new", [(HeadManifest(**head), values)])
    assert not (tmp_path / "new").exists()


def test_values_that_are_no_scores_are_not_saved(plain, tmp_path):
    bad = scores(2)
    bad.weight[0, 0] = np.nan
    with pytest.raises(BundleError, match="weight has values that are not finite"):
        save_heads(plain, tmp_path / "new", [(HeadManifest(kind="svm"), bad)])
    bad = scores(2)
    bad.slope[0] = 0
    with pytest.raises(BundleError, match="slope has values that are not above 0"):
        save_heads(plain, tmp_path / "new", [(HeadManifest(kind="svm"), bad)])


def spoil(folder: Path, change, *, honest: bool = True) -> None:
    """Rewrite the class head's file; `honest`: the manifest tells its new size and hash."""
    (path,) = folder.glob("class-*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    tell(folder, path if honest else None)


def tell(folder: Path, path: Path | None, **facts: object) -> None:
    tree = json.loads((folder / "bundle.json").read_text())
    if path is not None:
        data = path.read_bytes()
        facts |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    tree["heads"][3].update(facts)
    (folder / "bundle.json").write_text(json.dumps(tree))


def tensors(**changes: np.ndarray):
    return lambda folder: spoil(folder, lambda found: found.update(changes))


def write(data: bytes, *, honest: bool):
    def change(folder: Path) -> None:
        (path,) = folder.glob("class-*.safetensors")
        path.write_bytes(data)
        tell(folder, path if honest else None)

    return change


F32 = np.float32
BAD = {
    "absent": (lambda f: next(f.glob("class-*")).unlink(), "missing; the bundle is incomplete"),
    "truncated": (write(b"short", honest=False), "bytes, expected"),
    "not safetensors": (write(b"PK" * 99, honest=True), "not a safetensors file"),
    "other numbers": (
        lambda f: spoil(f, lambda found: found["bias"].fill(7), honest=False),
        "SHA-256",
    ),
    "wrong shape": (tensors(weight=np.zeros((1, 5), F32)), r"weight has shape \(1, 5\)"),
    "missing tensor": (lambda f: spoil(f, lambda found: found.pop("slope")), "slope is missing"),
    "foreign tensor": (tensors(extra=np.zeros(2, F32)), "extra does not belong"),
    "half": (tensors(bias=np.zeros(1, np.float16)), "bias is float16, expected float32"),
    "double": (tensors(bias=np.zeros(1)), "bias is stored as 'F64'"),
    "not finite": (tensors(bias=np.array([np.inf], F32)), "bias has values that are not finite"),
    "falling": (tensors(slope=np.array([-1], F32)), "slope has values that are not above 0"),
    "way out": (lambda f: tell(f, None, file="../x.safetensors"), r"heads\.3\.file"),
    "another name": (lambda f: tell(f, None, name="jug"), "the last classes must be"),
    "no name": (lambda f: tell(f, None, name=""), "has a name, no other has"),
    "unknown kind": (lambda f: tell(f, None, kind="forest"), r"heads\.3\.kind"),
    "on another member": (lambda f: tell(f, None, member=1), "added classes are on member 0"),
    "twice": (lambda f: tell(f, None, kind="svm", name=""), "the last classes|at most one head"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_head_is_refused_by_name(case, plain):
    change, words = BAD[case]
    save_heads(plain, plain, all_heads())
    load_bundle(plain)
    change(plain)
    with pytest.raises(BundleError, match=words) as caught:
        load_bundle(plain)
    assert str(plain) in str(caught.value)
