"""The manual is true: the tests that docs/trust.md names, commands and links exist."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import typer

from detector.cli.main import COMMANDS, Command

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


def test_the_table_of_commands_names_each_with_its_help_and_every_script_of_a_clone():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip("` ") for cell in line.split("|")[1:-1]]
        for line in page.splitlines()
        if line.startswith("| `")
    ]
    assert [(name, text) for name, text, _ in rows] == [
        (" ".join(words), command.help) for words, command in every_command(COMMANDS)
    ]
    scripts = {script.split()[0] for _, _, script in rows if script}
    assert scripts == {f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py")}


def test_every_command_in_the_manual_exists_with_the_options_that_it_is_given():
    options = {" ".join(words): options_of(command) for words, command in every_command(COMMANDS)}
    checked = 0
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"(?:inception-rcnn|-m detector) +([a-z][^`\n|#>]*)", text):
            words = re.findall(r"^[a-z0-9-]+(?: [a-z0-9]+)?", line)[0].split()
            name = words[0] if words[0] in options else " ".join(words)
            name = "fit classes" if name == "fit" else name
            assert name in options, (page.name, line)
            for option in re.findall(r"(?<!\S)--[a-z0-9-]+", line):
                assert option in options[name], (page.name, line, option)
                checked += 1
    assert checked > 200


def test_every_link_between_pages_leads_to_a_heading_that_exists():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
            file = (page.parent / target) if target else page
            assert file.exists(), (page.name, target)
            if heading:
                headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", h.lower())) for h in headings}
                assert heading in slugs, (page.name, target, heading)


def every_command(table: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[Any]:
    for name, command in table.items():
        if isinstance(command, dict):
            yield from every_command(command, (*before, name))
        else:
            yield (*before, name), command


def options_of(command: Command) -> set[str]:
    app = typer.Typer()
    app.command()(getattr(import_module(f"detector.cli.{command.module}"), command.function))
    parameters = typer.main.get_command(app).params
    written = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    for room in ("SETTINGS", "RUN"):  # whose names may be said as options, too
        settings = getattr(import_module(f"detector.cli.{command.module}"), room, None)
        if settings is not None:
            fields = resolve_name(settings).model_fields
            written |= {f"--{name.replace('_', '-')}" for name in fields}
    return written | {"--help", "--version", "--debug"}
