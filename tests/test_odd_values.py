"""Odd arguments: every operator is called with every odd value for every one of its parameters, over an image that
nobody may read. A call builds a lazy result, or it is refused by name, in one line that says which argument was meant.
"""

from __future__ import annotations

import inspect
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest

import bigbia
from bigbia.errors import BigbiaError, InputError, ParameterError
from bigbia.graph import kinds
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack
from bigbia.run.operators import operators

pytestmark = pytest.mark.filterwarnings("ignore::bigbia.errors.BigbiaWarning")

LIMIT = 2.0  # seconds of computing a call


class Unread:
    """An image that nobody may read."""

    shape, chunks = (6, 7), (4, 4)
    reads = 0

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.token = f"odd-{dtype}"

    def read(self, box: Any) -> Any:
        type(self).reads += 1
        raise AssertionError("was read")


def unread(dtype: str = "u2") -> Any:
    return hyperstack(from_source(Unread(dtype), 4), "yx", "0.5 um")


class Thing:
    def __repr__(self) -> str:
        return "<a thing>"


def function() -> None: ...


ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "words": lambda: "words",
    "no words": lambda: "",
    "bytes": lambda: b"bytes",
    "a unit": lambda: "um",
    "a length": lambda: "0.5 um",
    "a long length": lambda: "1e40 um",
    "a thing": Thing,
    "a function": lambda: function,
    "a type": lambda: int,
    "nothing listed": list,
    "nothing mapped": dict,
    "a mapping": lambda: {"y": 1, "x": 2},
    "a set": lambda: {1, 2},
    "six": lambda: (1, 2, 3, 4, 5, 6),
    "two": lambda: (1, 2),
    "two things": lambda: [Thing(), None],
    "two words": lambda: ["a", "b"],
    "lists of several lengths": lambda: [[1], [1, 2]],
    "lists in lists": lambda: [[[1]], [[2]]],
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "-0.5": lambda: -0.5,
    "0.5": lambda: 0.5,
    "1e-300": lambda: 1e-300,
    "1e30": lambda: 1e30,
    "10**6": lambda: 10**6,
    "10**30": lambda: 10**30,
    "10**400": lambda: 10**400,
    "two of 10**12": lambda: (10**12, 10**12),
    "True": lambda: True,
    "complex": lambda: 1 + 2j,
    "NumPy's int": lambda: np.int64(3),
    "NumPy's nan": lambda: np.float32("nan"),
    "NumPy's bool": lambda: np.bool_(True),
    "an array": lambda: np.array([1, 2]),
    "an array of lines": lambda: np.arange(42).reshape(6, 7),
    "an array without axes": lambda: np.array(2),
    "an array of words": lambda: np.array(["a", "b"]),
    "an array of things": lambda: np.array([Thing(), None]),
    "an array of NaN": lambda: np.full((3, 3), np.nan),
    "a lazy value": lambda: da.from_array(np.array(3)),
    "a lazy array": lambda: da.zeros((6, 7), "u1", chunks=4),
    "an unread image": unread,
    "a list of an unread image": lambda: [unread()],
    "NumPy's type": lambda: np.int16,
    "a range": lambda: range(1, 3),
    "a table": lambda: pd.DataFrame({"label": [1, 2]}),
}

# What an operator needs beside an image of 16-bit integers, and where it takes none.
GIVEN: dict[str, dict[str, Any]] = {
    "filters.apply_hysteresis_threshold": {"low": 1, "high": 2},
    "filters.convolve": {"weights": [[1, 2, 1]]},
    "filters.correlate": {"weights": [[1, 2, 1]]},
    "filters.difference_of_gaussians": {"low_sigma": 1},
    "filters.percentile": {"percentile": 30},
    "morphology.h_maxima": {"h": 2},
    "morphology.h_minima": {"h": 2},
    "morphology.isotropic_closing": {"radius": 1},
    "morphology.isotropic_dilation": {"radius": 1},
    "morphology.isotropic_erosion": {"radius": 1},
    "morphology.isotropic_opening": {"radius": 1},
    "morphology.remove_large_objects": {"min_size": 2},
    "morphology.remove_small_holes": {"image": unread("?")},
    "morphology.fill_holes": {"image": unread("?")},
    "segmentation.filter_labels": {"table": pd.DataFrame({"label": [1, 2], "area": [3, 4]})},
    "segmentation.split_touching": {"mask": unread("?"), "min_distance": 1},
    "feature.hessian_matrix_eigvals": {"H_elems": [unread("f4")] * 3},
    "feature.structure_tensor_eigenvalues": {"A_elems": [unread("f4")] * 3},
    "restoration.denoise_bilateral": {"sigma_color": 1},
    "restoration.richardson_lucy": {"psf": np.ones((3, 3)), "num_iter": 2},
    "restoration.rolling_ball": {"radius": 2},
    "restoration.subtract_background": {"sigma": 1},
    "transform.affine": {"matrix": [[1, 0.1], [0, 1]]},
    "transform.downscale_local_mean": {"factors": 2},
    "transform.rescale": {"scale": 2},
    "transform.resize": {"output_shape": (3, 4)},
    "transform.rotate": {"angle": 30},
    "select": {"y": "0:4"},
    "stack": {"images": [unread()]},
    "concat": {"images": [unread()], "axis": "y"},
}


def base(name: str, call: Callable) -> dict[str, Any]:
    needed = [p.name for p in inspect.signature(call).parameters.values() if p.default is p.empty]
    given = GIVEN.get(name, {})
    return {word: given[word] if word in given else unread() for word in dict.fromkeys([*needed, *given])}


class Slow(BaseException):
    """What `pytest.raises` and `except Exception` let through."""


@contextmanager
def limited() -> Iterator[None]:
    """Not more than so much computing, however busy the machine is."""

    def stop(*_: Any) -> None:
        raise Slow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def wrong(name: str, call: Callable, word: str, odd: str) -> str | None:
    """What is wrong with how an operator takes an odd value; None if nothing is."""
    value = ODD[odd]()
    reads, start = Unread.reads, time.process_time()
    error: BaseException | None = None
    try:
        with limited():
            call(**{**base(name, call), word: value})
    except BaseException as caught:
        error = caught
    if isinstance(error, KeyboardInterrupt):
        raise error
    if Unread.reads > reads:
        return f"read the image, and raised {error!r}"
    if isinstance(error, Slow) or time.process_time() - start > LIMIT:
        return f"took more than {LIMIT} s"
    if error is None:
        return None
    if not isinstance(error, BigbiaError):
        return f"raised {type(error).__name__}: {error}"
    return unclear(str(error), name, word, value, error)


def unclear(message: str, name: str, word: str, value: Any, error: Exception) -> str | None:
    """What a message lacks. A length begins with its argument: it has the same words wherever it is given."""
    if not isinstance(error, (InputError, ParameterError)):
        return f"raised {type(error).__name__}: {message}"
    if "\n" in message:
        return f"a message of several lines: {message}"
    if not 20 < len(message) < 1500:
        return f"a message of {len(message)} characters: {message}"
    if not message.startswith((f"{name}: ", f"{word}=")):
        return f"does not say where: {message}"
    said = [repr(value), *(map(repr, value) if isinstance(value, tuple) else [])]
    if isinstance(value, (str, bytes, float, int, complex, tuple)) and not any(s[:100] in message for s in said):
        return f"does not repeat {value!r}: {message}"
    if re.search(r"object at 0x", message):
        return f"shows an address: {message}"
    return None


def plain_words(call: Callable) -> list[str]:
    """The parameters that take something else than an image or a table."""
    hints = kinds.hints(call)
    return [word for word in hints if not kinds.names_step(hints[word]) or kinds.fits(1, hints[word])]


@pytest.mark.parametrize("name", operators())
def test_odd_values_are_built_or_refused(name):
    call = operators()[name]
    call(**base(name, call))  # as it should be
    found = [
        f"{word}={odd}: {what}" for word in plain_words(call) for odd in ODD if (what := wrong(name, call, word, odd))
    ]
    assert not found, "\n".join(found)


NO_IMAGES = (
    "words",
    "a thing",
    "a type",
    "1e30",
    "True",
    "six",
    "two things",
    "an array of words",
    "an array of things",
)


@pytest.mark.parametrize("name", operators())
def test_what_is_no_image_is_refused(name):
    call = operators()[name]
    for word in set(inspect.signature(call).parameters) - set(plain_words(call)):
        for odd in NO_IMAGES:
            with pytest.raises((InputError, ParameterError), match=rf"^{name}: [^\n]*$"):
                call(**{**base(name, call), word: ODD[odd]()})


LEGAL: dict[str, tuple[str, dict[str, Any]]] = {
    "NumPy's float": ("filters.gaussian", {"sigma": np.float32(1), "truncate": np.int64(3), "cval": np.float32("inf")}),
    "NaN beyond": ("filters.uniform", {"mode": "constant", "cval": float("nan")}),
    "a number without axes": ("filters.gaussian", {"sigma": np.array(1.5), "cval": np.array(2)}),
    "an array of sigmas": ("filters.gaussian", {"sigma": np.array([1, 2])}),
    "a fraction": ("exposure.adjust_gamma", {"gamma": Fraction(1, 2)}),
    "lengths": ("filters.minimum", {"size": "3 um"}),
    "NumPy's sides": ("filters.minimum", {"size": np.array([3, 5])}),
    "a range of sigmas": ("filters.sato", {"sigmas": range(1, 5, 2), "black_ridges": 0}),
    "axes": ("filters.sobel", {"axis": np.array([0, -1])}),
    "no plates": ("filters.frangi", {"sigmas": [1], "alpha": float("inf")}),
    "a lazy threshold": ("filters.apply_hysteresis_threshold", {"low": da.from_array(np.array(3)), "high": 5}),
    "truths in NumPy": ("exposure.histogram", {"normalize": np.bool_(True)}),
    "a type": ("exposure.rescale_intensity", {"out_range": np.uint8}),
    "a dtype": ("measure.label", {"dtype": np.dtype("u2"), "background": np.int8(1)}),
    "lengths without end": ("morphology.distance_transform_edt", {"max_distance": float("inf")}),
    "sizes of atoms": ("morphology.distance_transform_edt", {"sampling": (2e-10, 1e-10)}),
    "a table's name": ("measure.regionprops_table", {"properties": "area", "spacing": np.array([1, 2])}),
    "scales of an array": ("transform.rescale", {"scale": np.array([2, 0.5])}),
}


@pytest.mark.parametrize("case", LEGAL)
def test_what_means_something_is_taken(case):
    name, words = LEGAL[case]
    before = Unread.reads
    operators()[name](**{**base(name, operators()[name]), **words})
    assert Unread.reads == before


# What would be an image, a box or a margin that no machine holds: refused, and not begun with.
TOO_LARGE: list[tuple[str, dict[str, Any]]] = [
    ("transform.rescale", {"scale": 1e30}),
    ("transform.rescale", {"scale": 10**6}),
    ("transform.rescale", {"scale": (2**22, 1)}),
    ("transform.resize", {"output_shape": (2**24 + 1, 1)}),
    ("transform.resize", {"output_shape": (2**24, 2**24)}),
    ("transform.affine", {"output_shape": (2**24 + 1, 1)}),
    ("transform.affine", {"output_shape": (2**24, 2**24)}),
    ("filters.uniform", {"size": 10**30}),
    ("filters.maximum", {"size": 10**5}),
    ("filters.median", {"footprint": (10**5, 10**5)}),
    ("morphology.opening", {"footprint": "1 m"}),
    ("filters.gaussian", {"sigma": 1e7}),
    ("restoration.rolling_ball", {"radius": 1e30}),
    ("restoration.rolling_ball", {"radius": 1e5}),
    ("restoration.denoise_bilateral", {"sigma_spatial": 1e5}),
    ("restoration.denoise_nl_means", {"patch_distance": 10**9}),
    ("feature.multiscale_basic_features", {"sigma_min": 1e-300}),
    ("segmentation.split_touching", {"smooth": 1e30}),
]


@pytest.mark.parametrize(("name", "words"), TOO_LARGE, ids=[f"{name} {words}" for name, words in TOO_LARGE])
def test_what_no_machine_holds_is_refused(name, words):
    call = operators()[name]
    with limited(), pytest.raises(ParameterError) as caught:
        call(**{**base(name, call), **words})
    assert unclear(str(caught.value), name, *next(iter(words.items())), caught.value) is None
    assert Unread.reads == 0


@pytest.mark.parametrize("word", ["function", "halo", "dtype", "boundary", "cost", "workspace", "cropping"])
def test_window_takes_no_odd_values(word):
    found = []
    for odd in ODD:
        try:
            with limited():
                bigbia.window(**{"function": np.abs, "image": unread(), word: ODD[odd]()})
        except BigbiaError as error:
            if unclear(str(error), "window", word, ODD[odd](), error):
                found.append(f"{odd}: {error}")
    assert not found, "\n".join(found)
    assert Unread.reads == 0
