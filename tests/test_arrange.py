"""select, stack and concat: which voxels, where they lie, and what is refused."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from test_contract import Array

import bigbia
from bigbia.arrange import concat, select, stack
from bigbia.errors import InputError, ParameterError
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.regions import Concat, Store, View
from bigbia.hyperstack import channels, hyperstack, origin, time_step, voxel_size
from bigbia.run import operators
from bigbia.run.pipeline import Pipeline

VOXELS = np.random.default_rng(0).integers(0, 999, (4, 3, 6, 20, 30)).astype("u2")
NAMES = ["DAPI", "GFP", "488"]


def image(chunks=(1, 1, 4, 8, 7)):
    array = from_source(Array(VOXELS), chunks)
    return hyperstack(
        array, "tczyx", "2, 0.5, 0.5 um", channels=NAMES, time_step=10, time_unit="s", origin={"z": 100.0}
    )


PARTS = [
    ({"c": "DAPI"}, np.s_[:, 0]),
    ({"c": 1}, np.s_[:, 1]),
    ({"c": "1"}, np.s_[:, 1]),
    ({"c": "488"}, np.s_[:, 2]),
    ({"c": 488}, np.s_[:, 2]),
    ({"c": ["GFP", "DAPI"]}, np.s_[:, [1, 0]]),
    ({"c": ["488", "DAPI", 1]}, np.s_[:, [2, 0, 1]]),
    ({"c": ["GFP"]}, np.s_[:, 1:2]),
    ({"c": "0:2"}, np.s_[:, :2]),
    ({"t": 3}, np.s_[3]),
    ({"t": "1:3"}, np.s_[1:3]),
    ({"t": "0:4:2"}, np.s_[::2]),
    ({"t": "10 s:30 s"}, np.s_[1:3]),
    ({"t": "0.5 min"}, np.s_[3]),
    ({"z": "1:5", "y": ":9", "x": "11:"}, np.s_[:, :, 1:5, :9, 11:]),
    ({"z": slice(1, 5), "y": slice(None, 9), "x": np.int64(2)}, np.s_[:, :, 1:5, :9, 2]),
    ({"y": "1:20:3", "x": slice(2, 29, 5)}, np.s_[:, :, :, 1:20:3, 2:29:5]),
    ({"z": "102 um:106 um"}, np.s_[:, :, 1:3]),
    ({"z": ":106 um"}, np.s_[:, :, :3]),
    ({"z": "0.105 mm:"}, np.s_[:, :, 3:]),
    ({"z": "103.9 um"}, np.s_[:, :, 2]),
    ({"x": "0.5 um : 3 um"}, np.s_[..., 1:6]),
    ({"t": 0, "c": "GFP", "z": "3", "y": 1, "x": 2}, (0, 1, 3, 1, 2)),
]


@pytest.mark.parametrize(("words", "index"), PARTS, ids=[str(w) for w, _ in PARTS])
@pytest.mark.parametrize("chunks", [(1, 1, 4, 8, 7), (2, 3, 6, 20, 30), (4, 2, 1, 3, 30)])
def test_the_voxels_and_where_they_lie(words, index, chunks):
    whole = image(chunks)
    found = select(whole, **words)
    np.testing.assert_array_equal(found.data.compute(scheduler="sync"), VOXELS[index])
    every = index if isinstance(index, tuple) else (index,)
    at = [slice(None)] * (5 - len(every) + 1) + list(every[1:]) if every[0] is ... else list(every)
    expected = xr.DataArray(VOXELS, whole.coords, whole.dims, name=found.name).isel(dict(zip(whole.dims, at)))
    xr.testing.assert_identical(found.compute(scheduler="sync"), expected)
    # A pipeline step says the same, also after it was written down.
    if not any(isinstance(v, (slice, np.integer)) for v in words.values()):
        step = {"op": "select", "image": "input", **words}
        pipeline = Pipeline.of({"bigbia": 1, "steps": {"part": step}, "save": {"image": "part"}})
        again = Pipeline.parse(pipeline.text).build(whole)["part"]
        assert again.data.name == found.data.name


def test_a_view_is_looked_through_and_one_task_a_block():
    part = select(image(), c="GFP", t="1:3", z="0:5")
    node, _, why = node_of(part.data)
    assert not why
    assert isinstance(node, View)
    assert isinstance(node.child, Store)
    smooth = bigbia.filters.gaussian(part, 1)
    (optimised,) = dask.optimize(smooth.data)
    assert len(optimised.__dask_graph__()) == smooth.data.npartitions
    assert not bigbia.explain(smooth).cuts
    both = stack([select(image(), c="GFP"), select(image(), c="DAPI")])
    node, _, why = node_of(both.data)
    assert isinstance(node, Concat)
    assert not why


def test_only_the_part_is_read():
    source = Array(VOXELS, chunks=(1, 1, 6, 20, 30))
    whole = hyperstack(from_source(source, (1, 1, 6, 20, 30)), "tczyx", channels=NAMES)
    select(whole, t=2, c="GFP").compute(scheduler="sync")
    assert source.reads == 1


def test_hundred_thousand_blocks_are_built_at_once():
    import time

    array = from_source(Array(np.zeros((1, 1, 1), "u1")), 1)

    class Large:
        shape, dtype, chunks, token = (3000, 3000, 3000), np.dtype("u1"), (64, 64, 64), "large"

    start = time.process_time()
    part = select(hyperstack(from_source(Large(), 64), "zyx", 1), z="100:2900")
    both = stack([part, part], axis="c", names=["a", "b"])
    concat([select(both, x="0:1000"), select(both, x="1000:3000")], "x")
    assert time.process_time() - start < 2
    assert array.npartitions == 1


def test_a_filter_sees_nothing_beyond_the_part():
    part = select(image(), t=0, c=0, z="1:5", x="5:25")
    expected = bigbia.filters.gaussian(np.ascontiguousarray(VOXELS[0, 0, 1:5, :, 5:25]), 1.5)
    np.testing.assert_array_equal(bigbia.filters.gaussian(part, 1.5), expected)


def test_plain_arrays():
    voxels = VOXELS[0, 0]
    for array in (voxels, da.from_array(voxels, chunks=(2, 7, 11))):
        part = select(array, z="1:3", x=4)
        assert type(part) is type(array)
        np.testing.assert_array_equal(part, voxels[1:3, :, 4])
    with pytest.raises(ParameterError, match="select: a plain array of 5 axes has no names"):
        select(VOXELS, x=1)


REFUSED = [
    ({}, "nothing is asked for: .* there are t, c, z, y, x"),
    ({"z": 6}, "z=6: is outside; z has 6 voxels, 0 to 5"),
    ({"z": -1}, "z=-1: is outside: places count from 0; z has 6 voxels"),
    ({"z": "5:7"}, "z='5:7': is outside; z has 6 voxels, 0:6"),
    ({"z": "3:3"}, "z='3:3': is empty"),
    ({"z": "4:2"}, "z='4:2': is empty"),
    ({"z": slice(-3, None)}, "is outside; z has 6 voxels"),
    ({"z": "0:4:0"}, "steps are 1 or more"),
    ({"z": "top"}, "'top': is no part of an axis: write 3"),
    ({"z": "10:50 um"}, "with a unit at both ends"),
    ({"z": "10 s:50 s"}, "'s' is no unit of length"),
    ({"z": "10 um:50 um"}, "holds no voxel; z has voxels from 100 to 110 micrometer"),
    ({"z": "1 um"}, "is outside; z has voxels from 100 to 110 micrometer"),
    ({"z": "1e999 um"}, "is no place: give a finite number"),
    ({"z": "9" * 5000}, "is no part of an axis"),
    ({"z": "1:" + "9" * 5000}, "is no part of an axis|with a unit at both ends"),
    ({"z": [1, 2]}, r"z=\[1, 2\]: must be 3, \"100:200\" or a slice"),
    ({"z": True}, "z=True: must be 3"),
    ({"z": slice("1 um", "2 um")}, 'write lengths in one text: "1 um:2 um"'),
    ({"z": slice(0.5, 2)}, "whole numbers"),
    ({"c": "dapi"}, "c='dapi': there is no such channel: did you mean 'DAPI'"),
    ({"c": "mCherry"}, "there is no such channel: known: 488, DAPI, GFP"),
    ({"c": 3}, "c=3: is outside; c has 3 voxels, 0 to 2, the channels DAPI, GFP, 488"),
    ({"c": []}, "is empty: name one channel or more"),
    ({"c": ["DAPI", 0]}, "channel 0 is there twice"),
    ({"c": ["DAPI", "0:2"]}, "must be a list of channels"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[str(w)[:60] for w, _ in REFUSED])
def test_select_refuses(words, said):
    with pytest.raises(ParameterError, match=said):
        select(image(), **words)


def test_select_refuses_axes_and_units_that_are_not_there():
    plane = hyperstack(VOXELS[0, 0, 0], "yx")
    with pytest.raises(ParameterError, match="z=3: the image has no axis z: it has y, x"):
        select(plane, z=3)
    with pytest.raises(ParameterError, match="the image has no length along y: give voxels, as in 100:200"):
        select(plane, y="1 um:2 um")
    with pytest.raises(ParameterError, match="the channels have no names: give a number"):
        select(hyperstack(VOXELS[0], "czyx"), c="DAPI")
    with pytest.raises(InputError, match="empty"):
        select(plane[:0], x=1)


def test_channels_taken_apart_and_put_together_again():
    whole = image()
    parts = [select(whole, c=name) for name in NAMES]
    again = stack(parts, "c")
    np.testing.assert_array_equal(again, whole)
    assert again.dims == whole.dims
    assert channels(again) == tuple(NAMES)
    assert voxel_size(again) == voxel_size(whole)
    assert origin(again) == origin(whole)
    assert channels(stack(parts[:2], "c", names=["nuclei", "cells"])) == ("nuclei", "cells")


def test_times_and_slices_taken_apart_and_put_together_again():
    whole = image()
    xr.testing.assert_equal(stack([select(whole, t=t) for t in range(4)], "t").compute(), whole.compute())
    xr.testing.assert_equal(stack([select(whole, z=z) for z in range(6)], "z").compute(), whole.compute())
    xr.testing.assert_equal(concat([select(whole, t="0:1"), select(whole, t="1:4")], "t").compute(), whole.compute())
    parts = [select(whole, x="0:11"), select(whole, x="11:29"), select(whole, x="29:")]
    xr.testing.assert_equal(concat(parts, "x").compute(), whole.compute())
    parts = [select(whole, c=["DAPI"]), select(whole, c="1:")]
    xr.testing.assert_equal(concat(parts, "c").compute(), whole.compute())
    every_second = stack([select(whole, t=0), select(whole, t=2)], "t")
    assert time_step(every_second) == (20, "second")


def test_dtypes_that_differ_are_widened_without_loss():
    small = hyperstack(from_source(Array(VOXELS[0, 0]), 5), "zyx")
    both = stack([small, small > 500], "c", names=["image", "mask"])
    assert both.dtype == np.uint16
    np.testing.assert_array_equal(both, np.stack([VOXELS[0, 0], VOXELS[0, 0] > 500]))
    with pytest.raises(ParameterError, match=r"float32 and int64 have no dtype that holds .* 1.0 \* image"):
        stack([small.astype("i8"), small.astype("f4")], "c")


def test_stack_and_concat_refuse():
    whole = image()
    plane = select(whole, t=0, c=0)
    with pytest.raises(ParameterError, match=r"stack: images=\[\]: is empty"):
        stack([])
    with pytest.raises(ParameterError, match="must be a list of images"):
        stack(plane)
    with pytest.raises(ParameterError, match=r"images\[1\] is \(5, 20, 30\), images\[0\] is \(6, 20, 30\)"):
        stack([plane, select(plane, z="0:5")])
    with pytest.raises(ParameterError, match=r"along x images\[1\] begins at 0.5, images\[0\] at 0"):
        stack([select(plane, x="0:5"), select(plane, x="1:6")])
    with pytest.raises(ParameterError, match=r"axis='c': the images have an axis c: use concat"):
        stack([whole, whole], "c")
    with pytest.raises(ParameterError, match="'y' is not known"):
        stack([plane, plane], "y")
    with pytest.raises(ParameterError, match=r"names=\['a'\]: 1 names for 2 images"):
        stack([plane, plane], "c", names=["a"])
    with pytest.raises(ParameterError, match="'a' is there twice"):
        stack([plane, plane], "c", names=["a", "a"])
    with pytest.raises(ParameterError, match="only channels have names, the axis is t"):
        stack([plane, plane], "t", names=["a", "b"])
    other = hyperstack(plane.data, "zyx", "2, 0.5, 0.25 um", origin={"z": 100.0})
    with pytest.raises(ParameterError, match=r"along x images\[1\] has voxels of 0.25 micrometer, images\[0\] of 0.5"):
        stack([plane, other])
    with pytest.raises(ParameterError, match=r"a voxel of images\[1\] is 0.25 micrometer"):
        concat([plane, other], "x")
    with pytest.raises(ParameterError, match=r"images\[1\] begins at 30, where images\[0\] goes on at 20"):
        concat([select(whole, t="0:2"), select(whole, t="3:4")], "t")
    with pytest.raises(ParameterError, match="channel 'DAPI' is there twice"):
        concat([whole, whole], "c")
    with pytest.raises(ParameterError, match=r"axis='c': the images have no axis c: they have z, y, x"):
        concat([plane, plane], "c")
    with pytest.raises(ParameterError, match=r"images\[1\] has 5 voxels along z, images\[0\] has 6"):
        concat([plane, select(plane, z="0:5")], "x")
    with pytest.raises(ParameterError, match="all must be of one kind"):
        stack([plane, VOXELS[0, 0]])


def test_in_a_pipeline():
    text = """bigbia: 1
steps:
  nuclei: {op: select, image: input, c: DAPI, z: 1:5}
  other: {op: bigbia.select, image: input, c: GFP, z: 1:5}
  both: {op: stack, images: [nuclei, other], axis: c, names: [n, o]}
save: {image: both}
"""
    pipeline = Pipeline.parse(text).override(["nuclei.z=2:6", "other.z=2:6"])
    np.testing.assert_array_equal(pipeline.build(image())["both"], VOXELS[:, :2, 2:6])
    with pytest.raises(ParameterError, match="step 'nuclei': select has no parameter 'w'"):
        Pipeline.parse(text.replace("z: 1:5}", "w: 1}"))
    with pytest.raises(ParameterError, match=r"step 'nuclei': select: c='DAP1': there is no such channel"):
        Pipeline.parse(text.replace("DAPI", "DAP1")).build(image())


def test_their_names_are_found():
    assert {"select", "stack", "concat"} <= set(operators.operators())
    for word in ("select", "bigbia.select", "arrange.select"):
        assert operators.find(word) == ("select", select)
    assert operators.manual("select", select).startswith("bigbia.select(image, *, t=None")


def test_lengths_along_an_axis_that_runs_down():
    down = image().isel(z=slice(None, None, -1))
    part = select(down, z="102 um:106 um")
    np.testing.assert_array_equal(part, VOXELS[:, :, 1:3][:, :, ::-1])
    np.testing.assert_array_equal(part.z, [104, 102])
    np.testing.assert_array_equal(select(down, z="103.9 um"), VOXELS[:, :, 2])
    both = concat([select(down, z="0:2"), select(down, z="2:6")], "z")
    np.testing.assert_array_equal(both.z, down.z)


def test_display_goes_with_the_channels():
    whole = image()
    whole.encoding["display"] = {"DAPI": {"color": "0000FF"}, "GFP": {"color": "00FF00"}}
    assert select(whole, c="DAPI").encoding["display"] == {"": {"color": "0000FF"}}
    assert select(whole, c=["GFP", "488"]).encoding["display"] == {"GFP": {"color": "00FF00"}}
    assert select(whole, z=1).encoding["display"] == whole.encoding["display"]
