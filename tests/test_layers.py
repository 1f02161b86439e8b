"""The house kept in order: who imports whom, what `import bigbia` loads, and docstrings that say enough and run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import bigbia
from bigbia.run import operators

HOUSE = Path(bigbia.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))

BASE = {"hyperstack", "units", "errors", "config"}
OPERATORS = set(operators.PACKAGES)

# A folder, or a file beside the folders -> what of bigbia it may import. The files of TOP may import everything, and
# nothing below may import them.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "units": {"errors"},
    "config": {"errors"},
    "hyperstack": {"errors", "units"},
    "kernels": {"kernels"},
    "graph": {"graph", "kernels"} | BASE,
    "io": {"io", "graph", "kernels"} | BASE,
    "run": {"run", "io", "graph"} | BASE,
    **{package: OPERATORS | {"graph", "kernels"} | BASE for package in OPERATORS},
}
TOP = {
    *("__init__", "cli", "cli_arguments", "cli_convert", "cli_info", "cli_ops", "cli_options", "cli_run", "cli_runs"),
    *("cli_show", "cli_try", "demo"),
}

USE_DASK = {"graph", "io", "run", "hyperstack"}
USE_DASK_CONFIG = {"config"}  # dask.config, and nothing else of Dask


def part(file: Path) -> str:
    """The folder of a file, or its own name where it lies beside the folders."""
    inside = file.relative_to(HOUSE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, within functions and for the type checker too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: write the import in full: from bigbia..."
            module = node.module or ""
            names = [f"bigbia.{alias.name}" for alias in node.names] if module == "bigbia" else [module]
            yield from ((node.lineno, name) for name in names)


def name_of(file: Path) -> str:
    return str(file.relative_to(HOUSE))


every_file = pytest.mark.parametrize("file", FILES, ids=name_of)


@every_file
def test_imports_point_one_way(file):
    here = part(file)
    if here in TOP:
        return
    assert here in MAY_IMPORT, f"{here} is new: say in tests/test_layers.py what it may import"
    wrong = [
        f"{file.relative_to(HOUSE.parent)}:{line}: {here} may not import {name}"
        for line, name in imports(file)
        if name.split(".")[0] == "bigbia" and (name.split(".")[1:] or ["bigbia"])[0] not in MAY_IMPORT[here]
    ]
    assert not wrong, "\n".join(wrong)


@every_file
def test_only_the_middle_knows_dask(file):
    here = part(file)
    wrong = [
        f"{file.relative_to(HOUSE.parent)}:{line}: {here} may not import {name}"
        for line, name in imports(file)
        if name.split(".")[0] in ("dask", "distributed")
        and here not in USE_DASK
        and not (here in USE_DASK_CONFIG and name in ("dask", "dask.config", "dask.utils"))
    ]
    assert not wrong, "\n".join(wrong)
    if here in USE_DASK_CONFIG:
        used = re.findall(r"\bdask\.(\w+)", file.read_text(encoding="utf-8"))
        assert set(used) <= {"config", "utils"}


def test_no_operator_is_imported_by_a_name_made_at_run_time():
    """The rule above reads `import` statements; the two files that import otherwise are known."""
    made = re.compile(r"\b(import_module|__import__|exec|eval)\(")
    found = {name_of(f) for f in FILES if made.search(f.read_text(encoding="utf-8"))}
    assert found <= {"__init__.py", "run/operators.py"}


def test_import_bigbia_loads_nothing_heavy():
    heavy = ["dask.array", "dask.dataframe", "distributed", "xarray", "zarr", "numba", "scipy", "skimage", "pandas"]
    code = "import json, sys, bigbia; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE.parent)
    assert sorted(set(heavy) & set(json.loads(out.stdout))) == []


def test_public_names_are_there():
    for name in bigbia.__all__:
        assert getattr(bigbia, name) is not None


# ---- docstrings ------------------------------------------------------------------------------------------------------

OWN = ("open", "save", "window", "explain")
PUBLIC = [*operators.operators(), *OWN]
PARAMETERS = "Parameters\n----------"


def function(name: str) -> Callable:
    return getattr(bigbia, name) if name in OWN else operators.operators()[name]


def doc(name: str) -> str:
    return inspect.getdoc(function(name)) or ""


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_say_how_they_are_called(name):
    """Parameters of its own, or `as in `another``; and an example."""
    text = doc(name)
    assert text.partition("\n")[0].endswith("."), "the first line is a sentence"
    assert ">>> " in text, "has no example"
    if PARAMETERS in text:
        section = re.split(r"\n\w[^\n]*\n-{3,}\n", text.split(PARAMETERS)[1])[0]
        heads = [line.partition(":")[0] for line in section.splitlines() if line and not line.startswith(" ")]
        described = {word.strip().lstrip("*") for head in heads for word in head.split(",")}
        missing = [p for p in inspect.signature(function(name)).parameters if p not in described]
        assert not missing, f"{', '.join(missing)} not described"
        return
    other = re.search(r"as in `(\w+)`", text)
    assert other, "neither has a section Parameters nor says `as in` which function"
    meant = f"{name.rpartition('.')[0]}.{other[1]}"
    assert meant in PUBLIC, f"refers to {other[1]}, which is no function beside it"
    assert PARAMETERS in doc(meant)
    same = [set(inspect.signature(function(n)).parameters) for n in (name, meant)]
    assert same[0] <= same[1], f"{', '.join(same[0] - same[1])} not described in {other[1]}"


def module_of(file: Path) -> str:
    dotted = ".".join(file.relative_to(HOUSE.parent).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


@pytest.mark.parametrize(
    "name", [module_of(f) for f in FILES if re.search(r"^\s*>>> ", f.read_text(encoding="utf-8"), re.MULTILINE)]
)
def test_examples_give_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"bigbia": bigbia, "np": np})
    assert not found.failed, f"{found.failed} of {found.attempted} examples of {name}: see above"
