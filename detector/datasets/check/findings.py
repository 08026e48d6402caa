"""Findings of the linter: each names the file, the entry in it, and the rule it breaks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from detector.datasets.check.rules import RULES, Rule
from detector.datasets.dataset import MOST_WHY
from detector.datasets.formats.names import plain
from detector.errors import cut


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: `file` relative to the data set, `id` as in the file, `why` with numbers."""

    file: str
    id: str
    rule: str
    why: str

    @property
    def is_defect(self) -> bool:
        return RULES[self.rule].level == "defect"

    def describe(self) -> dict[str, str]:
        rule = RULES[self.rule]
        return {
            "file": self.file,
            "id": self.id,
            "rule": self.rule,
            "level": rule.level,
            "why": self.why,
            "cure": rule.cure,
        }


@dataclass
class Findings:
    """Collector of findings; paths under `root` are shown relative to it."""

    root: Path
    entries: list[Finding] = field(default_factory=list)

    def add(self, file: Path | str, identifier: object, rule: str, why: str) -> None:
        assert rule in RULES, rule
        shown = self.shown(file) if isinstance(file, Path) else file
        said = plain(cut(str(identifier), MOST_WHY)), rule, plain(cut(why, MOST_WHY))
        self.entries.append(Finding(plain(shown), *said))

    def shown(self, path: Path) -> str:
        return (
            path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        )

    def by_rule(self) -> list[tuple[str, Rule, int]]:
        """Counts by rule: (name, rule, count), in the order of the table."""
        times = Counter(finding.rule for finding in self.entries)
        return [(name, rule, times[name]) for name, rule in RULES.items() if times[name]]
