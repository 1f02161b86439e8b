"""Pipelines built in Python: the same file, the same bytes; what is wrong is said at the line that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from test_contract import Array

import bigbia
from bigbia.cli import main
from bigbia.errors import BigbiaError, ParameterError, RunError, StorageError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack
from bigbia.run.pipeline import Pipeline
from bigbia.run.pipeline_builder import PipelineBuilder as pipeline

TEXT = """bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: 0.5 um}
  cut: {op: filters.threshold_otsu, image: smooth}
  mask: smooth > cut
  nuclei: {op: measure.label, label_image: mask}
  table: {op: measure.regionprops_table, label_image: nuclei, intensity_image: input}
save:
  labels: {nuclei: nuclei}
  tables: {nuclei: table}
"""


def nuclei() -> pipeline:
    p = pipeline()
    smooth = p.step("smooth", "filters.gaussian", image=p.input, sigma="0.5 um")
    cut = p.step("cut", bigbia.filters.threshold_otsu, image=smooth)
    mask = p.step("mask", smooth > cut)
    found = p.step("nuclei", "measure.label", label_image=mask)
    table = p.step("table", "measure.regionprops_table", label_image=found, intensity_image=p.input)
    p.save(labels={"nuclei": found})
    p.save(tables={"nuclei": table})
    return p


@pytest.fixture
def cells(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 999, (6, 30, 40)).astype("u2")
    return bigbia.save(tmp_path / "cells.zarr", hyperstack(voxels, "zyx", "0.5, 0.25, 0.25 um"), chunks=16)


def test_it_is_the_file(tmp_path):
    p = nuclei()
    assert p.text == TEXT
    assert p.write(tmp_path / "p.yaml").read_text() == TEXT
    again = pipeline.load(tmp_path / "p.yaml")
    assert again.text == TEXT
    assert again.steps == ("smooth", "cut", "mask", "nuclei", "table")
    again.step("large", again["smooth"] > 2 * again["cut"])
    again.save(images={"large": "large"})
    assert "large: smooth > (2 * cut)" in again.text
    assert p.changed("smooth.sigma=1um").text == TEXT.replace("0.5 um", "1um")
    assert p.text == TEXT
    with pytest.raises(RunError, match="exists: choose another place, or replace it with overwrite=True"):
        p.write(tmp_path / "p.yaml")
    p.write(tmp_path / "p.yaml", overwrite=True)
    with pytest.raises(StorageError, match="cannot be written"):
        p.write(tmp_path / "none" / "p.yaml")


ABOUT_THE_RUN = ("report.html", "ro-crate-metadata.json", "provenance.json")


def files(folder):
    """The bytes of every file that is a result; what tells of the run itself has its time in it."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "_bigbia" not in p.relative_to(folder).parts
    }


def test_run_gives_the_bytes_of_the_command(cells, tmp_path):
    p = nuclei()
    p.write(tmp_path / "p.yaml")
    for folder in "ab":  # an output knows its own name
        (tmp_path / folder).mkdir()
    words = ["run", str(tmp_path / "p.yaml"), str(cells), "-o", str(tmp_path / "a" / "out.zarr"), "-q"]
    words += ["--region", "z=1:5", "--set", "smooth.sigma=0.3um", "--block", "16"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    out = p.run(
        cells, tmp_path / "b" / "out.zarr", region="z=1:5", settings=["smooth.sigma=0.3um"], block=16, threads=2
    )
    first, second = files(tmp_path / "a" / "out.zarr"), files(out)
    assert [n for n in first if n.startswith("labels/nuclei/0")]
    assert "tables/nuclei.parquet" in first
    assert first.keys() == second.keys()
    assert not [n for n in first if first[n] != second[n] and n not in ABOUT_THE_RUN]
    assert bigbia.rerun(out).same, "it remembers where its input is"
    with pytest.raises(RunError, match="overwrite"):
        p.run(cells, out)
    p.run(cells, out, overwrite=True, settings={"smooth.sigma": "0.4um"})
    with pytest.raises(ParameterError, match="is the input"):
        p.run(cells, cells, overwrite=True)


def test_into_the_input(cells):
    p = nuclei()
    assert p.run(cells, None) == cells
    expected = p.build(bigbia.open(cells))["nuclei"]
    np.testing.assert_array_equal(bigbia.open(cells / "labels" / "nuclei"), expected)
    assert (cells / "tables" / "nuclei.parquet").exists()


def test_explain_computes_nothing(cells):
    found = nuclei().explain(cells, block="16", memory="2 GiB")
    assert any(line.name.startswith("label") or "nuclei" in line.name for line in found.lines)
    with pytest.raises(ParameterError, match="there is no option 'regoin': did you mean 'region'"):
        nuclei().explain(cells, regoin="z=1:3")
    with pytest.raises(ParameterError, match="there is no option 'overwite': did you mean 'overwrite'"):
        nuclei().run(cells, "out.zarr", overwite=True)
    with pytest.raises(ParameterError, match="input=int: give the place"):
        nuclei().run(3, "out.zarr")


def test_arithmetic_is_that_of_python():
    voxels = np.random.default_rng(1).integers(1, 99, (5, 6)).astype("i4")
    image = hyperstack(from_source(Array(voxels), 4), "yx")
    for text in (
        "a + 1 - a * 2", "-(a - 3) // 2 % 5", "~(a > 3) | (a < 2) & (a != 7)", "1 / a + 2 * a ** 2", "(a >= 3) == (a <= 50)",
        "3 - a", "7 // a", "100 % a", "5 < a", "a - (a - 1)", "a * -2.5", "+a", "a > 1e30", "a - -3", "2 + a / 0.1",
        "(a > 4) & True if False else (a > 4)", "a - np.int16(3)", "a > np.float64(2.5)", "np.float64(2.5) < a",
        "np.int64(3) * a - np.float32(2)",
    ):  # fmt: skip
        p = pipeline()
        a = p.step("a", p.input * 1)
        p.step("b", eval(text, {"a": a, "np": np}))
        p.save(image="b")
        found = Pipeline.parse(p.text).build(image)["b"]
        np.testing.assert_array_equal(found, eval(text, {"a": voxels, "np": np}), err_msg=text)


WRONG = {
    "an unknown operator": (lambda p: p.step("a", "filters.gausian", image=p.input), "unknown operator .*gaussian"),
    "an unknown operator alone": (lambda p: p.step("a", "filters.gausian"), "unknown operator"),
    "an unknown keyword": (lambda p: p.step("a", "filters.gaussian", image=p.input, sgima=1), "no parameter 'sgima'"),
    "a missing keyword": (lambda p: p.step("a", "filters.gaussian"), "needs 'image'"),
    "a value that does not fit": (
        lambda p: p.step("a", "filters.gaussian", image=p.input, mode="round"),
        "mode is 'round', but must be one of",
    ),
    "an unknown step": (lambda p: p.step("a", "filters.gaussian", image="smoth"), "'smoth' is no step"),
    "a name twice": (lambda p: p.step("s", p.input + 1), "'s' is there already"),
    "the input's name": (lambda p: p.step("input", p.input + 1), "is the name of the image that comes in"),
    "no name": (lambda p: p.step("a b", p.input + 1), "a name is made of letters"),
    "arguments of an expression": (lambda p: p.step("a", p.input + 1, image=p.input), "takes no arguments: image"),
    "an expression as an argument": (
        lambda p: p.step("a", "measure.label", label_image=p.input > 3),
        "make it a step of its own",
    ),
    "an array as an argument": (
        lambda p: p.step("a", "filters.gaussian", image=p.input, sigma=object()),
        "sigma is a object, which a pipeline file cannot hold",
    ),
    "an image as an argument": (
        lambda p: p.step("a", "filters.gaussian", image=np.zeros((3, 3))),
        "image is .*must be a step",
    ),
    "a function that is none of ours": (lambda p: p.step("a", np.sqrt, image=p.input), "sqrt is no operator"),
    "a step of another": (lambda p: p.step("a", "measure.label", label_image=pipeline().input), "another pipeline"),
    "arithmetic with another": (lambda p: p.input + pipeline().input, "step of another pipeline"),
    "arithmetic with an array": (lambda p: p.input > np.zeros(3), "input > ndarray: between steps stand"),
    "arithmetic with text": (lambda p: p.input + "1", "input [+] str"),
    "a function of NumPy": (lambda p: np.sqrt(p.input), r"np.sqrt\(input\) has no step"),
    "an array on the left": (lambda p: np.zeros(3) < p.input, "between steps stand"),
    "an exclusive or": (lambda p: p.step("a", p.input ^ 3), r"write \(a \| b\)"),
    "a power of a step": (lambda p: p.step("a", 2**p.input), "a power must be a number"),
    "a size": (lambda p: abs(p.input), r"abs\(input\) has no step"),
    "a part": (lambda p: p.input[3], '"select", image=input'),
    "infinity": (lambda p: p.input > float("inf"), "inf has no place"),
    "a truth": (lambda p: (p.input > 3) and p.input, "write & | ~"),
    "a chain": (lambda p: 1 < p.input < 3, "write & | ~"),
    "a division by zero": (lambda p: p.step("a", p.input / 0), "divides by zero"),
    "a saved name": (lambda p: p.save(labels={"../x": "s"}), "cannot be a file name"),
    "a saved step": (lambda p: p.save(labels={"x": "t"}), "'t' is no step"),
    "a saved expression": (lambda p: p.save(labels={"x": p["s"] > 3}), "make it a step of its own"),
    "a saved list": (lambda p: p.save(labels=["s"]), "must be a mapping"),
    "nothing saved": (lambda p: p.save(), "says nothing"),
    "a step that is not there": (lambda p: p["smooth"], "there is no step 'smooth'"),
    "nothing to run": (lambda p: p.text, "nothing is saved"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_at_the_line(name):
    make, said = WRONG[name]
    p = pipeline()
    p.step("s", p.input + 1)
    with pytest.raises(BigbiaError, match=said) as caught:
        make(p)
    assert isinstance(caught.value, ParameterError)
    assert "\n" not in str(caught.value)
    assert p.steps == ("s",), "nothing was added"
    p.save(image="s")
    assert p.text.count("s: input + 1") == 1
