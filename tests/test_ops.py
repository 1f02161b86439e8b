"""`bigbia ops`, the words about parameters, and the schema of pipeline files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bigbia import demo
from bigbia.cli_ops import ops
from bigbia.errors import ParameterError
from bigbia.run.operators import find, manual, operators
from bigbia.run.parameters import NEEDED, parameters, table
from bigbia.run.pipeline import Pipeline
from bigbia.run.schema import schema

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", operators())
def test_every_parameter_is_described(name):
    for p in parameters(name):
        assert len(p.description) > 8, p
        assert p.brief
        assert p.takes != "see below", p
        assert "`" not in p.takes and len(p.takes) < 120, p  # noqa: PT018
        if p.length:
            assert '"' in p.takes, "says how a length is written"
    lines = table(name).splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("parameter")
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == [p.name for p in parameters(name)]


def words(name: str, parameter: str) -> tuple[str, str, str]:
    (p,) = (p for p in parameters(name) if p.name == parameter)
    return p.takes, p.unit, p.default


def test_what_parameters_take():
    assert words("filters.gaussian", "image") == ("a step", "", NEEDED)
    assert words("filters.gaussian", "sigma") == ('a number, one an axis, or "0.5 um"', "voxels", "1.0")
    assert words("filters.gaussian", "mode")[0] == "one of nearest, reflect, mirror, constant, wrap"
    assert words("filters.gaussian", "preserve_range") == ("true or false", "", "true")
    assert words("morphology.remove_small_objects", "max_size") == ("a whole number", "voxels", "64")
    assert words("measure.regionprops_table", "spacing") == ('a number, one an axis, or "um"', "", "none")
    assert words("segmentation.watershed", "markers") == ("a step or a whole number", "", "none")
    assert words("segmentation.filter_labels", "table") == ("a table's step", "", NEEDED)
    assert words("stack", "images")[0] == "a list of steps"
    assert words("select", "z") == ('a number, or "0:10", or "10 um:50 um"', "voxels", "none")
    assert words("transform.rotate", "angle")[1] == "degrees"
    assert words("filters.frangi", "sigmas")[2] == "[1, 3, 5, 7, 9]"


def test_words_of_another_docstring():
    assert words("feature.hessian_matrix", "sigma") == words("filters.gaussian", "sigma")
    assert words("filters.median", "footprint")[0] != "see below"
    (sigmas,) = (p for p in parameters("filters.frangi") if p.name == "sigmas")
    assert sigmas.brief == "Standard deviations of the Gaussians, in voxels"


def called(*arguments: str) -> str:
    result = CliRunner().invoke(ops, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command():
    assert called("gaussian") == manual(*find("filters.gaussian")) + "\n"
    page = called("filters.gaussian")
    assert page.startswith("bigbia.filters.gaussian(image, sigma=1.0, *, mode=")
    assert re.search(r"^sigma +a number, one an axis, or \"0.5 um\" +voxels +1.0\n    Standard deviation", page, re.M)
    assert page.endswith("In a pipeline:\n  step: {op: filters.gaussian, image: input}\n")
    lines = called().splitlines()
    assert len(lines) == len(operators()) + 2
    assert any(line.startswith("select ") for line in lines)
    one = json.loads(called("select", "--json"))
    assert [p["name"] for p in one["parameters"]] == ["image", "t", "c", "z", "y", "x"]
    assert [o["name"] for o in json.loads(called("--json"))] == list(operators())
    assert json.loads(called("--schema")) == schema()
    with pytest.raises(ParameterError, match="ops --schema: is that of all operators"):
        CliRunner().invoke(ops, ["--schema", "label"], catch_exceptions=False)
    with pytest.raises(ParameterError, match=r"did you mean 'filters\.gaussian'"):
        CliRunner().invoke(ops, ["filters.gausian"], catch_exceptions=False)


# ---- the schema ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


GOOD = {
    "demo": demo.PIPELINE,
    "expressions": "bigbia: 1\nsteps: {a: input > 3, b: 5, c: 1.5, d: ~a}\nsave: {image: d, images: {a: a}}",
    "views": """
bigbia: 1
steps:
  a: {op: select, image: input, c: DAPI, z: 1:5}
  b: {op: bigbia.select, image: input, c: [GFP, 1], t: 3}
  c: {op: stack, images: [a, a], axis: c, names: [x, y]}
  d: {op: bigbia.filters.gaussian, image: c, sigma: [1, 2, 2.5], mode: wrap}
  e: {op: filters.gaussian, image: c, sigma: "1, 2, 3 um"}
  f: {op: filters.apply_hysteresis_threshold, image: c, low: 3, high: e}
  g: {op: measure.regionprops_table, label_image: f, intensity_image: null, properties: [label, area]}
  h: {op: segmentation.watershed, image: c, markers: 5, mask: null}
  i: {op: morphology.opening, image: c, footprint: 2 um}
save: {labels: {f: f}, tables: {g: g}}
""",
}


@pytest.mark.parametrize("name", GOOD)
def test_good_pipelines_pass(name, validator):
    Pipeline.parse(GOOD[name])
    assert not list(validator.iter_errors(yaml.safe_load(GOOD[name])))


def test_pipelines_of_the_pages_pass(validator):
    found = 0
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for text in re.findall(r"^```yaml\n(bigbia: .*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            validator.validate(yaml.safe_load(text))
            found += 1
    assert found


BASE = {
    "bigbia": 1,
    "steps": {"smooth": {"op": "filters.gaussian", "image": "input", "sigma": 2}},
    "save": {"image": "smooth"},
}
BAD = {
    "no steps": {"bigbia": 1, "save": {"image": "a"}},
    "no save": {k: BASE[k] for k in ("bigbia", "steps")},
    "a newer version": BASE | {"bigbia": 2},
    "a section": BASE | {"step": {}},
    "an operator": BASE | {"steps": {"a": {"op": "filters.gausian", "image": "input"}}},
    "no operator": BASE | {"steps": {"a": {"image": "input"}}},
    "a parameter": BASE | {"steps": {"a": {"op": "filters.gaussian", "image": "input", "sgima": 1}}},
    "a missing parameter": BASE | {"steps": {"a": {"op": "filters.gaussian"}}},
    "an expression as image": BASE | {"steps": {"a": {"op": "filters.gaussian", "image": "input > 3"}}},
    "a choice": BASE | {"steps": {"a": {"op": "filters.gaussian", "image": "input", "mode": "round"}}},
    "a truth": BASE | {"steps": {"a": {"op": "filters.gaussian", "image": "input", "preserve_range": "yes"}}},
    "a number": BASE | {"steps": {"a": {"op": "filters.gaussian", "image": "input", "truncate": "four"}}},
    "an empty value": BASE | {"steps": {"a": {"op": "filters.gaussian", "image": "input", "sigma": None}}},
    "a step's name": BASE | {"steps": {"a b": "input"}},
    "input as a step": BASE | {"steps": {"input": "3"}},
    "an empty step": BASE | {"steps": {"a": None}},
    "what is saved": BASE | {"save": {"label": {"a": "a"}}},
    "how it is saved": BASE | {"save": {"labels": ["a"]}},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pipelines_do_not(name, validator):
    with pytest.raises(ParameterError):
        Pipeline.of(BAD[name])
    assert list(validator.iter_errors(BAD[name]))


PLAIN = [
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    0.5,
    1e30,
    "",
    "words",
    "input",
    "a b",
    "0.5 um",
    "um",
    "DAPI",
    "1:5",
    "nearest",
]
PLAIN += [[], [1], [1, 2], [0.5, 2], ["a", "b"], ["a", 1], ["0.5 um", "1 um"], [[1, 2], [3, 4]], {}, {"y": 1}, [None]]
PLAIN += ["area > 3", "max", "uint8", "dtype", [1, "a"], [True, False]]


@pytest.mark.parametrize("name", operators())
def test_what_bigbia_takes_the_schema_takes(name):
    """Every plain value for every parameter: none that a pipeline may hold is refused."""
    rules = next(r for r in schema_of(name) if name in r["if"]["properties"]["op"]["enum"])
    validator = jsonschema.Draft202012Validator(rules["then"])
    takes_table = {p.name for p in parameters(name) if p.takes == "a table's step"}
    base = {p.name: "t" if p.name in takes_table else "input" for p in parameters(name) if p.default == NEEDED}
    for _ in range(2):  # what one needs may hide that another does not fit
        for p in (p for p in parameters(name) if p.default == NEEDED):
            choices = re.split(r", | or ", p.takes.removeprefix("one of "))
            base[p.name] = next(
                (v for v in [base[p.name], *PLAIN, *choices] if fits(name, base, p.name, v)), base[p.name]
            )
    assert all(fits(name, base, word, value) for word, value in base.items()), "a call that is right"
    refused = 0
    for p in parameters(name):
        for value in PLAIN + re.split(r", | or ", p.takes.removeprefix("one of ")):
            step = {**base, "op": name, p.name: value}
            wrong = list(validator.iter_errors(step))
            refused += bool(wrong)
            if fits(name, base, p.name, value):
                assert not wrong, f"{p.name}: {value!r}: {wrong[0].message}"
    assert refused, "it refuses something"


def fits(name: str, base: dict, word: str, value) -> bool:
    steps = {"input_": "input", "t": "3", "a": "3", "b": "3", "words": "3", "max": "3", "um": "3"}
    steps |= {"s": {"op": name, **base, word: value}}
    try:
        Pipeline.of({"bigbia": 1, "steps": steps, "save": {"image": "s"}})
    except ParameterError as error:
        # A step that is not there is bigbia's to find.
        return "is no step" in str(error)
    return True


def schema_of(name: str) -> list:
    if not RULES:
        RULES.extend(schema()["$defs"]["call"]["allOf"])
    return RULES


RULES: list = []


def test_every_operator_is_in_it():
    listed = schema()["$defs"]["call"]["properties"]["op"]["enum"]
    assert {f"bigbia.{name}" for name in operators()} | set(operators()) <= set(listed)
    for word in listed:
        find(word)
    described = [d for r in schema_of("") for d in r["then"]["properties"].values() if d is not True]
    assert all(d["description"] for d in described)
