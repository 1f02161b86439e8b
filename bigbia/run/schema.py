"""The JSON schema of pipeline files, made of the operators' signatures: editors complete and check by it.

It takes every pipeline that bigbia takes. Not every one that it takes is right: which step is an image, and what depends
on the image, only bigbia knows.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral, Number, Real
from typing import Annotated, Any, Literal, Union

from bigbia.graph import kinds
from bigbia.run import operators
from bigbia.run.parameters import Parameter, parameters
from bigbia.run.pipeline import SECTIONS, VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_STEP = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "description": "The name of a step, or input."}
_SEQUENCES = (list, tuple, set, frozenset, Sequence, Collection, Iterable)


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a pipeline file.

    >>> schema()["properties"]["bigbia"]["const"]
    1
    """
    known = operators.operators()
    words = [spelling for name in known for spelling in _spellings(name)]
    return {
        "$schema": DIALECT,
        "title": "bigbia pipeline",
        "description": "Steps from an image to labels and tables, for `bigbia run`.",
        "type": "object",
        "required": ["bigbia", "steps", "save"],
        "additionalProperties": False,
        "properties": {
            "bigbia": {"const": VERSION, "description": "The version of the format."},
            "steps": {
                "type": "object",
                "description": "Each step: a call of an operator, or an expression of steps, `smooth > cut`.",
                "minProperties": 1,
                "propertyNames": {"pattern": _STEP["pattern"], "not": {"const": "input"}},
                "additionalProperties": {"$ref": "#/$defs/step"},
            },
            "save": _save(),
        },
        "$defs": {
            "step": {
                "anyOf": [
                    {
                        "type": "string",
                        "minLength": 1,
                        "description": "An expression: (smooth > cut) & ~(input > 4000)",
                    },
                    {"type": "number"},
                    {"$ref": "#/$defs/call"},
                ]
            },
            "call": {
                "type": "object",
                "required": ["op"],
                "properties": {"op": {"enum": words, "description": "The operator: `bigbia ops` lists them."}},
                "allOf": [_of_operator(name) for name in known],
            },
        },
    }


def _spellings(name: str) -> list[str]:
    """What `operators.find` takes for an operator."""
    own = [f"{package}.{name}" for package in operators.BARE] if "." not in name else []
    return [name, f"bigbia.{name}", *own, *(f"bigbia.{word}" for word in own)]


def _save() -> dict[str, Any]:
    named = {"type": "object", "additionalProperties": _STEP}
    what = {"images": "Images", "labels": "Label images", "tables": "Tables"}
    sections = {s: {**named, "description": f"{what[s]} by their names: {{name: step}}."} for s in SECTIONS}
    return {
        "type": "object",
        "description": "What a run writes.",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {"image": {**_STEP, "description": "The step that is the image at the root."}, **sections},
    }


def _of_operator(name: str) -> dict[str, Any]:
    """What stands beside `op: NAME`."""
    _, function = operators.find(name)
    several = inspect.signature(function).parameters.values()
    described = parameters(name)
    rest: dict[str, Any] = {
        "description": operators.summary(function),
        "required": [p.name for p in described if p.plain_default is inspect.Parameter.empty],
        "properties": {"op": True, **{p.name: _parameter(p) for p in described}},
    }
    if not any(p.kind is p.VAR_KEYWORD for p in several):
        rest["additionalProperties"] = False
    return {
        "if": {"properties": {"op": {"enum": _spellings(name)}}, "required": ["op"]},
        "then": rest,
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    unit = f" ({parameter.unit})" if parameter.unit else ""
    out = {"description": f"{parameter.description}\nTakes {parameter.takes}{unit}."}
    default = parameter.plain_default
    if isinstance(default, (bool, int, str)) or (isinstance(default, float) and abs(default) < float("inf")):
        out["default"] = default  # type: ignore[assignment]
    wanted = _of(parameter.hint)
    if wanted is True:
        return out
    choices = [wanted]
    if kinds.names_step(parameter.hint):  # one step or a list of them passes, whichever is asked for
        choices += [_STEP, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
    if default is None:
        choices.append({"type": "null"})
    return {**out, **(choices[0] if len(choices) == 1 else {"anyOf": choices})}


def _of(hint: Any) -> Any:
    """The schema of an annotation; True where every value may be right. As `kinds.fits`, and steps by name."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _STEP if kinds.names_step(hint) else _of(parts[0])
    if origin in (Union, types.UnionType):
        several = [_of(part) for part in parts if part is not slice]
        return True if True in several else {"anyOf": several}
    if origin is Literal:
        return {"enum": list(parts)}
    if hint is None or hint is type(None):
        return {"type": "null"}
    plain = {bool: "boolean", int: "integer", Integral: "integer", str: "string", dict: "object", Mapping: "object"}
    if hint in plain or origin in (dict, Mapping):
        return {"type": plain.get(hint, "object")}
    if hint in (float, Real, Number, complex):
        return {"type": "number"}
    if origin in _SEQUENCES or hint in _SEQUENCES:
        return _list(origin, parts)
    return True


def _list(origin: Any, parts: tuple) -> dict[str, Any]:
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        several = [_of(part) for part in parts]
        return {"type": "array", "prefixItems": several, "minItems": len(parts), "maxItems": len(parts)}
    inner = _of(parts[0]) if parts else True
    return {"type": "array"} if inner is True else {"type": "array", "items": inner}
