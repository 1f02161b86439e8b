"""A step of a pipeline that is being built: its name, and arithmetic with it as the text of an expression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bigbia.errors import ParameterError

_OF_NUMPY = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//", "remainder": "%"}
_OF_NUMPY |= {"bitwise_and": "&", "bitwise_or": "|", "less": "<", "less_equal": "<=", "greater": ">"}
_OF_NUMPY |= {"greater_equal": ">=", "equal": "==", "not_equal": "!="}


class Step:
    """A step, or an expression of steps: `smooth > cut` of two steps is an expression, `p.step("mask", smooth > cut)`
    makes a step of it."""

    def __init__(self, owner: Any, text: str, named: bool) -> None:
        self._owner, self._text, self._named = owner, text, named

    @property
    def text(self) -> str:
        """The name of the step, or the expression as it would stand in the file."""
        return self._text

    def __repr__(self) -> str:
        return f"<step {self._text}>" if self._named else f"<expression {self._text}>"

    def __bool__(self) -> bool:
        raise ParameterError(
            f"pipeline: {self._text!r} has no value yet, so it is neither true nor false: write & | ~ between steps, "
            "each comparison in parentheses"
        )

    def __iter__(self) -> Any:
        raise ParameterError(f"pipeline: {self._text!r} is one step: there is nothing to go through")

    __hash__ = object.__hash__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **words: Any) -> Step:
        """What a number of NumPy asks for in `np.float64(2) < step`; its functions have no step."""
        sign = _OF_NUMPY.get(ufunc.__name__)
        if sign is None or method != "__call__" or words or len(inputs) != 2:
            raise ParameterError(
                f"pipeline: np.{ufunc.__name__}({self._text}) has no step: write + - * / // % **, comparisons, & | ~, "
                "or an operator of bigbia"
            )
        first, second = inputs
        return self._with(sign, second) if first is self else self._with(sign, first, True)

    def _with(self, sign: str, other: Any, swapped: bool = False) -> Step:
        mine, theirs = self._within(), _operand(self, sign, other)
        left, right = (theirs, mine) if swapped else (mine, theirs)
        return Step(self._owner, f"{left} {sign} {right}", False)

    def _within(self) -> str:
        return self._text if self._named else f"({self._text})"

    def __neg__(self) -> Step:
        return Step(self._owner, f"-{self._within()}", False)

    def __pos__(self) -> Step:
        return Step(self._owner, f"+{self._within()}", False)

    def __invert__(self) -> Step:
        return Step(self._owner, f"~{self._within()}", False)

    def __add__(self, other: Any) -> Step:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Step:
        return self._with("+", other, True)

    def __sub__(self, other: Any) -> Step:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Step:
        return self._with("-", other, True)

    def __mul__(self, other: Any) -> Step:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Step:
        return self._with("*", other, True)

    def __truediv__(self, other: Any) -> Step:
        return self._with("/", other)

    def __rtruediv__(self, other: Any) -> Step:
        return self._with("/", other, True)

    def __floordiv__(self, other: Any) -> Step:
        return self._with("//", other)

    def __rfloordiv__(self, other: Any) -> Step:
        return self._with("//", other, True)

    def __mod__(self, other: Any) -> Step:
        return self._with("%", other)

    def __rmod__(self, other: Any) -> Step:
        return self._with("%", other, True)

    def __pow__(self, other: Any) -> Step:
        return self._with("**", other)

    def __rpow__(self, other: Any) -> Step:
        return self._with("**", other, True)

    def __xor__(self, other: Any) -> Step:
        return self._with("^", other)  # refused where it becomes a step, with what to write instead

    def __abs__(self) -> Step:
        raise ParameterError(f"pipeline: abs({self._text}) has no step: for its size write ({self._text} ** 2) ** 0.5")

    def __getitem__(self, part: Any) -> Step:
        raise ParameterError(
            f'pipeline: {self._text}[...] has no step: p.step("part", "select", image={self._text}, z="0:10")'
        )

    def __and__(self, other: Any) -> Step:
        return self._with("&", other)

    def __rand__(self, other: Any) -> Step:
        return self._with("&", other, True)

    def __or__(self, other: Any) -> Step:
        return self._with("|", other)

    def __ror__(self, other: Any) -> Step:
        return self._with("|", other, True)

    def __lt__(self, other: Any) -> Step:
        return self._with("<", other)

    def __le__(self, other: Any) -> Step:
        return self._with("<=", other)

    def __gt__(self, other: Any) -> Step:
        return self._with(">", other)

    def __ge__(self, other: Any) -> Step:
        return self._with(">=", other)

    def __eq__(self, other: Any) -> Step:  # type: ignore[override]
        return self._with("==", other)

    def __ne__(self, other: Any) -> Step:  # type: ignore[override]
        return self._with("!=", other)


def _operand(step: Step, sign: str, other: Any) -> str:
    if isinstance(other, Step):
        if other._owner is not step._owner:
            raise ParameterError(f"pipeline: {other.text!r} is a step of another pipeline: make it a step of this one")
        return other._within()
    value = plain(other)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ParameterError(
            f"pipeline: {step.text} {sign} {type(other).__name__}: between steps stand other steps and numbers: "
            "make what it is a step of its own"
        )
    return number(value, step.text)


def number(value: int | float, where: str) -> str:
    """A number as it stands in an expression."""
    if not math.isfinite(value):
        raise ParameterError(f"pipeline: {where}: {value!r} has no place in an expression: give a finite number")
    return repr(value) if value >= 0 and not repr(value).startswith("-") else f"({value!r})"


class NotPlain(Exception):
    """A value that a pipeline file cannot hold; its argument is the type's name."""


def plain(value: Any) -> Any:
    """A value as plain numbers, text, lists and mappings where it is made of them, else the value itself."""
    try:
        return as_plain(value)
    except NotPlain:
        return value


def as_plain(value: Any) -> Any:
    """A value as a pipeline file holds it: numbers, text, truths, lists and mappings of them; NotPlain for others."""
    import numpy as np

    if value is None or isinstance(value, (bool, int, str)) or type(value) is float:
        return value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim):
        item = value.item()
        if isinstance(item, (bool, int, float, str)):
            return item
    if isinstance(value, float):
        return float(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.size <= 10_000:
        return value.tolist()
    if isinstance(value, (list, tuple, range)):
        return [as_plain(v) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: as_plain(v) for k, v in value.items()}
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if isinstance(value, slice):
        ends = [as_plain(v) for v in (value.start, value.stop, value.step)]
        words = ["" if v is None else str(v) for v in ends]
        return ":".join(words[:2] if ends[2] is None else words)
    raise NotPlain(type(value).__name__)
