"""Arithmetic between steps: `(smooth > cut) & ~(input > 4000)`.

The text is parsed with Python's grammar and never run as Python: only names of steps, numbers, parentheses and the
operators in the tables below come through; they are applied to the lazy images one by one, so the result is the same as
that of the expression typed in a notebook.
"""

from __future__ import annotations

import ast
import math
import operator
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from bigbia.errors import BigbiaWarning, ParameterError

LENGTH = 1000
POWER = 16

_BINARY: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_UNARY: dict[type, Callable] = {ast.Invert: operator.invert, ast.USub: operator.neg, ast.UAdd: operator.pos}
_COMPARE: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ALLOWED = "allowed are names of steps, numbers, + - * / // % **, comparisons, & | ~ and parentheses"
_REFUSED: dict[type, str] = {
    ast.Call: "functions cannot be called here: make the call a step of its own, {op: ..., ...}",
    ast.Attribute: "attributes (a dot) are not part of an expression; an operator is a step of its own, {op: ..., ...}",
    ast.Subscript: "indexing [...] is not part of an expression; cut the input with --region",
    ast.BoolOp: "'and' and 'or' do not work on images: write & and |, each comparison in parentheses",
    ast.Not: "'not' does not work on images: write ~",
    ast.BitXor: "^ is not part of an expression: write (a | b) & ~(a & b), or ** for a power",
}


@dataclass(frozen=True)
class Expression:
    """A checked expression: its text, its syntax tree and the steps it names."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]

    def evaluate(self, steps: Mapping[str, Any]) -> Any:
        """The expression's value, lazily, given what its names stand for."""
        with _strict_alignment():
            try:
                return _value(self.tree, steps, self.text)
            except RecursionError:
                raise ParameterError("has too many nested parts: split it into steps") from None
            except ArithmeticError as error:  # between numbers: images are divided lazily
                reason = error.args[-1] if error.args else type(error).__name__
                way_out = (
                    "1.0 * IMAGE makes it floating point" if "out of bounds" in str(reason) else "write the number out"
                )
                raise ParameterError(f"{self.text!r} cannot be computed: {reason}: {way_out}") from None


def parse(text: str | int | float) -> Expression:
    """Read an expression; ParameterError says which part is refused and what to write instead."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ParameterError(f"{text!r} is not an expression: write for instance smooth > cut")
    text = " ".join(str(text).split())
    if not text:
        raise ParameterError("is empty: write an expression (smooth > cut) or {op: ..., ...}")
    if len(text) > LENGTH:
        raise ParameterError(f"is longer than {LENGTH} characters: split it into steps")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ParameterError(f"{text!r} is not an expression: {_ALLOWED}") from None
    names: dict[str, None] = {}
    try:
        _check(tree, text, names)
    except RecursionError:
        raise ParameterError("has too many nested parts: split it into steps") from None
    return Expression(text, tree, tuple(names))


def _check(node: ast.expr, text: str, names: dict[str, None]) -> None:
    match node:
        case ast.Name(id=name):
            names[name] = None
        case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
            if value == math.inf:
                raise ParameterError(
                    f"{ast.get_source_segment(text, node) or text!r} is too large a number: write it out"
                )
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            _check(operand, text, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left, text, names)
            _check(right, text, names)
            if isinstance(op, ast.Pow):
                _check_power(left, right)
            elif (
                isinstance(op, ast.Div | ast.FloorDiv | ast.Mod) and isinstance(right, ast.Constant) and not right.value
            ):
                # NumPy would make 0 of whole numbers, and infinity of the others, without stopping.
                raise ParameterError(f"{text!r} divides by zero: give another number")
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            _check_comparison(node, text)
            for part, comparison in zip([left, *comparators], [None, *ops]):
                if comparison is not None and type(comparison) not in _COMPARE:
                    raise ParameterError(f"'in' and 'is' do not work on images: {_ALLOWED}")
                _check(part, text, names)
        case _:
            kind = type(node.op) if isinstance(node, ast.UnaryOp | ast.BinOp) else type(node)
            source = ast.get_source_segment(text, node) or text
            raise ParameterError(f"{source!r} is refused: {_REFUSED.get(kind, _ALLOWED)}")


def _check_power(base: ast.expr, exponent: ast.expr) -> None:
    """Whole numbers have no upper bound in Python: a tower of powers would fill the memory before any image is read."""
    sign = exponent.operand if isinstance(exponent, ast.UnaryOp) else exponent
    value = sign.value if isinstance(sign, ast.Constant) else None
    if not isinstance(value, int | float) or not 0 <= value <= POWER:
        raise ParameterError(f"a power must be a number between -{POWER} and {POWER}")
    if not isinstance(base, ast.Constant) and not any(isinstance(n, ast.Name) for n in ast.walk(base)):
        raise ParameterError("a power of a power of numbers is refused: write the number out")


def _check_comparison(node: ast.Compare, text: str) -> None:
    """`a > b & c` means `a > (b & c)` and `a > b & c > d` a chain: neither is what the writer had in mind."""
    left, right = node.left, node.comparators[0]
    bare_left = _is_logic(left) and left.col_offset == node.col_offset
    between = text.encode()[left.end_col_offset : right.col_offset].decode()
    bare_right = _is_logic(right) and "(" not in between
    if bare_left or bare_right or any(_is_logic(c) for c in node.comparators if len(node.comparators) > 1):
        raise ParameterError(
            "& and | bind more tightly than > and <: put each comparison in parentheses, (a > b) & (c > d)"
        )
    if len(node.ops) > 1:
        raise ParameterError(f"{text!r} chains comparisons: write (a < b) & (b < c)")


def _is_logic(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr)


def _value(node: ast.expr, steps: Mapping[str, Any], text: str) -> Any:
    match node:
        case ast.Name(id=name):
            return steps[name]
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=op, operand=operand):
            part = _value(operand, steps, text)
            result = _UNARY[type(op)](part)
        case ast.BinOp(left=left, op=op, right=right):
            result = _BINARY[type(op)](_value(left, steps, text), _value(right, steps, text))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARE[type(op)](_value(left, steps, text), _value(right, steps, text))
        case _:
            raise AssertionError(f"not checked: {ast.dump(node)}")
    _note_wrap(op, result, text)
    return result


def _note_wrap(op: ast.operator | ast.unaryop, result: Any, text: str) -> None:
    """Say where whole numbers can pass their range: NumPy wraps them without a word."""
    dtype = getattr(result, "dtype", None)
    if dtype is None or dtype.kind not in "ui" or not isinstance(op, ast.Add | ast.Sub | ast.Mult | ast.Pow | ast.USub):
        return
    below = dtype.kind == "u" and isinstance(op, ast.Sub | ast.USub)
    if below or dtype.itemsize <= 2:
        warnings.warn(
            f"{text!r} is computed in {dtype} and wraps round past its range; 1.0 * IMAGE makes it floating point",
            BigbiaWarning,
            stacklevel=4,
        )


def _strict_alignment() -> Any:
    """xarray joins images of different coordinates to their common part; here that is an error."""
    xarray = sys.modules.get("xarray")
    return xarray.set_options(arithmetic_join="exact") if xarray else nullcontext()
