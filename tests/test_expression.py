"""Expressions between steps: the values are NumPy's, and nothing but names, numbers and operators comes through."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigbia.errors import BigbiaWarning, ParameterError
from bigbia.run.expression import LENGTH, parse

STEPS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.linspace(-1, 9, 12).reshape(3, 4),
    "t": np.float64(4.5),
    "m": np.arange(12).reshape(3, 4) % 3 == 0,
}


@pytest.mark.parametrize(
    "text",
    [
        "a > t",
        "a",
        "500",
        "a - 2 * b",
        "a - (2 - b)",
        "-a + +b",
        "~m",
        "(a > t) & ~(b > 2) | m",
        "(a > 2) & (a < 8)",
        "a / 2 // 1 % 3",
        "a ** 2",
        "a ** -1 + (a + 1) ** 2",
        "(a >= 2) == (b <= 3)",
        "(a != 2) & m",
        "1e3 * a + .5",
        "a\n  > t",
    ],
)
def test_the_value_is_pythons(text):
    with np.errstate(divide="ignore"):
        expected = eval(" ".join(text.split()), {}, STEPS)
        found = parse(text).evaluate(STEPS)
    np.testing.assert_array_equal(found, expected)
    assert np.asarray(found).dtype == np.asarray(expected).dtype


SIMPLE = st.sampled_from(["a", "b", "t", "2", "0.5", "-3"])


def combined(part):
    pairs = st.tuples(part, st.sampled_from("+-*"), part).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    return pairs | part.map("-{}".format)


@given(st.recursive(SIMPLE, combined, max_leaves=8))
def test_any_arithmetic_is_pythons(text):
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(parse(text).evaluate(STEPS), eval(text, {}, STEPS))


def test_names_in_order():
    assert parse("(b > a) & (b < t)").names == ("b", "a", "t")


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("__import__('os').system('true')", "step of its own"),
        ("open('x')", "step of its own"),
        ("a.max()", "step of its own"),
        ("a.dtype", "attributes"),
        ("a[0]", "--region"),
        ("a and b", "& and |"),
        ("not a", "~"),
        ("a ^ b", "(a | b) & ~(a & b)"),
        ("a in b", "'in' and 'is'"),
        ("a is b", "'in' and 'is'"),
        ("1 < a < 3", "(a < b) & (b < c)"),
        ("a > t & b > 1", "parentheses"),
        ("a > t & m", "parentheses"),
        ("m | a > t", "parentheses"),
        ("a << 2", "allowed are"),
        ("a @ b", "allowed are"),
        ("'text'", "allowed are"),
        ("True", "allowed are"),
        ("2j * a", "allowed are"),
        ("lambda: a", "allowed are"),
        ("[a, b]", "allowed are"),
        ("{a}", "allowed are"),
        ("f'{a}'", "allowed are"),
        ("a if b else t", "allowed are"),
        ("(a := b)", "allowed are"),
        ("(x for x in a)", "allowed are"),
        ("a; b", "allowed are"),
        ("a = b", "allowed are"),
        ("a >", "allowed are"),
        ("a ** b", "a power"),
        ("a ** 99", "a power"),
        ("(9 ** 9) ** 9", "write the number out"),
        ("9 ** 9 ** 9", "a power"),
        ("", "is empty"),
        ("(" * 300 + "a" + ")" * 300, "allowed are"),
        ("a + " * LENGTH + "a", "split it"),
        ("-" * (LENGTH - 10) + "a", ""),
        (None, "not an expression"),
        (True, "not an expression"),
        ([1], "not an expression"),
    ],
)
def test_refused_with_the_way_out(text, way_out):
    with pytest.raises(ParameterError) as error:
        parse(text)
    assert way_out in str(error.value)
    assert "\n" not in str(error.value)


def test_parentheses_around_logic_in_a_comparison_are_meant():
    np.testing.assert_array_equal(parse("(m | m) == (m & m)").evaluate(STEPS), STEPS["m"] == STEPS["m"])


def test_a_wrap_of_whole_numbers_is_said():
    image = {"a": np.array([3], np.uint16), "b": np.array([5], np.uint16)}
    with pytest.warns(BigbiaWarning, match=r"'a - b' is computed in uint16.*1\.0 \*"):
        parse("a - b").evaluate(image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse("1.0 * a - b").evaluate(image) == -2
        assert parse("a > b").evaluate(image) == [False]


def test_images_with_different_coordinates_are_refused_not_cut():
    import xarray

    one = xarray.DataArray(np.zeros(4), dims="x", coords={"x": np.arange(4.0)})
    with pytest.raises(ValueError, match="align"):
        parse("a + b").evaluate({"a": one, "b": one.assign_coords(x=one.x + 1)})


def test_lazy_stays_lazy():
    import dask
    import dask.array as da

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    a = da.ones((4, 4), chunks=2)
    with dask.config.set(scheduler=refuse):
        lazy = parse("(a > 0.5) & ~(a > 2)").evaluate({"a": a})
    assert lazy.compute().all()
