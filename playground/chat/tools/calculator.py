"""Computes an arithmetic expression that a model wrote: numbers and operators, no names, no calls."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Final

_OPERATORS: Final[dict[type, Callable[..., float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_LONGEST_EXPRESSION: Final = 200  # characters
_LARGEST: Final = 1e15  # of a base and of a power's result
_LARGEST_EXPONENT: Final = 64


def calculate(expression: str) -> float:
    """The value of an arithmetic expression. Raises ValueError, and what arithmetic raises, such as ZeroDivisionError.

    >>> calculate("(3 + 4) * 2.5")
    17.5
    """
    if len(expression) > _LONGEST_EXPRESSION:
        raise ValueError("the expression is too long")
    return _value_of(ast.parse(expression.replace("^", "**").replace("×", "*").replace(",", ""), mode="eval").body)


def _value_of(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, exponent = _value_of(node.left), _value_of(node.right)
        if abs(base) > _LARGEST or abs(exponent) > _LARGEST_EXPONENT:
            raise ValueError("the power is too large")
        return float(base**exponent) if isinstance(base, float) or exponent < 0 else base**exponent
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value_of(node.left), _value_of(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value_of(node.operand))
    raise ValueError("only numbers, + - * / ** and parentheses are allowed")
