"""What a parameter of an operator takes: an image, a table, or a value that a pipeline file can hold.

An operator marks its image parameters by annotation, `def gaussian(image: Image, sigma: float = 1)`, and those that
take a table by `Table`. The annotation alone decides which arguments of a pipeline step name other steps; a step that
happens to be called `nearest` changes nothing for `mode: nearest`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Number, Real
from typing import Annotated, Any, Literal, Union

IMAGE = "image"
"""The mark that `image_parameters` looks for."""

Image = Annotated[Any, IMAGE]
"""Annotation of a parameter that takes an image; `Image | None`, `Image | float`, `Sequence[Image]` work too."""

TABLE = "table"
Table = Annotated[Any, TABLE]
"""Annotation of a parameter that takes a table."""

_MARKS = (IMAGE, TABLE)
_SEQUENCES = (list, tuple, set, frozenset, Sequence, Collection, Iterable)
_UNIONS = (Union, types.UnionType)


def image_parameters(function: Callable) -> set[str]:
    """Names of the parameters that take an image."""
    return {name for name, hint in hints(function).items() if takes_image(hint)}


def hints(function: Callable) -> dict[str, Any]:
    """The annotation of every parameter, resolved; `Any` where there is none or it cannot be resolved here."""
    parameters = inspect.signature(function).parameters
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return {name: _resolve(parameter.annotation, names) for name, parameter in parameters.items()}


def _resolve(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    # Each annotation by itself: typing.get_type_hints gives up on all of them for one name under TYPE_CHECKING.
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return Image if re.search(r"\bImage\b", annotation) else Any


def takes_image(hint: Any) -> bool:
    """Whether an annotation has the mark of an image, in a union or a sequence too."""
    return _has(IMAGE, hint)


def takes_table(hint: Any) -> bool:
    """Whether an annotation has the mark of a table."""
    return _has(TABLE, hint)


def names_step(hint: Any) -> bool:
    """Whether a pipeline file names a step there."""
    return takes_image(hint) or takes_table(hint)


def _has(mark: str, hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        return mark in hint.__metadata__ or _has(mark, typing.get_args(hint)[0])
    return any(_has(mark, part) for part in typing.get_args(hint))


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value (of a pipeline file) is what an annotation asks for.

    An image or a table is never a plain value. An annotation that says nothing about plain values (an array, a dtype) lets all of
    them pass: the operator decides.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return not any(mark in _MARKS for mark in hint.__metadata__) and fits(value, parts[0])
    if origin in _UNIONS:
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, Integral):
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (float, Real, Number, complex):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if hint is slice:
        return False
    if origin in _SEQUENCES or hint in _SEQUENCES:
        return isinstance(value, list | tuple) and _elements_fit(value, origin, parts)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return isinstance(value, dict)
    return True


def _elements_fit(value: Sequence, origin: Any, parts: tuple) -> bool:
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(fits(v, part) for v, part in zip(value, parts))
    return not parts or all(fits(v, parts[0]) for v in value)


def spell(hint: Any) -> str:
    """An annotation in words, for an error message: "a number or a list of numbers"."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return "a step" if any(mark in _MARKS for mark in hint.__metadata__) else spell(parts[0])
    if origin in _UNIONS:
        words = dict.fromkeys(spell(part) for part in parts if part not in (type(None), slice))
        return " or ".join(words)
    if origin is Literal:
        return ("one of " if len(parts) > 1 else "") + ", ".join(map(str, parts))
    if origin in _SEQUENCES or hint in _SEQUENCES:
        inner = [part for part in parts if part is not Ellipsis]
        return f"a list ({', '.join(dict.fromkeys(spell(part) for part in inner))} each)" if inner else "a list"
    plain: dict[Any, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        dict: "a mapping",
    }
    return plain.get(hint) or str(getattr(hint, "__name__", hint))
