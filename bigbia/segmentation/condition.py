"""Conditions on the rows of a table: `area > 50 and extent > 0.3`.

The text is parsed with Python's grammar and never run as Python: only names of columns, numbers, parentheses and the
operators in the tables below come through. Columns are arrays, one value a row; arithmetic is done in float64, a
comparison of whole numbers as they are; a comparison with NaN is false (`!=`: true).
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia.errors import ParameterError, nearest
from bigbia.graph.footprints import brief

LENGTH = 1000
DEPTH = 100  # of parts within each other: they are read and evaluated by recursion

_ARITHMETIC: dict[type, Callable] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_COMPARE: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_BY_NAME = {kind.__name__: function for kind, function in {**_ARITHMETIC, **_COMPARE}.items()}
_ALLOWED = "allowed are columns, numbers, + - * / **, comparisons, and, or, not, & | ~ and parentheses"
_REFUSED: dict[type, str] = {
    ast.Call: "functions cannot be called here; add a column to the table instead",
    ast.Attribute: "a dot is not part of a name: write the column in backquotes, `a.b`",
    ast.Subscript: "indexing [...] is not part of a condition",
    ast.BitXor: "^ is not part of a condition; a power is **",
}
_BINDS = "& and | bind more tightly than > and <: write and, or, or put each comparison in parentheses"

Tree = tuple  # ("column", name), ("number", value), (operation, part, ...)


@dataclass(frozen=True)
class Condition:
    """A checked condition: its text, its tree, and the columns it names."""

    text: str
    tree: Tree
    columns: tuple[str, ...]

    def check(self, known: Iterable[str]) -> None:
        """That a table with such columns has those it needs."""
        known = [str(k) for k in known]
        for name in self.columns:
            if name not in known:
                hint = nearest(name, known)
                quoted = re.fullmatch(r"did you mean '(.*)'\?", hint)
                if quoted and not quoted[1].isidentifier():
                    hint = f"did you mean `{quoted[1]}`, in backquotes?"
                raise ParameterError(f"condition={self.text!r}: the table has no column {name!r}; {hint}")

    def evaluate(self, columns: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """Which of `count` rows meet it."""
        with np.errstate(all="ignore"):  # a / 0 is infinite or NaN, as in a table
            return np.broadcast_to(self._logic(self.tree, columns), (count,)).astype(bool)

    def _logic(self, tree: Tree, columns: Mapping[str, np.ndarray]) -> Any:
        what, *parts = tree
        if what == "column":
            if columns[parts[0]].dtype != bool:
                raise ParameterError(f"condition={self.text!r}: column {parts[0]!r} is a number: compare it with one")
            return columns[parts[0]]
        if what == "not":
            return np.logical_not(self._logic(parts[0], columns))
        if what in ("and", "or"):
            join = np.logical_and if what == "and" else np.logical_or
            return join.reduce(np.broadcast_arrays(*(self._logic(p, columns) for p in parts)))
        names, terms = parts
        values = [self._number(t, columns) for t in terms]
        found = [np.asarray(_BY_NAME[n](a, b)) for n, a, b in zip(names, values, values[1:])]
        return np.logical_and.reduce(np.broadcast_arrays(*found))

    def _number(self, tree: Tree, columns: Mapping[str, np.ndarray]) -> Any:
        what, *parts = tree
        if what == "column":
            if columns[parts[0]].dtype.kind not in "biuf":
                raise ParameterError(f"condition={self.text!r}: column {parts[0]!r} holds no numbers")
            return columns[parts[0]]
        if what == "number":
            return parts[0]
        values = [np.asarray(self._number(p, columns), np.float64) for p in parts]
        return np.negative(values[0]) if what == "negative" else _BY_NAME[what](*values)


def parse(text: str) -> Condition:
    """Read a condition; ParameterError says which part is refused and what to write instead."""
    if not isinstance(text, str):
        raise ParameterError(f"condition={brief(text)} is no text: write for instance 'area > 50'")
    shown = " ".join(text.split())
    if not shown:
        raise ParameterError("condition='' is empty: write for instance 'area > 50', or leave it out")
    if len(shown) > LENGTH:
        raise ParameterError(f"condition: is longer than {LENGTH} characters: filter in several steps")
    return _Reader(shown).condition()


class _Reader:
    """From text to a tree. A name in backquotes stands in the parsed text as another one, of the same length."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.quoted: dict[str, str] = {}
        self.columns: dict[str, None] = {}
        self.plain = re.sub(r"`([^`]+)`", self._placeholder, text)
        if "`" in self.plain:
            raise ParameterError(f"condition={text!r}: a backquote has no partner, or nothing in it: `column name`")

    def _placeholder(self, match: re.Match) -> str:
        number = len(self.quoted)
        while True:
            name = f"_{number}".ljust(len(match[0]), "_")
            if name not in self.quoted and name not in self.text:
                self.quoted[name] = match[1]
                return f" {name} "
            number += 1

    def condition(self) -> Condition:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                node = ast.parse(self.plain.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ParameterError(f"condition={self.text!r} cannot be read: {_ALLOWED}") from None
        if _depth(node) > DEPTH:
            raise ParameterError(
                f"condition={self.text!r} has too many parts within each other: filter in several steps"
            )
        tree = self.logic(node)
        if not self.columns:
            raise ParameterError(f"condition={self.text!r} names no column: write for instance 'area > 50'")
        return Condition(self.text, tree, tuple(self.columns))

    def refuse(self, node: ast.expr, reason: str) -> ParameterError:
        part = ast.get_source_segment(self.plain.strip(), node) or self.plain
        for name, column in self.quoted.items():
            part = part.replace(name, f"`{column}`")
        return ParameterError(f"condition={self.text!r}: {' '.join(part.split())!r} is refused: {reason}")

    def logic(self, node: ast.expr, why: str = "it is no comparison: write for instance area > 50") -> Tree:
        """Something that is true or false of a row."""
        match node:
            case ast.Name():
                return self.column(node)
            case ast.BoolOp(op=op, values=values):
                return ("and" if isinstance(op, ast.And) else "or", *(self.logic(v) for v in values))
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as op, right=right):
                both = (self.logic(left, _BINDS), self.logic(right, _BINDS))
                return ("and" if isinstance(op, ast.BitAnd) else "or", *both)
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ("not", self.logic(operand))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                if any(type(o) not in _COMPARE for o in ops):
                    raise self.refuse(node, f"'in' and 'is' do not work on columns; {_ALLOWED}")
                return ("compare", tuple(type(o).__name__ for o in ops), tuple(map(self.number, [left, *comparators])))
            case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
                raise self.refuse(node, why)
            case ast.Constant(value=int() | float()) | ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                raise self.refuse(node, why)
        raise self.refuse(node, self.reason(node))

    def number(self, node: ast.expr) -> Tree:
        """Something that has a value in a row."""
        match node:
            case ast.Name():
                return self.column(node)
            case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
                if isinstance(value, int) and value.bit_length() > 64:
                    raise self.refuse(node, "no label or measurement is that large")
                return ("number", value)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return (type(op).__name__, self.number(left), self.number(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                part = self.number(operand)
                return ("number", -part[1]) if part[0] == "number" else ("negative", part)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.number(operand)
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                raise self.refuse(node, _BINDS)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not() | ast.Invert()):
                raise self.refuse(
                    node, "true and false are no numbers; a column of them stands alone, `column` or not `column`"
                )
            case ast.Constant(value=bool()):
                raise self.refuse(node, "a column of true and false stands alone, `column` or not `column`")
            case ast.Constant(value=str()):
                raise self.refuse(node, "text cannot be compared; a column with other characters goes in backquotes")
        raise self.refuse(node, self.reason(node))

    def reason(self, node: ast.expr) -> str:
        kind = type(node.op) if isinstance(node, ast.BinOp) else type(node)
        return _REFUSED.get(kind, _ALLOWED)

    def column(self, node: ast.Name) -> Tree:
        name = self.quoted.get(node.id, node.id)
        self.columns[name] = None
        return ("column", name)


def _depth(node: ast.AST) -> int:
    level, depth = [node], 0
    while level:
        level = [child for n in level for child in ast.iter_child_nodes(n)]
        depth += 1
    return depth
