"""A bundle's card says what is known of it: at once from its manifest, and later what an evaluation
of these very weights has measured.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from detector.cli.app import run_tool
from detector.cli.bundle_card import main
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    complete_card,
    read_manifest,
    save_bundle,
    save_temperatures,
)
from detector.detection.load import SHIPPED
from detector.errors import BundleError, EvaluationError
from detector.models import ARCHITECTURES

HOSTILE = "a|b<script>`*\n# c"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return saved(tmp_path / "bundle")


def saved(folder: Path, name: str = "dog", licence: str = "CC0-1.0") -> Path:
    about = Provenance(training_data="two drawings", licence=licence, unfinished="step 1 of 2")
    member = MemberManifest(architecture="googlenet", input_size=32)
    whole = BundleManifest(classes=("cat", name), members=(member,), provenance=about)
    save_bundle(folder, whole, [ARCHITECTURES["googlenet"](3).state_dict()])
    return folder


def card(bundle: Path) -> str:
    return (bundle / "README.md").read_text()


def evaluated(out: Path, bundle: Path, **changes: Any) -> Path:
    """The folder of an evaluation with its report."""
    out.mkdir(exist_ok=True)
    row = {"name": "cat", "ap": 0.625, "interval": [0.5, 0.75], "positives": 4, "recall": 1.0}
    whole = {
        "protocol": "voc12", "mean_ap": 0.625, "rounds": 100, "data": "toy/val", "images": 4,
        "interval": {"estimate": 0.625, "low": 0.5, "high": 0.75, "confidence": 0.95},
        "bundle_sha256": hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest(),
        "members": 1, "precision": "float32", "command": "inception-rcnn evaluate detections",
        "per_class": [row, {**row, "name": "dog", "ap": None, "interval": None, "positives": 0}],
    }  # fmt: skip
    (out / "evaluation.json").write_text(json.dumps(whole | changes))
    pictures = [f"worst_{number}.jpg" for number in range(1, 7)]
    worst = [{"image": HOSTILE, "missed": 1, "false": 2, "picture": one} for one in pictures]
    said = {
        "threshold": 0.5, "errors": [{"kind": "background", "number": 3, "gain": 0.012}],
        "misses": {"not proposed": 2, "unseen": 0}, "worst_images": worst,
        "slices": [
            {"by": "size", "name": "small", "objects": 1, "mean_ap": 0.25, "recall": 0.5},
        ],
    }  # fmt: skip
    (out / "diagnosis.json").write_text(json.dumps(said))
    Image.new("RGB", (60, 40)).save(out / "precision_recall.png")
    for one in pictures:
        Image.new("RGB", (60, 40)).save(out / one)
    return out


def test_pictures_of_a_strangers_evaluation_stay_in_the_bundle(
    bundle: Path, tmp_path: Path
) -> None:
    out = evaluated(tmp_path / "out", bundle)
    diagnosis = json.loads((out / "diagnosis.json").read_text())
    diagnosis["worst_images"] = [
        {"image": "a", "missed": 1, "false": 0, "picture": "x/../../worst_1.jpg"}
    ]
    (out / "diagnosis.json").write_text(json.dumps(diagnosis))
    before = {path for path in tmp_path.rglob("*") if bundle not in path.parents}
    assert "card_worst_1.jpg" in complete_card(bundle, out)
    assert (bundle / "card_worst_1.jpg").is_file()
    assert {path for path in tmp_path.rglob("*") if bundle not in path.parents} == before


def test_every_bundle_has_a_card_with_what_is_known(bundle: Path) -> None:
    text = card(bundle)
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "cc0-1.0"
    assert front["library_name"] == "inception-rcnn"
    assert front["tags"] == ["object-detection", "selective-search", "r-cnn", "googlenet"]
    for known in ("It finds cat, dog", "two drawings", "Licence: CC0-1.0", "step 1 of 2",
                  "| 0 | googlenet | 32 |", "| score | 0.05 |", "Not measured yet"):  # fmt: skip
        assert known in text
    assert "inception-rcnn bundle card BUNDLE --evaluation out" in text


def test_names_from_files_are_plain_text(tmp_path: Path) -> None:
    text = card(saved(tmp_path, HOSTILE, licence='ours: "all"\n- rights'))
    assert yaml.safe_load(text.split("---")[1]) | {"tags": []} == {
        "license": "other", "license_name": 'ours: "all"\n- rights', "tags": [],
        "library_name": "inception-rcnn", "pipeline_tag": "object-detection",
    }  # fmt: skip
    assert r"a\|b\<script\>\`\*\\n\# c" in text
    assert "<script>" not in text


def test_a_card_is_completed_by_an_evaluation_and_undone_by_a_change(
    bundle: Path, tmp_path: Path
) -> None:
    unmeasured = card(bundle)
    written = complete_card(bundle, evaluated(tmp_path / "out", bundle))
    text = card(bundle)
    assert written == [
        "README.md", "card_precision_recall.png", *(f"card_worst_{n}.jpg" for n in (1, 2, 3, 4)),
    ]  # fmt: skip
    for number in ("mAP **62.5**", "50.0 to 75.0", "100 bootstrap rounds", "4 images of toy/val",
                   "1 of 1 members in float32", "| cat | 62.5 | 50.0 to 75.0 | 4 | 100.0 |",
                   "| dog | - | - | 0 | - |", "| background | 3 | 1.2 |", "not proposed 2",
                   "| size: small | 1 | 25.0 | 50.0 |", "(card_worst_4.jpg)"):  # fmt: skip
        assert number in text
    assert "Not measured" not in text
    assert complete_card(bundle, tmp_path / "out", pictures=1)[1:] == [
        "card_precision_recall.png", "card_worst_1.jpg",
    ]  # fmt: skip
    assert len(list(bundle.glob("card_*"))) == 2
    save_temperatures(bundle, bundle, [1.0], {})
    assert "Not measured yet" in card(bundle)
    assert "Not measured yet" in unmeasured
    assert not list(bundle.glob("card_*"))


def test_pictures_are_small_or_left_out(bundle: Path, tmp_path: Path) -> None:
    out = evaluated(tmp_path / "out", bundle)
    (out / "worst_1.jpg").write_bytes(b"x" * 200_001)
    (out / "worst_2.jpg").unlink()
    assert complete_card(bundle, out)[2:] == ["card_worst_3.jpg", "card_worst_4.jpg"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("evaluation.json", None, "evaluate detections --weights BUNDLE --report"),
        ("diagnosis.json", None, "evaluate detections --weights BUNDLE --report"),
        ("evaluation.json", '{"mean_ap": 1}', "not that of a bundle's evaluation"),
        ("evaluation.json", "[", "not that of a bundle's evaluation"),
    ],
)
def test_what_is_no_evaluation_of_a_bundle_is_refused(
    bundle: Path, tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    out = evaluated(tmp_path / "out", bundle)
    (out / file).unlink() if text is None else (out / file).write_text(text)
    before = card(bundle)
    with pytest.raises(EvaluationError, match=message):
        complete_card(bundle, out)
    assert card(bundle) == before


def test_an_evaluation_of_other_weights_is_refused(bundle: Path, tmp_path: Path) -> None:
    out = evaluated(tmp_path / "out", bundle, bundle_sha256="0" * 64)
    with pytest.raises(EvaluationError, match=r"not an evaluation of .* as it is now"):
        complete_card(bundle, out)


def test_a_readme_of_other_hands_stays(bundle: Path, tmp_path: Path) -> None:
    (bundle / "README.md").write_text("mine")
    saved(bundle)
    assert card(bundle) == "mine"
    with pytest.raises(BundleError, match="not a card that this program made"):
        complete_card(bundle, evaluated(tmp_path / "out", bundle))
    assert card(bundle) == "mine"


def test_the_command_completes_a_card_and_writes_it_anew(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = evaluated(tmp_path / "out", bundle)
    for options, said in ((["--evaluation", str(out), "--pictures", "0"], "mAP **62.5**"),
                          ([], "Not measured yet")):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            run_tool(main, [str(bundle), *options])
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith(f"wrote {bundle}/: README.md")
        assert said in card(bundle)


def test_the_shipped_bundle_has_its_card_with_measurements_and_licences() -> None:
    text, manifest = card(SHIPPED), read_manifest(SHIPPED)
    plain = text.replace("\\", "")
    about = manifest.provenance
    for fact in (*manifest.classes, about.training_data, about.licence, about.started_from):
        assert fact in plain
    assert "195 images of voc2012_sample/val" in plain
    assert all((SHIPPED / name).is_file() for name in re.findall(r"\]\(([^)]+)\)", text))
