"""The faults that are tried: each is small, compiles, and leaves alone what no test should see."""

from __future__ import annotations

import pytest
from mutants import Mutant, mutants_of


def texts(source: str) -> set[str]:
    """What becomes of the file, over all faults."""
    data = source.encode()
    return {one.applied(data).decode() for one in mutants_of(data)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"(a <= b)", "(a >= b)"}),
        ("a == b", {"(a != b)"}),
        ("a < b < c", {"(a <= b < c)", "(a >= b < c)", "(a < b <= c)", "(a < b >= c)"}),
        ("a - b", {"(a + b)"}),
        ("(a - b) * c", {"((a - b) / c)", "((a + b)) * c"}),
        ("a and b", {"(a or b)"}),
        ("not a", {"(a)"}),
        ("f(a, k=b)", {"(f(a))", "pass"}),
        ("x = 3", {"x = 4"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = True", {"x = False"}),
        ("x = 'left'", {"x = 'right'"}),
        ("x = 'é', a < b", {"x = 'other é', a < b", "x = 'é', (a <= b)", "x = 'é', (a >= b)"}),
        ("x = y if a else b", {"x = y if (not (a)) else b"}),
        ("x += y", {"pass", "x -= y"}),
        ("x[i] = y", {"pass"}),
        ("x = y.max()", {"x = (y.min)()"}),
    ],
)
def test_faults_by_hand(source: str, expected: set[str]) -> None:
    assert texts(source) == expected


def test_statements_change_in_their_place() -> None:
    source = "def f(a):\n    for b in a:\n        if b:\n            continue\n    return a\n"
    assert texts(source) == {
        source.replace("continue", "break"),
        source.replace("continue", "pass"),
        source.replace("if b", "if (not (b))"),
        source.replace("return a", "return None"),
    }


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "import a.b",
        "__all__ = ['a']",
        "x: int | None",
        "def f(a: int | None) -> Literal[1]: ...",
        "@dataclass(frozen=True)\nclass C: ...",
        "f'{a + 1}'",
        "x = Literal['a', 'b']",
        "x = zip(a, b, strict=True)",
        "def f(): return None",
        "try: x\nexcept E:\n    raise",
    ],
)
def test_what_no_test_should_see_is_left_alone(source: str) -> None:
    assert mutants_of(source.encode()) == [] or texts(source) == {"pass"}


def test_an_error_may_go_as_a_whole_but_keeps_its_words() -> None:
    assert texts("raise E('expected 3', 3)") == {"pass"}


def test_a_fault_says_where_it_is() -> None:
    assert mutants_of(b"x = 1\ny = 2\n") == [
        Mutant("constant", 1, 4, 5, "2"),
        Mutant("constant", 2, 10, 11, "3"),
    ]


def test_what_does_not_compile_is_no_fault() -> None:
    """`del x[0]` may go; a number in place of a name to be deleted may not."""
    assert texts("del x[0]") == {"pass", "del x[1]"}
