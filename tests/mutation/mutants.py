"""Small faults for a Python file, each a piece of text in place of another.

Left alone, since no test should care: types, decorators, imports, docstrings, `__all__`, the words
of errors, formatted strings, and `strict` of zip.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_PAIRS = (
    ("min", "max"), ("any", "all"), ("argmin", "argmax"), ("minimum", "maximum"),
    ("zeros", "ones"),
)  # fmt: skip
NAMES = {a: b for one, other in _PAIRS for a, b in ((one, other), (other, one))}
"""Functions that are easily taken for each other."""
WORDS = {"left": "right", "right": "left"}
"""The same of texts (numpy's `side`); any other text gets a word before it."""
TYPES = ("Literal", "Callable", "Mapping", "Sequence", "list", "tuple", "dict", "set")


@dataclass(frozen=True)
class Mutant:
    """One fault: `text` in place of the bytes from `start` to `end` of a file."""

    kind: str
    line: int
    start: int
    end: int
    text: str

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


def mutants_of(source: bytes) -> list[Mutant]:
    """All faults of a file, in the order of the text, those left out that change nothing or do not
    compile.
    """
    lines = source.splitlines(keepends=True)
    starts = [sum(map(len, lines[:row])) for row in range(len(lines))]
    found: dict[Mutant, None] = {}
    for kind, node, text in _faults(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        end = starts[node.end_lineno - 1] + node.end_col_offset
        mutant = Mutant(kind, node.lineno, start, end, text)
        if _compiles(mutant.applied(source)):
            found[mutant] = None
    return sorted(found, key=lambda one: (one.start, one.end, one.kind, one.text))


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


Fault = tuple[str, ast.expr | ast.stmt, str]
"""What is done, the node in whose place it is put, and the text."""


def _faults(tree: ast.AST) -> Iterator[Fault]:
    for node in _visible(tree):
        if isinstance(node, ast.expr):
            yield from _of_expression(node)
        if isinstance(node, ast.stmt):
            yield from _of_statement(node)
        for test in _conditions(node):
            yield "condition negated", test, f"(not ({ast.unparse(test)}))"


def _visible(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it, but for what is left alone."""
    yield node
    if isinstance(node, ast.Raise):
        return  # it may go as a whole; its words are words
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _left_alone(child):
                yield from _visible(child)


def _left_alone(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Raise(exc=None):
            return True
        case ast.Expr(value=ast.Constant()):  # a docstring
            return True
        case ast.keyword(arg="strict") | ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.Subscript(value=ast.Name(id=name)):
            return name in TYPES
    return False


def _conditions(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        return [node.test]
    return node.ifs if isinstance(node, ast.comprehension) else []


def _of_expression(node: ast.expr) -> Iterator[Fault]:
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                for other in COMPARISONS[type(operator)]:
                    ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                    yield "comparison", node, _text(node, ops=ops)
        case ast.BinOp():
            yield "arithmetic", node, _text(node, op=ARITHMETIC[type(node.op)]())
        case ast.BoolOp():
            other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "boolean operator", node, _text(node, op=other_op)
        case ast.UnaryOp():
            yield "sign or not dropped", node, f"({ast.unparse(node.operand)})"
        case ast.Constant():
            yield from (("constant", node, text) for text in _other_constant(node.value))
        case ast.Call():
            yield from _of_call(node)
        case ast.Name(ctx=ast.Load()) if node.id in NAMES:
            yield "name", node, NAMES[node.id]
        case ast.Attribute() if node.attr in NAMES:
            yield "name", node, _text(node, attr=NAMES[node.attr])


def _of_call(node: ast.Call) -> Iterator[Fault]:
    for place, keyword in enumerate(node.keywords):
        if keyword.arg not in (None, "strict"):
            rest = [*node.keywords[:place], *node.keywords[place + 1 :]]
            yield "keyword dropped", node, _text(node, keywords=rest)


def _of_statement(node: ast.stmt) -> Iterator[Fault]:
    match node:
        case ast.Return(value=value) if value is not None:
            if not (isinstance(value, ast.Constant) and value.value is None):
                yield "return value", node, "return None"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Delete():
            yield "statement removed", node, "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement removed", node, "pass"
        case ast.Continue():
            yield "loop", node, "break"
            yield "statement removed", node, "pass"
        case ast.Break():
            yield "loop", node, "continue"
    if isinstance(node, ast.AugAssign):
        yield "arithmetic", node, ast.unparse(_changed(node, op=ARITHMETIC[type(node.op)]()))


def _other_constant(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield repr(not value)
    elif isinstance(value, int):
        yield repr(value + 1)
    elif isinstance(value, float):
        yield repr(value * 2 if value else 1.0)
    elif isinstance(value, str):
        yield repr(WORDS.get(value, f"other {value}"))


def _text(node: ast.expr, **changes: object) -> str:
    return f"({ast.unparse(_changed(node, **changes))})"


def _changed(node: ast.AST, **changes: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in changes.items():
        setattr(other, name, value)
    return other
