"""Dask and xarray expressions between two operators: looked through or not, the voxels are NumPy's."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage as ndi
from test_contract import Array

import bigbia
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.through import look_through

SHAPE = (8, 9, 10)
IMAGE = np.random.default_rng(0).random(SHAPE).astype("f4")

# x is the image: NumPy, Dask or DataArray; np and da are NumPy and its Dask counterpart
SEEN = """
x + 1
2 * x - x
x > 0.5
(x > 0.5) & (x < 0.7)
~(x > 0.5)
(x > 0.5) | (x < 0.2)
(x > 0.3) ^ (x > 0.6)
x ** 2
x // 0.1
x % 0.3
-x
abs(x - 0.5)
np.sqrt(x)
np.maximum(x, 0.5)
np.minimum(x, x * 0.9)
np.where(x > 0.5, x, 0)
np.clip(x, 0.2, 0.8)
np.isclose(x, 0.5)
np.logical_and(x > 0.2, x < 0.9)
x.astype("f8")
(x * 1000).astype("u2") >> 2
x.round(1)
x[2:7]
x[1:7:2, ::3]
x[::-1]
x[::-2, ::-1, 1:-1]
x[3]
x[..., 4]
x[:, None]
x[2:5][:, 1:8][..., ::2]
x[None, 2:, 3, ::2]
x.T
x.transpose((1, 2, 0))
np.swapaxes(x, 0, 2)
np.moveaxis(x, 0, -1)
np.flip(x, 1)
np.roll(x, 3, 0)
np.stack([x, x * 2])
np.stack([x, x + 1], axis=2)
np.concatenate([x, x - 1], axis=1)
np.concatenate([x[:3], x[5:], x], axis=0)
np.broadcast_to(x, (2, *x.shape))
np.broadcast_to(x[:, :1], x.shape) + x
x + x[0]
x * x[:, :1]
x[2:6].squeeze()
x[2:3].squeeze()
np.expand_dims(x, 1)
(x > x[4, 4, 4])
np.nan_to_num(x / (x + 1))
np.pad(x, 1, mode="reflect")
np.diff(x, axis=1)
np.tile(x, (1, 2, 1))
x[5:5]
""".strip().splitlines()
LIVE = """
x - x.max()
(x * 1000).astype("i4").cumsum(axis=0)
x[[3, 1, 2]]
x[np.array([0, 0, 5])]
x.reshape(-1, 10)
x.max(axis=0)
""".strip().splitlines()


class DaskNumpy:
    """NumPy's names, lazily."""

    def __getattr__(self, name):
        return getattr(np if name in ("array",) else da, name)


def second_operator(image):
    return (
        ndi.grey_dilation(image, size=3)
        if image.dtype != bool
        else ndi.binary_dilation(image, np.ones((3,) * image.ndim))
    )


@pytest.mark.parametrize("chunks", [(3, 4, 5), (8, 2, 10), (1, 9, 3)])
@pytest.mark.parametrize("expression", SEEN + LIVE)
def test_an_expression_between_two_operators(expression, chunks):
    # an expression of a filtered image, filtered again
    smooth = bigbia.filters.median(from_source(Array(IMAGE), chunks))
    lazy = eval(expression, {"x": smooth, "np": DaskNumpy()})
    whole = eval(expression, {"x": ndi.median_filter(IMAGE, size=3, mode="nearest"), "np": np})
    if isinstance(whole, np.ndarray) and lazy.dtype != whole.dtype:
        whole = whole.astype(lazy.dtype)  # Dask's own promotion
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), whole)
    if 0 in lazy.shape:
        return
    again = bigbia.window(second_operator, lazy, halo=1).compute(scheduler="sync")
    np.testing.assert_array_equal(again, second_operator(whole))


@pytest.mark.parametrize("expression", SEEN)
def test_it_is_seen(expression):
    smooth = bigbia.filters.median(from_source(Array(IMAGE), (3, 4, 5)))
    lazy = eval(expression, {"x": smooth, "np": DaskNumpy()})
    node, why = look_through(lazy)
    assert node is not None, why
    if lazy.size:
        result = bigbia.window(second_operator, lazy, halo=1)
        assert len(dask.optimize(result)[0].__dask_graph__()) <= result.npartitions


@pytest.mark.parametrize("expression", LIVE)
def test_it_is_not_seen_and_said(expression):
    lazy = eval(expression, {"x": from_source(Array(IMAGE), (3, 4, 5)), "np": DaskNumpy()})
    node, why = look_through(lazy)
    assert node is None
    assert why
    assert "cut" in str(bigbia.explain(lazy))


XARRAY = """
x.isel(z=3)
x.isel(z=slice(1, 6, 2), x=slice(None, None, -1))
x.sel(z=slice(1.0, 3.0))
x.where(x > 0.5)
x.where(x > 0.5, 0)
x.fillna(0)
x.clip(0.2, 0.6)
x.transpose("x", "z", "y")
x + x.isel(z=0)
x.expand_dims("t")
xr.concat([x, x * 2], "t")
x.notnull()
x.astype("u1")
x.round()
np.sqrt(x)
xr.where(x > 0.5, x, -1)
x.isel(y=[1, 3, 4])
x.pad(z=1, constant_values=0)
x.shift(z=1)
x.roll(z=2)
x.coarsen(z=2, y=3, x=5).max()
x.max("z")
""".strip().splitlines()


@pytest.mark.parametrize("expression", XARRAY)
def test_xarray_expressions(expression):
    coords = {"z": np.arange(8.0), "y": np.arange(9.0), "x": np.arange(10.0)}
    names = {"np": np, "xr": xr}
    lazy = eval(expression, {**names, "x": xr.DataArray(from_source(Array(IMAGE), (3, 4, 5)), coords, ("z", "y", "x"))})
    whole = eval(expression, {**names, "x": xr.DataArray(IMAGE, coords, ("z", "y", "x"))})
    assert isinstance(lazy.data, da.Array)
    if lazy.dtype != bool:
        got = bigbia.filters.median(lazy).compute(scheduler="sync")
        expected = (
            np.stack([bigbia.filters.median(w) for w in whole.values])
            if "t" in whole.dims
            else bigbia.filters.median(whole.values)
        )
        np.testing.assert_array_equal(got.values, expected)


def test_map_blocks_is_never_looked_through():
    """`b - b.mean()` depends on the block: a wider read would change it."""
    x = from_source(Array(IMAGE), (4, 5, 5))
    lazy = x.map_blocks(lambda b: b - b.mean(), dtype="f4")
    expected = second_operator(lazy.compute(scheduler="sync"))
    np.testing.assert_array_equal(bigbia.window(second_operator, lazy, halo=1).compute(scheduler="sync"), expected)


def test_a_block_function_that_lies_about_its_shape_is_caught():
    lazy = da.from_array(IMAGE, chunks=4).map_blocks(lambda b: b[:1], dtype="f4")
    with pytest.raises(bigbia.errors.BlockError, match="declares block"):
        bigbia.window(second_operator, lazy, halo=1).compute(scheduler="sync")


def test_two_inputs_chunked_differently():
    a, b = (from_source(Array(IMAGE), c) for c in ((3, 4, 5), (8, 2, 3)))
    result = bigbia.window(second_operator, a - 2 * b, halo=1)
    assert len(dask.optimize(result)[0].__dask_graph__()) == result.npartitions
    np.testing.assert_array_equal(result.compute(scheduler="sync"), second_operator(IMAGE - 2 * IMAGE))


def test_a_rechunked_image_costs_no_task_more():
    x = from_source(Array(IMAGE), (3, 4, 5))
    for chunks in ((8, 9, 10), (1, 9, 2), (5, 5, 5), {0: -1}):
        y = bigbia.filters.gaussian(x.rechunk(chunks), 1)
        assert len(dask.optimize(y)[0].__dask_graph__()) == y.npartitions
        np.testing.assert_array_equal(y.compute(scheduler="sync"), bigbia.filters.gaussian(IMAGE, 1))


def test_a_node_with_two_readers_is_computed_once():
    calls = []

    def kernel(block):
        calls.append(block.shape)
        return second_operator(block)

    y = from_source(Array(IMAGE), (4, 9, 10))
    for _ in range(20):
        y = y + bigbia.window(kernel, y, halo=1)
    y.compute(scheduler="sync")
    z = bigbia.window(second_operator, y, halo=1)
    calls.clear()
    z.compute(scheduler="sync")
    assert len(calls) == 20 * z.npartitions


def test_the_same_operation_written_twice_is_one_node():
    x = from_source(Array(IMAGE), 4)
    a, b = (node_of(bigbia.filters.gaussian(x, 2) + 1)[0] for _ in range(2))
    assert a.token == b.token
    assert node_of(bigbia.filters.gaussian(x, 3) + 1)[0].token != a.token
    assert node_of(bigbia.filters.gaussian(x.rechunk(3), 2) + 1)[0].token == a.token
