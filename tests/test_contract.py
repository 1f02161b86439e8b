"""The promises, over every case.

The same to the bit however the data are cut, lazily, in few tasks, for every kind of array.
"""

from __future__ import annotations

import pickle
import warnings

import cases
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from case import ANY
from hypothesis import given
from hypothesis import strategies as st
from strategies import KINDS, chunkings, image, shapes

import bigbia
from bigbia import arrange
from bigbia.errors import BigbiaError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack

every_case = pytest.mark.parametrize("case", cases.CASES.values(), ids=cases.CASES)


def forbidden(dsk, keys, **kwargs):
    raise AssertionError("computed while building")


def computed(result, scheduler="sync"):
    """The NumPy or pandas value of a result, lazy or not."""
    if isinstance(result, tuple):
        return tuple(computed(r, scheduler) for r in result)
    if isinstance(result, xr.DataArray):
        result = result.data
    return result.compute(scheduler=scheduler) if hasattr(result, "compute") else result


def assert_same(got, expected, what=""):
    if isinstance(expected, tuple):
        for g, e in zip(got, expected):
            assert_same(g, e, what)
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(got.reset_index(drop=True), expected.reset_index(drop=True), check_exact=True)
    else:
        got, expected = np.asarray(got), np.asarray(expected)
        assert got.shape == expected.shape, (what, got.shape, expected.shape)
        assert got.dtype == expected.dtype, (what, got.dtype, expected.dtype)
        np.testing.assert_array_equal(got, expected, err_msg=what)


def check_refused(call, image, chunks=3):
    """A call (function, what the error says) is refused on an image and on a lazy one, of which nothing is read."""
    function, said = call
    counted = Array(image)
    for array in (image, from_source(counted, chunks)):
        with pytest.raises(BigbiaError) as caught:
            function(array)
        assert said in str(caught.value)
    assert counted.reads == 0


@every_case
@given(data=st.data(), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**16))
def test_any_chunking_gives_the_numpy_result(case, data, kind, seed):
    shape = data.draw(shapes(*case.dims))
    array = image(kind, shape, data.draw(st.sampled_from(case.dtypes)), seed)
    expected = case(array)
    with dask.config.set(scheduler=forbidden):
        first = case(da.from_array(array, chunks=data.draw(chunkings(shape))))
        second = case(from_source(Array(array), data.draw(st.sampled_from([1, 2, 3, 5, -1]))))
    if isinstance(first, da.Array) and isinstance(expected, np.ndarray):
        assert (first.shape, first.dtype) == (expected.shape, expected.dtype)
    assert_same(computed(first), expected, "from_array")
    assert_same(computed(second), expected, "from_source")


@pytest.mark.parametrize(
    "case", [c for c in cases.CASES.values() if c.reference], ids=[k for k, c in cases.CASES.items() if c.reference]
)
@given(data=st.data(), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**16))
def test_numpy_result_is_the_reference(case, data, kind, seed):
    shape = data.draw(shapes(*case.dims))
    array = image(kind, shape, data.draw(st.sampled_from(case.dtypes)), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(case.reference(array, **case.params))
    got = np.asarray(case(array))
    assert got.shape == expected.shape
    if case.close:
        most = np.max(np.abs(expected), initial=0, where=np.isfinite(expected))
        np.testing.assert_allclose(got, expected, rtol=0, atol=case.close * float(most))
    else:
        np.testing.assert_array_equal(got, expected)


class Array:
    """A NumPy array as a source that counts what is read of it."""

    def __init__(self, array, chunks=None):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.chunks = chunks or tuple(max(1, min(4, n)) for n in array.shape)
        self.token = dask.base.tokenize(array, self.chunks)
        self.reads = 0

    def read(self, box):
        self.reads += 1
        return self.array[tuple(slice(a, b) for a, b in box)].copy()


@every_case
def test_building_reads_nothing(case):
    source = Array(image("blobs", (9, 10, 11), case.dtypes[0], 0))
    case(from_source(source, 4))
    assert source.reads == 0


@every_case
def test_tasks_a_block(case):
    array = image("noise", (40, 40, 40), case.dtypes[0], 0)
    lazy = from_source(Array(array), 4)
    result = case(lazy)
    parts = result if isinstance(result, tuple) else (result,)
    for part in parts:
        if hasattr(part, "dask") and isinstance(part, da.Array):
            count = len(dask.optimize(part)[0].__dask_graph__())
        else:
            count = len(dict(part.optimize().__dask_graph__()))
        assert count <= case.tasks * lazy.npartitions + 5, count / lazy.npartitions


@every_case
def test_results_can_be_pickled(case):
    array = image("blobs", (7, 8, 9), case.dtypes[-1], 1)
    expected = case(array)
    result = case(from_source(Array(array), 3))
    for part, value in zip(*[(r if isinstance(r, tuple) else (r,)) for r in (result, expected)]):
        if isinstance(part, da.Array):
            assert_same(computed(pickle.loads(pickle.dumps(part))), value)


@every_case
def test_dataarrays_keep_their_coordinates_and_images_apart(case):
    array = image("noise", (2, 3, 6, 7), case.dtypes[0], 3)
    stack = hyperstack(
        da.from_array(array, chunks=(1, 2, 4, 3)),
        "tcyx",
        voxel_size={"y": 0.5, "x": 0.25},
        unit="um",
        channels=["a", "b", "d"],
    )
    result = case(stack)
    if isinstance(result, xr.DataArray):
        assert isinstance(result.data, da.Array)
        alone = (lambda t, c: stack[t, c].compute()) if case.by_size else (lambda t, c: array[t, c])
        expected = np.stack([np.stack([np.asarray(case(alone(t, c))) for c in range(3)]) for t in range(2)])
        assert_same(computed(result), expected)
        assert list(result.c.values) == ["a", "b", "d"]
        if result.ndim == 4:
            assert result.dims == stack.dims
            assert bigbia.hyperstack.voxel_size(result) == {"y": 0.5, "x": 0.25}
    elif hasattr(result, "columns"):
        frame = computed(result)
        for t in range(2):
            for k, c in enumerate("abd"):
                mine = frame[(frame.t == t) & (frame.c == c)].drop(columns=["t", "c"])
                assert_same(mine, case(array[t, k]))


@every_case
@pytest.mark.parametrize("kind", ["complex64", "object"])
def test_voxels_of_other_kinds_are_refused(case, kind):
    for array in (np.zeros((4, 5), kind), da.zeros((4, 5), chunks=2, dtype=kind)):
        with pytest.raises(BigbiaError, match=kind.removesuffix("64")):
            case(array)


@every_case
@pytest.mark.parametrize("shape", [(0,), (4, 0, 3)])
def test_an_empty_axis_is_refused_or_gives_nothing(case, shape):
    for array in (np.zeros(shape, case.dtypes[0]), da.zeros(shape, chunks=2, dtype=case.dtypes[0])):
        if case.empty:
            assert_same(computed(case(array)), case.reference(np.zeros(shape, case.dtypes[0]), **case.params))
            continue
        with pytest.raises(BigbiaError, match="empty"):
            case(array)


@every_case
def test_threads_agree(case):
    array = image("blobs", (10, 11, 12), case.dtypes[-1], 5)
    assert_same(computed(case(from_source(Array(array), 5)), "threads"), case(array))


def test_every_public_operator_has_a_case():
    public = {
        f"{m.__name__}.{n}"
        for m in (
            bigbia.filters,
            bigbia.measure,
            bigbia.metrics,
            bigbia.morphology,
            bigbia.exposure,
            bigbia.feature,
            bigbia.segmentation,
            bigbia.restoration,
            bigbia.transform,
            arrange,
        )
        for n in m.__all__
    }
    tried = {f"{c.function.__module__.rsplit('.', 1)[0]}.{c.function.__name__}" for c in cases.CASES.values()}
    assert public == tried


def test_a_halo_that_is_too_small_is_caught():
    array = np.random.default_rng(0).random((40, 40))
    short = [bigbia.window(_blur, da.from_array(array, chunks=c), halo=2).compute() for c in (10, 40)]
    assert (short[0] != short[1]).any()


def _blur(block):
    from scipy import ndimage as ndi

    return ndi.gaussian_filter(block, 3)


@pytest.mark.cluster
def test_worker_processes_agree():
    from distributed import Client, LocalCluster

    array = {k: image("blobs", (10, 11, 12), k, 5) for k in ANY}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster),
    ):
        for name, case in cases.CASES.items():
            source = da.from_array(array[case.dtypes[-1]], chunks=5)
            result = case(source)
            got = tuple(r.compute() for r in result) if isinstance(result, tuple) else result.compute()
            assert_same(got, case(array[case.dtypes[-1]]), name)
