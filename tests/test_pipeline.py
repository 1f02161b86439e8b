"""Pipeline files: what they say is what the Python calls do; what is wrong with them is said before anything runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bigbia.errors import BigbiaWarning, InputError, ParameterError
from bigbia.graph import kinds
from bigbia.graph.kinds import Image
from bigbia.run import operators, pipeline_file
from bigbia.run.pipeline import Pipeline

# ---- operators of our own, so that these tests ask the pipeline and not an operator --------------------------------


def smooth(image: Image, sigma: float | str | Sequence[float] = 1, *, mode: Literal["nearest", "wrap"] = "nearest",
           preserve_range: bool = True, truncate: float = 4.0) -> Any:  # fmt: skip
    """Add sigma to the image."""
    if sigma == -1:
        raise ParameterError("sigma=-1: must not be negative: give 0 or more")
    return image + (len(sigma) if isinstance(sigma, str) else np.sum(sigma)) + (mode == "wrap")


def middle(image: Image) -> Any:
    """The mean."""
    return image.mean()


def number(label_image: Image, *, connectivity: int | None = None) -> Any:
    """Whole numbers."""
    return label_image.astype(np.uint32) + (connectivity or 0)


def table(label_image: Image, intensity_image: Image | None = None, properties: Sequence[str] = ("label",)) -> Any:
    """A table."""
    return pandas.DataFrame({name: np.ravel(label_image) for name in properties})


def larger(image: Image, low: Image | float) -> Any:
    """Above another image or a number."""
    return image > low


def together(images: Sequence[Image]) -> Any:
    """Several images."""
    return sum(images)


KNOWN = {f"filters.{f.__name__}": f for f in (smooth, middle, larger, together)}
KNOWN |= {"measure.number": number, "measure.table": table}

TEXT = """\
bigbia: 1
steps:
  soft: {op: filters.smooth, image: input, sigma: 0.5 um}
  cut: {op: filters.middle, image: soft}
  mask: soft > cut
  cells: {op: measure.number, label_image: mask}
  rows: {op: measure.table, label_image: cells, intensity_image: input}
save:
  labels: {cells: cells}
  tables: {cells: rows}
"""


@pytest.fixture(autouse=True)
def known(monkeypatch, request):
    if "real" not in request.node.name:
        monkeypatch.setattr(operators, "operators", lambda: KNOWN)


def steps(**given: str) -> str:
    """A pipeline of the given steps, the last one saved as an image."""
    lines = "".join(f"  {name}: {value}\n" for name, value in given.items())
    return f"bigbia: 1\nsteps:\n{lines}save: {{image: {list(given)[-1]}}}\n"


IMAGE = np.arange(12, dtype=np.float32).reshape(3, 4)

# ---- the same as Python --------------------------------------------------------------------------------------------


def test_the_steps_are_the_calls():
    pipeline = Pipeline.parse(TEXT)
    found = pipeline.build(IMAGE)
    soft = smooth(IMAGE, sigma="0.5 um")
    mask = soft > middle(soft)
    np.testing.assert_array_equal(found["soft"], soft)
    np.testing.assert_array_equal(found["mask"], mask)
    outputs = pipeline.outputs(found)
    np.testing.assert_array_equal(outputs["labels"]["cells"], number(mask))
    assert outputs["tables"]["cells"].equals(table(number(mask), IMAGE))
    assert outputs["image"] is None
    assert outputs["source"] is IMAGE
    assert outputs["images"] == {}


def test_building_computes_nothing():
    import dask
    import dask.array as da

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        found = Pipeline.parse(steps(soft="{op: filters.smooth, image: input}", mask="soft > 3")).build(da.ones((4, 4)))
    assert isinstance(found["mask"], da.Array)


def test_steps_in_any_order():
    pipeline = Pipeline.parse(steps(b="a * 2", d="c - b", a="input + 1", c="a + b", last="d"))
    assert list(pipeline.steps) == ["a", "b", "c", "d", "last"]
    np.testing.assert_array_equal(pipeline.build(IMAGE)["last"], IMAGE + 1)


def test_the_signature_decides_which_arguments_name_steps():
    text = steps(nearest="input + 100", out="{op: filters.smooth, image: nearest, mode: nearest}")
    np.testing.assert_array_equal(Pipeline.parse(text).build(IMAGE)["out"], IMAGE + 101)


def test_an_image_parameter_may_take_a_number_nothing_or_a_list_of_steps():
    one = Pipeline.parse(steps(out="{op: filters.larger, image: input, low: 5}")).build(IMAGE)["out"]
    two = Pipeline.parse(steps(cut="5", out="{op: filters.larger, image: input, low: cut}")).build(IMAGE)["out"]
    np.testing.assert_array_equal(one, IMAGE > 5)
    np.testing.assert_array_equal(two, one)
    text = steps(a="input * 2", out="{op: filters.together, images: [a, input]}")
    assert Pipeline.parse(text).steps["out"].names == ("a", "input")
    np.testing.assert_array_equal(Pipeline.parse(text).build(IMAGE)["out"], IMAGE * 3)
    Pipeline.parse(TEXT.replace("intensity_image: input", "intensity_image: null"))


def test_ten_thousand_steps_in_a_row():
    lines = {f"s{i}": f"s{i + 1} + 1" for i in range(9_999)} | {"s9999": "input"}
    pipeline = Pipeline.parse(steps(**dict(reversed(lines.items())), last="s0"))
    assert pipeline.build(0)["last"] == 9_999


# ---- overrides and the text that is kept ---------------------------------------------------------------------------


def test_override():
    pipeline = Pipeline.parse(TEXT)
    changed = pipeline.override(["soft.sigma=0.8um", "cells.connectivity=2", "mask=soft > 7"])
    assert changed.steps["soft"].arguments["sigma"] == "0.8um"
    assert changed.steps["cells"].arguments["connectivity"] == 2
    assert changed.steps["mask"].text == "soft > 7"
    assert pipeline.steps["soft"].arguments["sigma"] == "0.5 um"
    assert pipeline.override([]).text == pipeline.text
    assert pipeline.override(["soft.sigma=[1, 2.5]", "soft.preserve_range=false"]).steps["soft"].arguments == {
        "image": "input", "sigma": [1, 2.5], "preserve_range": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sofd.sigma=1", "there is no step 'sofd': did you mean 'soft'?"),
        ("soft.sigm=1", "filters.smooth has no parameter 'sigm': did you mean 'sigma'?"),
        ("soft=1", "write soft.PARAMETER=VALUE"),
        ("mask.a=1", "is an expression"),
        ("soft.sigma", "write STEP.PARAMETER=VALUE"),
        ("soft.sigma=", "write STEP.PARAMETER=VALUE"),
        ("soft.truncate=no", "truncate is 'no', but must be a number"),
        ("soft.op=filters.smoth", "unknown operator 'filters.smoth': did you mean 'filters.smooth'?"),
        ("soft.sigma=!!python/object:os.system x", "tags are not allowed"),
        ("mask=soft >", "is not an expression"),
        ("mask=soft > cutt", "did you mean 'cut'?"),
    ],
)
def test_override_refused(setting, message):
    with pytest.raises(ParameterError) as error:
        Pipeline.parse(TEXT).override([setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_text_reads_back_the_same():
    pipeline = Pipeline.parse(TEXT)
    assert pipeline.text == TEXT
    jumbled = Pipeline.parse(
        TEXT.replace("  mask: soft > cut\n", "").replace("steps:\n", "steps:\n  mask: soft > cut\n")
    )
    assert jumbled.text == TEXT


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
    | st.sampled_from(["no", "on", "1e3", "12:30", "010", "~", "null", "true", ".5", "=", "<<", "0x1f", "1_0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abno01~", min_size=1), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(PLAIN)
def test_what_is_written_reads_back_the_same(value):
    text = pipeline_file.dumps({"value": value})
    assert pipeline_file.loads(text, "it") == {"value": value}
    yaml.safe_load(text)


# ---- wrong files -----------------------------------------------------------------------------------------------------


def call(more: str) -> str:
    return steps(a=f"{{op: filters.smooth, image: input, {more}}}")


def save(what: str) -> str:
    return f"bigbia: 1\nsteps: {{cells: input}}\nsave: {{{what}}}"


WRONG = {
    "empty": ("", "begins with the line `bigbia: 1`"),
    "a list": ("[1, 2]", "begins with the line `bigbia: 1`"),
    "no version": ("steps: {a: input}\nsave: {image: a}", "begins with the line `bigbia: 1`"),
    "newer": (TEXT.replace("bigbia: 1", "bigbia: 2"), "is written for version 2, this bigbia reads 1: pip install"),
    "odd version": (TEXT.replace("bigbia: 1", "bigbia: true"), "is not a version"),
    "section": (TEXT.replace("save:", "saves:"), "unknown section 'saves': did you mean 'save'?"),
    "no steps": ("bigbia: 1\nsave: {image: input}", "has no steps"),
    "operator": (
        steps(a="{op: filters.smoooth, image: input}"),
        "step 'a': unknown operator 'filters.smoooth': did you mean 'filters.smooth'?",
    ),
    "other package": (steps(a="{op: measure.smooth, image: input}"), "did you mean 'filters.smooth'?"),
    "not ours": (steps(a="{op: os.system, image: input}"), "unknown operator 'os.system': `bigbia ops` lists them all"),
    "no operator": (steps(a="{image: input}"), "has no operator"),
    "parameter": (call("sigm: 2"), "filters.smooth has no parameter 'sigm': did you mean 'sigma'?"),
    "missing": (steps(a="{op: filters.smooth, sigma: 2}"), "filters.smooth needs 'image': add image: input"),
    "to nothing": (
        steps(soft="input", a="{op: filters.smooth, image: sofd}"),
        "step 'a': 'sofd' is no step: did you mean 'soft'?",
    ),
    "expression to nothing": (steps(soft="input", a="sofd > 2"), "step 'a': 'sofd' is no step: did you mean 'soft'?"),
    "expression in an image": (
        steps(a="{op: filters.smooth, image: input > 2}"),
        "image names a step, 'input > 2' does not",
    ),
    "number for an image": (steps(a="{op: filters.smooth, image: 5}"), "image is 5, but must be a step"),
    "text for a number": (call("truncate: four"), "truncate is 'four', but must be a number"),
    "truth for a number": (call("sigma: true"), "sigma is true, but must be a number"),
    "no for truth": (
        call("preserve_range: no"),
        "preserve_range is 'no', but must be true or false; write true or false",
    ),
    "literal": (call("mode: mirror"), "mode is 'mirror', but must be one of nearest, wrap"),
    "fraction": (
        steps(a="{op: measure.number, label_image: input, connectivity: 1.5}"),
        "connectivity is 1.5, but must be a whole number",
    ),
    "empty value": (call("sigma: "), "sigma is empty, but must be a number"),
    "time": (call("truncate: 12:30"), "truncate is '12:30', but must be a number"),
    "octal": (call("truncate: 010"), "line 3: 010 is read as octal by some readers: write 10"),
    "itself": (steps(a="a + 1"), "in a circle: a -> a"),
    "circle": (steps(a="b + 1", b="c + 1", c="b + input"), "in a circle: b -> c -> b"),
    "named input": (steps(input="1"), "step 'input': this is the name of the image that comes in"),
    "step name": (steps(**{"a-b": "input"}), "step 'a-b': a name is made of letters"),
    "step word": (steps(**{"and": "input"}), "step 'and'"),
    "no value": (steps(a=""), "is not an expression"),
    "list step": (steps(a="[1]"), "is not an expression"),
    "python": (steps(a="input.__class__"), "step 'a': 'input.__class__' is refused"),
    "no save": ("bigbia: 1\nsteps: {a: input}", "nothing is saved: add for instance `save: {labels: {a: a}}`"),
    "empty save": (save("labels: {}"), "nothing is saved"),
    "save section": (save("label: {x: cells}"), "unknown section 'label': did you mean 'labels'?"),
    "save list": (save("labels: a"), "save: labels: must be a mapping"),
    "save text": ("bigbia: 1\nsteps: {a: input}\nsave: a", "save: must be a mapping"),
    "save nothing": (save("labels: {x: cels}"), "save: labels: x: 'cels' is no step: did you mean 'cells'?"),
    "save number": (save("image: 3"), "save: image: 3 is no step"),
    "save case": (save("labels: {a: cells, A: cells}"), "'a' and 'A' are one file on some disks"),
    "twice": (TEXT.replace("sigma: 0.5 um", "sigma: 1, sigma: 2"), "line 3: 'sigma' stands here twice"),
    "step twice": (TEXT.replace("  cut:", "  soft: input\n  cut:"), "line 4: 'soft' stands here twice"),
    "tag": (steps(a="!!python/object/apply:os.system ['true']"), "line 3: tags are not allowed"),
    "local tag": (steps(a="!x y"), "tags are not allowed"),
    "anchor": (steps(a="&x input"), "line 3: anchors and aliases"),
    "alias": ("bigbia: 1\nsteps: {a: *x}", "anchors and aliases"),
    "deep": (steps(a="[" * 100_000), "more than 50 levels"),
    "long": (TEXT + "#" * (1 << 20), "larger than 1 MiB"),
    "broken": ("bigbia: 1\nsteps: {a: input", "line 2"),
    "tab": ("bigbia: 1\nsteps:\n\ta: input", "line 3"),
    "two documents": (TEXT + "---\n" + TEXT, "single document"),
    "control": ("bigbia: 1\x00", "is not YAML"),
    "mapping key": ("{[1]: 2}", "a key must be a word"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_in_one_line_with_the_way_out(name):
    text, message = WRONG[name]
    with pytest.raises(ParameterError) as error:
        Pipeline.parse(text, name="cells.yaml")
    assert str(error.value).startswith("cells.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", ".hidden", "a/b", "a\\b", "", " a", "a ", "a..b", "c:d", "a\n", "x" * 300]
)
def test_saved_names_stay_in_the_output(name):
    text = pipeline_file.dumps({"bigbia": 1, "steps": {"a": "input"}, "save": {"labels": {name: "a"}}})
    with pytest.raises(ParameterError, match="cannot be a file name"):
        Pipeline.parse(text)


def test_many_aliases_cost_nothing():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ParameterError, match="anchors and aliases"):
        Pipeline.parse("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (save("tables: {x: cells}"), "save: tables: x: step 'cells' is no table"),
        (
            TEXT.replace("labels: {cells: cells}", "labels: {cells: rows}"),
            "save: labels: cells: step 'rows' is a table",
        ),
        (TEXT.replace("labels: {cells: cells}", "images: {cells: cut}"), "step 'cut' is a single number"),
        (TEXT.replace("labels: {cells: cells}", "labels: {cells: soft}"), "step 'soft' is float32, labels are whole"),
        (TEXT.replace("labels: {cells: cells}", "image: rows"), "save: image: step 'rows' is a table"),
    ],
)
def test_saved_as_what_it_is_not(text, message):
    pipeline = Pipeline.parse(text, name="cells.yaml")
    with pytest.raises(ParameterError) as error:
        pipeline.outputs(pipeline.build(IMAGE))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (call("sigma: -1"), "p.yaml: step 'a': sigma=-1: must not be negative"),
        (steps(a="input > 2", b="a - a"), "p.yaml: step 'b': a - a: numpy boolean subtract"),
        (
            TEXT.replace("tables: {cells: rows}", "image: x").replace("save:", "  x: rows + 1\nsave:"),
            "'rows' is a table",
        ),
    ],
)
def test_an_operators_refusal_names_file_and_step(text, message):
    with pytest.raises(ParameterError) as error:
        Pipeline.parse(text, name="p.yaml").build(IMAGE)
    assert message in str(error.value)


def test_an_unused_step_is_a_note():
    text = TEXT.replace("save:", "  spare: soft * 2\nsave:")
    pipeline = Pipeline.parse(text)
    assert pipeline.unused == ["spare"]
    with pytest.warns(BigbiaWarning, match="'spare' is not saved"):
        pipeline.build(IMAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pipeline.parse(TEXT).build(IMAGE)


def test_loading_says_what_is_wrong_with_the_path(tmp_path):
    with pytest.raises(InputError, match="there is no such pipeline file"):
        Pipeline.load(tmp_path / "none.yaml")
    with pytest.raises(ParameterError, match=r"is a folder.*PIPELINE\.yaml, then the image"):
        Pipeline.load(tmp_path)
    (tmp_path / "image.tif").write_bytes(b"II*\x00\xff\xfe\x80")
    with pytest.raises(ParameterError, match="is not text"):
        Pipeline.load(tmp_path / "image.tif")
    (tmp_path / "long.yaml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(ParameterError, match="larger than 1 MiB"):
        Pipeline.load(tmp_path / "long.yaml")
    (tmp_path / "good.yaml").write_text("\ufeff" + TEXT)
    assert Pipeline.load(tmp_path / "good.yaml").text == TEXT


# ---- kinds -----------------------------------------------------------------------------------------------------------


def test_image_parameters():
    assert kinds.image_parameters(smooth) == {"image"}
    assert kinds.image_parameters(table) == {"label_image", "intensity_image"}
    assert kinds.image_parameters(larger) == {"image", "low"}
    assert kinds.image_parameters(together) == {"images"}


def test_an_annotation_that_cannot_be_resolved_is_read_as_text():
    def f(image: Image | Nowhere, other: Nowhere, plain: int = 0):  # noqa: F821
        pass

    assert kinds.image_parameters(f) == {"image"}
    assert kinds.hints(f)["plain"] is int
    assert kinds.fits(object(), kinds.hints(f)["other"])


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, float, True),
        (True, float, False),
        (True, int, False),
        (1.0, int, False),
        ("1", float, False),
        ([1, 2], Sequence[float], True),
        ([1, "a"], Sequence[float], False),
        ("ab", Sequence[str], False),
        ([1, 2], tuple[int, int], True),
        ([1], tuple[int, int], False),
        ([1, 2, 3], tuple[int, ...], True),
        (None, int | None, True),
        ({}, dict[str, int], True),
        (1, Literal[1, 2], True),
        (True, Literal[1, 2], False),
        ("x", Any, True),
        ([[1]], np.ndarray, True),
        ("x", Image, False),
    ],
)
def test_fits(value, hint, fits):
    assert kinds.fits(value, hint) is fits


# ---- the real operators ----------------------------------------------------------------------------------------------

REAL = """\
bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: 0.5 um}
  cut:    {op: filters.threshold_otsu, image: smooth}
  mask:   smooth > cut
  nuclei: {op: measure.label, label_image: mask}
  table:  {op: measure.regionprops_table, label_image: nuclei, intensity_image: input}
save:
  labels: {nuclei: nuclei}
  tables: {nuclei: table}
"""


@pytest.mark.parametrize("kind", ["numpy", "dask", "hyperstack"])
def test_real_steps_are_the_real_calls(kind):
    import dask.array as da

    import bigbia
    from bigbia.hyperstack import hyperstack

    image: Any = np.random.default_rng(0).integers(0, 1000, (12, 20, 20)).astype(np.uint16)
    sigma: Any = 1.5
    if kind != "numpy":
        image = da.from_array(image, chunks=7)
    if kind == "hyperstack":
        image, sigma = hyperstack(image, "zyx", voxel_size="1, 0.5, 0.5 um"), "0.5 um"
    found = Pipeline.parse(REAL).override([f"smooth.sigma={sigma}"]).build(image)
    smoothed = bigbia.filters.gaussian(image, sigma)
    nuclei = bigbia.measure.label(smoothed > bigbia.filters.threshold_otsu(smoothed))
    rows = bigbia.measure.regionprops_table(nuclei, image)
    assert type(found["nuclei"]) is type(nuclei)
    np.testing.assert_array_equal(np.asarray(found["nuclei"]), np.asarray(nuclei))
    here, there = (t.compute() if hasattr(t, "compute") else t for t in (found["table"], rows))
    assert pandas.DataFrame(here).equals(pandas.DataFrame(there))


def test_real_operators_can_all_be_asked_for():
    known = operators.operators()
    assert {"filters.gaussian", "filters.threshold_otsu", "measure.label", "measure.regionprops_table"} <= set(known)
    for name, function in known.items():
        assert operators.summary(function), name
        assert kinds.image_parameters(function), name
        assert operators.manual(name, function).startswith(f"bigbia.{name}(")


def test_real_several_results_are_refused():
    text = REAL.replace("label_image: mask}", "label_image: mask, return_num: true}").replace("0.5 um", "2")
    with pytest.raises(ParameterError, match="step 'table': 'nuclei' gives 2 results, an image is needed"):
        Pipeline.parse(text).build(IMAGE)


def test_real_length_without_a_voxel_size():
    with pytest.raises(ParameterError, match=r"pipeline: step 'smooth': .*no voxel size"):
        Pipeline.parse(REAL).build(IMAGE)
