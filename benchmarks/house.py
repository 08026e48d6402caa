"""Measure the code base: `python benchmarks/house.py [ROOT]` prints one JSON object.

lines             of the package, commands, experiments and benchmarks; and of the tests
top_modules       modules at the top of `detector/`, without dunder files
import_chain      modules in the longest chain of module-level imports from the detector
dialect_percent   share of identifiers that are words of the private dialect
comment_percent   share of the package's lines that have a comment
riddles           docstrings that begin with What, Whether, Of or How
most_options      the command with the most arguments and options
readme_words      words of README.md
"""

import ast
import io
import json
import keyword
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

DIALECT = {"one", "found", "own", "kept", "told", "made", "place", "seen", "given"}
START = "detector.detection.detector"


def measure(root: Path) -> dict[str, Any]:
    """Measure the working tree at `root`."""
    package = _sources(root / "detector")
    others = [_sources(root / name) for name in ("tools", "experiments", "benchmarks")]
    lines = sum(_lines(path) for path in package)
    tokens = [token for path in package for token in _tokens(path)]
    names = [
        token.string
        for token in tokens
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    ]
    comments = sum(token.type == tokenize.COMMENT for token in tokens)
    return {
        "lines": lines + sum(_lines(path) for paths in others for path in paths),
        "test_lines": sum(_lines(path) for path in _sources(root / "tests")),
        "top_modules": len([p for p in (root / "detector").glob("*.py") if p.name[0] != "_"]),
        "import_chain": _longest_chain(root),
        "dialect_percent": round(100 * sum(name in DIALECT for name in names) / len(names), 2),
        "comment_percent": round(100 * comments / lines, 2),
        "riddles": sum(_riddles(path) for path in package),
        "most_options": max(_options(root), key=lambda item: item[1]),
        "readme_words": len((root / "README.md").read_text().split()),
    }


def _sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _tokens(path: Path) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(path.read_text()).readline))


def _riddles(path: Path) -> int:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    texts = [ast.get_docstring(node) or "" for node in nodes]
    return sum(text.split(" ")[0] in ("What", "Whether", "Of", "How") for text in texts)


def _options(root: Path) -> Iterator[tuple[str, int]]:
    """Yield each command's function, and the number of its arguments and options."""
    for path in _sources(root / "detector" / "cli"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                parameters = [*node.args.args, *node.args.kwonlyargs]
                # typer passes the context itself.
                names = [one.arg for one in parameters if one.arg != "context"]
                if "typer.Option" in ast.unparse(node.args) or "option." in ast.unparse(node.args):
                    yield f"{path.stem}.{node.name}", len(names)


def _longest_chain(root: Path) -> int:
    def file_of(name: str) -> Path | None:
        base = root.joinpath(*name.split("."))
        files = (base.with_suffix(".py"), base / "__init__.py")
        return next((path for path in files if path.is_file()), None)

    @cache
    def length(name: str) -> int:
        path = file_of(name)
        if path is None:
            return 0
        # Of the module's own level: blocks for type checkers and late imports do not count.
        imports = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)
        ]
        used = {
            part
            for node in imports
            if (node.module or "").startswith("detector.")
            for part in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            if part != name and file_of(part or "") is not None
        }
        return 1 + max((length(part) for part in used if part), default=0)

    return length(START)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1] if len(sys.argv) > 1 else ".")), indent=1))
