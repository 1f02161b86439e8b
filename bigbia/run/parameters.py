"""What the parameters of an operator are, in words: from its signature, its annotations and its docstring."""

from __future__ import annotations

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union

from bigbia.graph import kinds
from bigbia.run import operators

NEEDED = "needed"
_HEAD = re.compile(r"^(\*{0,2}\w+(?:\s*,\s*\w+)*)\s*(?::\s*(.*))?$")
_AS_IN = re.compile(r"as (?:in|for) `(\w+)`")
_ABOUT_UNITS = re.compile(r'\bunit\b|"[^"]*\bum"|\blength\b')


@dataclass(frozen=True)
class Parameter:
    """One parameter. `unit` is that of a plain number, empty where it has none; `length`: text with a unit is taken too."""

    name: str
    takes: str
    unit: str
    default: str
    description: str
    length: bool
    hint: Any
    plain_default: Any

    @property
    def brief(self) -> str:
        """The first sentence of the description."""
        return re.split(r"(?<=[.;])\s(?=[A-Z0-9`])|;\s", self.description, maxsplit=1)[0].rstrip(".;")


def parameters(name: str) -> tuple[Parameter, ...]:
    """The parameters of an operator, in the order of its signature."""
    return _parameters(*operators.find(name))


@cache
def _parameters(name: str, function: Callable) -> tuple[Parameter, ...]:
    hints = kinds.hints(function)
    out = []
    for word, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        kind, text = described(name, word)
        hint = hints[word]
        length = is_length(hint, f"{kind} {text}")
        unit = _unit(word, hint, f"{kind} {text}", length)
        default = NEEDED if parameter.default is parameter.empty else _shown(parameter.default, kind)
        description = text or kind
        takes = _takes(word, hint, kind, length)
        out.append(Parameter(word, takes, unit, default, description, length, hint, parameter.default))
    return tuple(out)


def described(name: str, word: str) -> tuple[str, str]:
    """What a docstring says of a parameter: its type in words, and the sentences; another operator's where it refers to it."""
    seen: set[str] = set()
    place: str | None = name
    while place is not None and place not in seen:
        seen.add(place)
        text = inspect.getdoc(operators.find(place)[1]) or ""
        found = _section(text).get(word)
        if found is not None and (found[1] or not _AS_IN.search(found[0])):
            return found
        refers = _AS_IN.search(found[0] if found is not None else text)
        package = place.rpartition(".")[0]
        place = None
        if refers:
            beside = f"{package}.{refers[1]}" if package else refers[1]
            same = [full for full in operators.operators() if full.rpartition(".")[2] == refers[1]]
            place = beside if beside in same else (same[0] if len(same) == 1 else None)
    return "", ""


def _section(text: str) -> dict[str, tuple[str, str]]:
    """The section Parameters of a docstring: name -> (type in words, description)."""
    match = re.search(r"^Parameters\n-{3,}\n(.*?)(?=^\w[^\n]*\n-{3,}$|\Z)", text, re.MULTILINE | re.DOTALL)
    out: dict[str, tuple[str, str]] = {}
    names: list[str] = []
    for line in match[1].splitlines() if match else ():
        if line and not line.startswith(" "):
            head = _HEAD.match(line)
            names = [n.strip().lstrip("*") for n in head[1].split(",")] if head else []
            out |= {n: ((head[2] or "").strip() if head else "", "") for n in names}
        elif line.strip():
            for n in names:
                kind, so_far = out[n]
                out[n] = (kind, f"{so_far} {line.strip()}".strip())
    return out


def is_length(hint: Any, words: str) -> bool:
    """Whether a number of voxels may also be text with a unit."""
    parts = _flat(hint)
    return str in parts and bool({int, float} & parts) and bool(_ABOUT_UNITS.search(words))


def _flat(hint: Any) -> set[Any]:
    """The plain types that an annotation is made of."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return {Literal}
    if origin in (Union, types.UnionType) or origin is not None:
        return set().union(*(_flat(p) for p in typing.get_args(hint) if p is not Ellipsis), set())
    return {hint} if isinstance(hint, type) else set()


def _unit(word: str, hint: Any, words: str, length: bool) -> str:
    if word in ("spacing", "sampling"):
        return ""
    if length:
        return "voxels"
    if {int, float} & _flat(hint):
        if re.search(r"\bin voxels\b|\bthis many voxels\b", words):
            return "voxels"
        if re.search(r"\b[Dd]egrees\b", words):
            return "degrees"
    return ""


def _takes(word: str, hint: Any, kind: str, length: bool) -> str:
    if kinds.names_step(hint):
        if "Sequence" in str(typing.get_origin(hint)):
            return "a list of steps"
        what = "a table's step" if kinds.takes_table(hint) else "a step"
        others = [p for p in typing.get_args(hint) if p in (int, float, str)]
        return " or ".join([what, *map(kinds.spell, others)])
    if slice in _flat(hint):
        named = "a name, a number, a list of them" if word == "c" else "a number"
        physical = ', or "10 s:50 s"' if word == "t" else ', or "10 um:50 um"'
        return f'{named}, or "0:10"{physical if length else ""}'
    if length:
        lists = any(typing.get_origin(p) is not None for p in typing.get_args(hint))
        several = "one an axis, " if lists else ""
        if word in ("spacing", "sampling"):
            return f'a number, {several}or "um"'
        if float not in typing.get_args(hint) and int not in typing.get_args(hint):
            return 'a list of numbers, or of "0.5 um"'
        return f'a number, {several}or "0.5 um"' if lists else 'a number or "0.5 um"'
    if hint is Any or not (typing.get_origin(hint) or hint in (bool, int, float, str)):
        return re.split(r"[,;] (?:default|optional)", kind)[0] or "see below"
    return kinds.spell(hint)


def _shown(default: Any, kind: str) -> str:
    """A default as a pipeline file would have it."""
    if default is None:
        match = re.search(r"default (?:is )?(.*)", kind)
        return match[1] if match and len(match[1]) < 40 else "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, (list, tuple, range)):
        return "[" + ", ".join(_shown(v, "") for v in default) + "]"
    return str(default)


def table(name: str, width: int = 110) -> str:
    """The parameters of an operator: for each a line of what it takes, and one of what it is."""
    rows = [("parameter", "takes", "unit", "default")]
    rows += [(p.name, p.takes, p.unit, p.default) for p in parameters(name)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    widths[1] = min(widths[1], 52)
    if not any(row[2] for row in rows[1:]):
        rows, widths = [(a, b, "", d) for a, b, _, d in rows], [*widths[:2], 0, widths[3]]
    lines = []
    for row, brief in zip(rows, ["", *(p.brief for p in parameters(name))]):
        takes = textwrap.wrap(row[1], widths[1]) or [""]
        for number, part in enumerate(takes):
            cells = [row[0], part, row[2], row[3]] if not number else ["", part, "", ""]
            lines.append("  ".join(c.ljust(w) for c, w in zip(cells, widths) if w).rstrip())
        lines += textwrap.wrap(brief, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
