"""docs/trust.md names a test for every promise: each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_test_that_the_manual_names_exists():
    manual = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    section = manual.partition("## Every promise and its test")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) >= 20
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    names = {path.name for path in sources}
    for row in rows:
        for file in re.findall(r"`(?:tests/[\w/*]*?)?([\w*]+\.py)`", row.rpartition(" | ")[2]):
            assert file in names or "*" in file, file
        for test in re.findall(r"`(test_\w+)`", row):
            assert any(f"def {test}(" in source for source in sources.values()), test


def test_the_table_of_the_readme_names_every_tool_and_no_other():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Tools")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
