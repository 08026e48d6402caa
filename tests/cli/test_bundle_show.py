"""`bundle show` and `models`: what a detector holds, and what can be trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.detection.bundle import MANIFEST, read_manifest
from detector.detection.load import SHIPPED
from detector.models import ARCHITECTURES, build_model
from detector.models.traits import TRAITS

Run = Callable[..., tuple[Any, str, str]]


def test_the_shipped_bundle_in_words(command: Run) -> None:
    code, out, _ = command("bundle show")
    assert code == 0
    first, *lines = out.splitlines()
    rows = {line[:13].strip(): line[14:] for line in lines}
    manifest = read_manifest(SHIPPED)
    assert first == str(SHIPPED)
    assert rows["classes"].startswith("20: aeroplane, bicycle, ")
    assert [name for name in rows if name.startswith("member ")] == [
        f"member {i}" for i in range(len(manifest.members))
    ]
    assert rows["member 0"] == "googlenet 224, 12.0 MB float16, int8 ranges, + regression"
    assert rows["proposals"] == "selective-search, ranking learned"
    assert rows["thresholds"].startswith("score 0.4, nms 0.3, voting 0.5")
    assert rows["thresholds"].endswith(", regression")
    assert "svm" not in rows["thresholds"]
    assert rows["licence"] == manifest.provenance.licence
    said = dict(one.split(" ") for one in rows["metrics"].split(", "))
    assert {name: float(one) for name, one in said.items()} == pytest.approx(manifest.metrics)


def _changed(tmp_path: Path, **changes: object) -> Path:
    """A folder of the shipped manifest with other values; its networks are not there."""
    manifest = json.loads((SHIPPED / MANIFEST).read_text())
    manifest.update(changes)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    return tmp_path


def test_what_a_bundle_lacks_is_not_spoken_of_and_what_it_has_is(
    tmp_path: Path, command: Run
) -> None:
    members = json.loads((SHIPPED / MANIFEST).read_text())["members"]
    members = [{**members[0], "temperature": 1.5, "activation_ranges": {}}, members[1]]
    members[1]["trunk"] = {"member": 0, "after": "4e"}
    added = {"kind": "class", "name": "mug", "file": "mug.safetensors", "bytes": 4_000_000}
    folder = _changed(
        tmp_path, members=members, classes=["cat", "mug"], heads=[added], prior=None, metrics={},
        thresholds={"svm": False}, proposals={},
        provenance={"training_data": "a\x1b[31m", "licence": "CC0", "unfinished": "step 3 of 9",
                    "pictures": ["ab", "cd"]},
    )  # fmt: skip
    code, out, _ = command("bundle show", folder)
    assert code == 0
    rows = {line[:13].strip(): line[14:] for line in out.splitlines()[1:]}
    assert rows["classes"] == "2: cat, mug"
    assert rows["member 0"] == "googlenet 224, 12.0 MB float16, temperature 1.5, + mug"
    assert "layers up to 4e of member 0" in rows["member 1"]
    assert rows["size"] == "28.0 MB"
    assert rows["unfinished"] == "stopped at step 3 of 9"
    assert rows["pictures"].startswith("2 ")
    assert rows["started from"] == "random initialisation"
    assert "\x1b" not in rows["trained on"]
    assert not {"size prior", "proposals", "metrics"} & rows.keys()


def test_as_json_it_is_the_manifest(command: Run) -> None:
    code, out, _ = command("bundle show", SHIPPED, "--json")
    assert code == 0
    assert json.loads(out) == read_manifest(SHIPPED).model_dump(mode="json", by_alias=True)


@pytest.mark.parametrize("text", [None, "{", '{"classes": []}'])
def test_a_folder_that_is_no_bundle(text: str | None, tmp_path: Path, command: Run) -> None:
    if text is not None:
        (tmp_path / MANIFEST).write_text(text)
    code, _, error = command("bundle show", tmp_path)
    assert code in (2, 3)
    assert error.startswith(f"error: {tmp_path}")
    assert len(error.splitlines()) <= 3


def test_every_architecture_has_a_row(command: Run) -> None:
    rows = {row["architecture"]: row for row in json.loads(command("models", "--json")[1])}
    assert rows.keys() == ARCHITECTURES.keys()
    assert (rows["inception_v3"]["input_size"], rows["inception_v3"]["least_input_size"]) == (
        299,
        75,
    )
    # Of the networks' publications and torchvision's pages.
    assert rows["alexnet"]["parameters"] == 61_100_840
    assert rows["vgg16"]["parameters"] == 138_357_544
    assert rows["torchvision_googlenet"]["parameters"] == 6_624_904
    assert all(rows[name]["input_size"] == traits.side for name, traits in TRAITS.items())


def test_the_table_counts_for_the_classes_that_are_asked_for(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.models.ARCHITECTURES", {"nin": ARCHITECTURES["nin"]})
    words = command("models", "--classes", 21)[1].splitlines()[1].split()
    really = sum(one.numel() for one in build_model("nin", 21).parameters())
    assert words == ["nin", "224", "40", f"{really:,}"]
