"""One reader of YAML: what is a number, what is text, and what a hostile file may cost."""

import os
import re
from pathlib import Path

import pytest
import yaml

from detector import safe_yaml
from detector.datasets import read_dataset, read_yolo
from detector.datasets.check import lint
from detector.errors import AnnotationError, SettingsError, brief
from detector.proposals.engines import parse_engine
from detector.safe_yaml import YamlError, dump_yaml, load_yaml
from detector.settings import Settings, load_config, save_config, validate

ROOT = Path(__file__).resolve().parents[1]


def bomb(levels: int = 30) -> str:
    """Nine of what is nine of what is ... of 30 levels: 4e28 letters in under a kilobyte."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines) + f"\nnames: *a{levels - 1}\ntrain: images\n"


def merging_bomb() -> str:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 30):
        lines.append(f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[on, off, yes, no, y, N, On]", ["on", "off", "yes", "no", "y", "N", "On"]),
        ("[true, True, FALSE]", [True, True, False]),
        ("[007, 0x1f, 0o7, 1_000, 12:30]", ["007", "0x1f", "0o7", "1_000", "12:30"]),
        ("[2024-01-01, =, 1.2.3]", ["2024-01-01", "=", "1.2.3"]),
        ("[0, -3, +7, 1e-4, .5, 2., -1.5E3]", [0, -3, 7, 1e-4, 0.5, 2.0, -1500.0]),
        ("[~, null, Null, ]", [None, None, None]),
        ("['1', \"true\", !!str 3]", ["1", "true", "3"]),
        ("{a: &a {x: 1, y: 2}, b: {<<: *a, x: 3}}",
         {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}),
        ("", None),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
        ("a: \u00e9".encode("utf-16"), {"a": "\u00e9"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("libyaml", [True, False])
def test_plain_values_are_those_of_yaml_1_2(
    text: str | bytes, value: object, libyaml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not libyaml:
        monkeypatch.setattr(safe_yaml, "_Loader", safe_yaml._loader_on(safe_yaml._PurePython))
    found = load_yaml(text)
    assert found == value
    assert repr(found) == repr(value)  # True is not 1


@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        (bomb(), "too-large", "aliases repeat"),
        (merging_bomb(), "too-large", "aliases repeat"),
        ("a: &a " + "x" * 500_000 + "\nb: [" + "*a," * 9 + "]", "too-large", "aliases repeat"),
        ("a: &a [*a]", "unreadable", "line 1: an alias stands inside itself"),
        ("[" * 40, "too-deep", "over 32 levels"),
        ("[" * 20_000, "too-deep", "depth"),
        ("{a: " * 5_000, "too-deep", "over 32 levels"),
        ("- " * 100_000, "too-deep", "over 32 levels"),
        ("? " * 100_000, "too-deep", "over 32 levels"),
        ("x" * 1_000_001, "too-large", "1.0 MB is over the limit"),
        ("a: 1\nb: 2\na: 3", "unreadable", "line 3: 'a' is given twice"),
        ("{'a': 1, a: 2}", "unreadable", "'a' is given twice"),
        (("? " + "k" * 9_000 + "\n: 1\n") * 2, "unreadable", "is given twice"),
        ("? [a]\n: 1", "unreadable", "a list or mapping as a key"),
        ('"\\ud800"', "not-utf8", "Unicode"),
        ("a\udc80", "not-utf8", "half of a surrogate pair"),
        (b"\xff", "not-utf8", "byte 0 is not UTF-8"),
        ("a: " + "9" * 5000, "unreadable", "4300 digits"),
        ("!!python/object/apply:os.system [x]", "unreadable", "constructor"),
        ("!" + "x" * 100_000 + " a", "unreadable", "xxx..."),
        ("*" + "x" * 100_000, "unreadable", "undefined alias"),
        ("a: 1\n--- \nb: 2", "unreadable", "another document"),
        ("\0", "unreadable", ""),
    ],
)
def test_what_is_refused_is_refused_in_one_short_line(
    text: str | bytes, rule: str, words: str
) -> None:
    with pytest.raises(YamlError) as refused:
        load_yaml(text)
    assert refused.value.rule == rule
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


def test_a_surrogate_is_refused_without_libyaml_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_yaml, "_Loader", safe_yaml._loader_on(safe_yaml._PurePython))
    with pytest.raises(YamlError, match="surrogate"):
        load_yaml('names: ["\\ud800"]')


def test_every_door_for_yaml_has_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(bomb())
    with pytest.raises(AnnotationError, match="aliases repeat") as refused:
        read_yolo(path)
    assert refused.value.rule == "too-large"
    with pytest.raises(AnnotationError, match="aliases repeat"):
        read_dataset(path)
    assert [one.rule for one in lint(path).findings] == ["too-large"]
    with pytest.raises(SettingsError, match="aliases repeat"):
        load_config(path)
    with pytest.raises(SettingsError, match="over 32 levels"):
        load_config(None, ["data=" + "[" * 40])
    with pytest.raises(SettingsError, match="over 32 levels"):
        parse_engine("selective-search:preset=" + "[" * 40)


def test_no_other_yaml_loader_is_in_use() -> None:
    files = (*(ROOT / "detector").rglob("*.py"), *(ROOT / "tools").rglob("*.py"))
    using = re.compile(r"^\s*(?:import|from) yaml\b", re.MULTILINE)
    found = {path.name for path in files if using.search(path.read_text(encoding="utf-8"))}
    assert found == {"safe_yaml.py"}


class _Named(Settings):
    name: str
    sure: bool = False


@pytest.mark.parametrize("name", ["1e5", "on", "007", "1_000", "null", "2024-01-01", "=", "a: b"])
def test_what_is_saved_is_read_back_as_the_same_text(tmp_path: Path, name: str) -> None:
    assert load_yaml(dump_yaml([name])) == yaml.safe_load(dump_yaml([name])) == [name]
    save_config(tmp_path / "c.yaml", _Named(name=name))
    assert validate(_Named, load_config(tmp_path / "c.yaml"), "c") == _Named(name=name)


def test_the_words_of_yaml_1_1_still_switch_a_setting() -> None:
    for word, value in (("on", True), ("no", False), ("true", True), ("off", False)):
        assert validate(_Named, load_config(None, ["name=a", f"sure={word}"]), "s").sure is value


def test_a_message_never_holds_a_whole_value() -> None:
    for tree in ({"name": ["x" * 10**6] * 1000}, {"name": "a", "z" * 10**6: 1}):
        with pytest.raises(SettingsError) as refused:
            validate(_Named, tree, "config.yaml")
        assert len(str(refused.value)) < 500
    with pytest.raises(SettingsError) as refused:
        load_config(None, ["x" * 10**5])
    assert len(str(refused.value)) < 200
    assert len(brief({"a": [["x" * 10**6] * 10**4] * 100})) <= 160
    assert brief(10**5000) == "a number of thousands of digits"


def test_a_pipe_may_be_a_configuration(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"a: {b: 1}")
    os.close(write)
    assert load_config(f"/dev/fd/{read}") == {"a": {"b": 1}}
    os.close(read)
