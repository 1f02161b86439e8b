"""Finding operators by name, for pipeline files and `bigbia ops`.

An operator is a function listed in `__all__` of one of our operator packages, and nothing else: a name in a file never
imports a module of its own choosing.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from functools import cache

from bigbia.errors import ParameterError, nearest
from bigbia.graph import kinds

PACKAGES = (
    "filters",
    "morphology",
    "measure",
    "exposure",
    "segmentation",
    "feature",
    "restoration",
    "transform",
    "metrics",
    "arrange",
)
BARE = ("arrange",)
"""Packages whose operators go by their own name alone: `bigbia.select`."""


@cache
def operators() -> dict[str, Callable]:
    """Every operator by its name, `filters.gaussian`, in the order of the packages."""
    found: dict[str, Callable] = {}
    for package in PACKAGES:
        if importlib.util.find_spec(f"bigbia.{package}") is None:
            continue
        module = importlib.import_module(f"bigbia.{package}")
        for name in sorted(getattr(module, "__all__", ())):
            function = getattr(module, name)
            if callable(function) and not inspect.isclass(function):
                found[name if package in BARE else f"{package}.{name}"] = function
    return found


def find(name: str) -> tuple[str, Callable]:
    """The full name and the function of an operator; `bigbia.` in front is allowed."""
    known = operators()
    plain = str(name).removeprefix("bigbia.")
    package, _, last = plain.partition(".")
    plain = last if package in BARE and last in known else plain
    if plain in known:
        return plain, known[plain]
    raise ParameterError(f"unknown operator {str(name)!r}: {_suggestion(plain, known)}")


def search(name: str) -> tuple[str, Callable]:
    """Like `find`, and without the package where only one operator has that name."""
    known = operators()
    same = [full for full in known if full.rpartition(".")[2] == name]
    return (same[0], known[same[0]]) if len(same) == 1 else find(name)


def _suggestion(name: str, known: dict[str, Callable]) -> str:
    """The operator of that very name in another package, else the nearest; never the whole list of names."""
    last = name.rpartition(".")[2]
    for full in known:
        if full.rpartition(".")[2] == last:
            return f"did you mean {full!r}?"
    text = nearest(name, known)
    return text if text.startswith("did you mean") else "`bigbia ops` lists them all"


def summary(function: Callable) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def manual(name: str, function: Callable) -> str:
    """The page of one operator: how it is called, what it does, its parameters as a table, the rest of its docstring."""
    from bigbia.run.parameters import table

    parameters = inspect.signature(function).parameters
    shown = [
        str(p).partition(":")[0] if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters.values()
    ]
    if any(p.kind is p.KEYWORD_ONLY for p in parameters.values()):
        first = next(i for i, p in enumerate(parameters.values()) if p.kind is p.KEYWORD_ONLY)
        shown.insert(first, "*")
    images = kinds.image_parameters(function)
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    call = ", ".join([f"op: {name}", *(f"{word}: {'input' if word in images else '...'}" for word in needed)])
    summary_line, _, rest = (inspect.getdoc(function) or "").partition("\n")
    page = [f"bigbia.{name}({', '.join(shown)})", summary_line, table(name) if name in operators() else ""]
    page += [rest.strip("\n"), f"In a pipeline:\n  step: {{{call}}}"]
    return "\n\n".join(part for part in page if part)
