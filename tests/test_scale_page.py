"""docs/reference/scale.md: what it computes is what its figures give."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/scale.md"
_LINE = re.compile(r"^ {4}([\d,.x/+()\s-]+?)\s+= ([\d,.]+)", re.MULTILINE)
LINES = _LINE.findall(PAGE.read_text())
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def computed(node: ast.expr) -> float:
    match node:
        case ast.BinOp(left, operation, right):
            return OPERATORS[type(operation)](computed(left), computed(right))
        case ast.Constant(int() | float() as value):
            return value
    raise ValueError(ast.dump(node))


@pytest.mark.parametrize(("expression", "result"), LINES, ids=[expression for expression, _ in LINES])
def test_a_line_of_the_page_is_computed_right(expression: str, result: str) -> None:
    tree = ast.parse(expression.replace(",", "").replace("x", "*"), mode="eval")
    assert computed(tree.body) == pytest.approx(float(result.rstrip(".,").replace(",", "")), rel=0.02)


def test_the_page_computes_what_it_is_for() -> None:
    assert len(LINES) > 30
