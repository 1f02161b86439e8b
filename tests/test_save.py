"""What is written is what was computed: every level, shape, chunk and shard; whole or not there."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import bigbia
from bigbia.errors import RunError
from bigbia.hyperstack import hyperstack
from bigbia.io.ome_zarr import downsample, level_shapes
from bigbia.io.tables import read_table

RNG = np.random.default_rng(0)


def stack(shape=(2, 2, 9, 20, 23), axes="tczyx", chunks=(1, 2, 4, 9, 23), dtype="u2"):
    array = RNG.integers(0, 500, shape).astype(dtype)
    lazy = hyperstack(
        da.from_array(array, chunks=chunks),
        axes,
        voxel_size={"z": 1.0, "y": 0.5, "x": 0.5},
        unit="um",
        channels=["DAPI", "GFP"],
    )
    return array, lazy


@settings(max_examples=30)
@given(
    shape=st.tuples(*[st.integers(1, 33)] * 3),
    block=st.integers(1, 17),
    chunks=st.sampled_from([5, 8, 16]),
    shards=st.sampled_from([None, 1, 2, 3]),
    levels=st.integers(1, 4),
    version=st.sampled_from(["0.5", "0.4"]),
    how=st.sampled_from(["nearest", "mode"]),
)
def test_every_level_whatever_the_cut(tmp_path_factory, shape, block, chunks, shards, levels, version, how):
    path = tmp_path_factory.mktemp("save") / "a.zarr"
    image = np.random.default_rng(1).integers(0, 9, shape).astype("u2")
    labels = image.astype("u4")
    lazy = da.from_array(image, chunks=block)
    shards = (shards and version == "0.5" and chunks * shards) or None
    bigbia.save(
        path, lazy, labels={"n": da.from_array(labels, chunks=block)}, chunks=chunks, shards=shards, levels=levels, version=version,
        label_downsampling=how,
    )  # fmt: skip
    for place, whole, method in ((path, image, "mean"), (path / "labels" / "n", labels, how)):
        group = zarr.open_group(place, mode="r")
        expected, before = whole, (1, 1, 1)
        for i, (size, factors) in enumerate(level_shapes(shape, "zyx", None, levels)):
            expected = downsample(expected, tuple(f // b for f, b in zip(factors, before)), method)
            before = factors
            assert group[str(i)].shape == size
            np.testing.assert_array_equal(group[str(i)][:], expected)


def test_a_hyperstack_with_times_and_channels(tmp_path):
    import yaozarrs

    array, image = stack()
    labels = bigbia.measure.label(image > bigbia.filters.threshold_otsu(image), connectivity=1)
    table = bigbia.measure.regionprops_table(labels, image, ["label", "area", "intensity_mean"])
    path = bigbia.save(
        tmp_path / "a.zarr",
        image,
        labels={"n": labels},
        images={"blur": bigbia.filters.gaussian(image, 1)},
        tables={"n": table},
    )
    for place in (path, path / "labels" / "n", path / "images" / "blur"):
        yaozarrs.validate_zarr_store(str(place))
    again = bigbia.open(path)
    assert again.dims == tuple("tczyx")
    assert list(again.c.values) == ["DAPI", "GFP"]
    assert bigbia.hyperstack.voxel_size(again) == {"z": 1.0, "y": 0.5, "x": 0.5}
    np.testing.assert_array_equal(again.values, array)
    frame = read_table(path / "tables" / "n.parquet")
    assert len(frame) == sum(int(labels.isel(t=t, c=c).max()) for t in range(2) for c in range(2))
    pd.testing.assert_frame_equal(frame, table.compute().reset_index(drop=True))
    one = frame[(frame.t == 1) & (frame.c == "GFP")]
    cut = bigbia.filters.threshold_otsu(array[1, 1])
    alone = bigbia.measure.label(array[1, 1] > cut, connectivity=1)
    np.testing.assert_array_equal(one.area, np.bincount(alone.ravel())[1:])


def test_labels_of_one_channel_measured_in_all(tmp_path):
    array, image = stack((2, 9, 20, 23), "czyx", (1, 4, 9, 23))
    nuclei = bigbia.measure.label(image.isel(c=0) > 400)
    table = bigbia.measure.regionprops_table(nuclei, image, ["label", "intensity_mean"])
    path = bigbia.save(tmp_path / "a.zarr", labels={"n": nuclei}, tables={"n": table}, source=image)
    frame = read_table(path / "tables" / "n.parquet")
    labels = bigbia.measure.label(array[0] > 400)
    for c, name in enumerate(["DAPI", "GFP"]):
        expected = np.bincount(labels.ravel(), array[c].ravel()) / np.bincount(labels.ravel())
        np.testing.assert_allclose(frame[f"intensity_mean-{name}"], expected[1:])


def test_the_root_is_the_coarser_levels_of_the_source(tmp_path):
    array = RNG.integers(0, 500, (16, 600, 600)).astype("u2")
    image = hyperstack(
        da.from_array(array, chunks=(16, 256, 256)), "zyx", voxel_size={"z": 1.0, "y": 0.25, "x": 0.25}, unit="um"
    )
    labels = bigbia.measure.label(image > 450)
    path = bigbia.save(tmp_path / "a.zarr", labels={"n": labels}, source=image)
    root = bigbia.open(path)
    assert bigbia.hyperstack.voxel_size(root) == {"z": 1.0, "y": 0.5, "x": 0.5}
    np.testing.assert_array_equal(root.values, downsample(array, (1, 2, 2), "mean"))
    np.testing.assert_array_equal(bigbia.open(path / "labels" / "n").values, labels.values)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float32", "float64"])
def test_voxels_of_every_kind(tmp_path, dtype):
    array = (RNG.random((9, 11)) * 100 > 50).astype(dtype)
    path = bigbia.save(tmp_path / "a.zarr", da.from_array(array, chunks=4))
    np.testing.assert_array_equal(bigbia.open(path).values, array)


def test_tables_of_every_kind(tmp_path):
    labels = da.from_array(np.repeat(np.arange(5, dtype="u4"), 6).reshape(5, 6), chunks=2)
    table = bigbia.measure.regionprops_table(labels, labels, ["label", "area"])
    tables = {"lazy": table, "derived": table[table.label > 2], "eager": table.compute()}
    path = bigbia.save(tmp_path / "a.zarr", tables=tables)
    assert list(read_table(path / "tables" / "lazy.parquet").label) == [1, 2, 3, 4]
    assert list(read_table(path / "tables" / "derived.parquet").label) == [3, 4]
    assert list(read_table(path / "tables" / "eager.parquet").label) == [1, 2, 3, 4]
    path = bigbia.save(tmp_path / "b.zarr", labels={"n": labels}, tables={"n": table}, table_format="csv")
    assert list(pd.read_csv(path / "tables" / "n.csv").area) == [6, 6, 6, 6]


def test_replacing_keeps_the_old_until_the_new_is_whole(tmp_path):
    path = tmp_path / "a.zarr"
    bigbia.save(path, np.full((4, 5), 1, "u1"))
    with pytest.raises(RunError, match="overwrite"):
        bigbia.save(path, np.full((4, 5), 2, "u1"))

    def fails(block):
        raise ValueError("on purpose")

    lazy = bigbia.window(fails, da.ones((4, 5), chunks=2, dtype="u1"))
    with pytest.raises(bigbia.errors.BlockError, match="on purpose"):
        bigbia.save(path, lazy, overwrite=True)
    assert (bigbia.open(path).values == 1).all()
    bigbia.save(path, np.full((4, 5), 2, "u1"), overwrite=True)
    assert (bigbia.open(path).values == 2).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_folder_that_is_no_zarr_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match="no Zarr folder"):
        bigbia.save(tmp_path / "thesis", np.zeros((4, 5), "u1"), overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").exists()


def test_two_runs_to_one_place(tmp_path):
    from bigbia.run.partial import led

    with led(tmp_path / "a.zarr.partial"), pytest.raises(RunError, match="another run is writing"):
        bigbia.save(tmp_path / "a.zarr", np.zeros((4, 5), "u1"))


def test_a_result_opens_as_an_xarray_that_goes_on(tmp_path):
    data = RNG.integers(0, 500, (9, 20, 23)).astype("u2")
    path = bigbia.save(
        tmp_path / "a.zarr", hyperstack(data, "zyx", voxel_size={"z": 1.0, "y": 0.5, "x": 0.5}, unit="um")
    )
    image = bigbia.open(path, block=7)
    assert isinstance(image, xr.DataArray)
    blurred = bigbia.filters.gaussian(image.isel(z=slice(2, 8)), "0.5 um")
    expected = bigbia.filters.gaussian(data[2:8], (0.5, 1, 1))
    np.testing.assert_array_equal(blurred.values, expected)


VOXELS = np.random.default_rng(1).integers(0, 500, (11, 17, 23)).astype("u2")


def test_objects_and_their_labels_in_one_run(tmp_path):
    mask, values = VOXELS > 400, VOXELS
    stack = hyperstack(da.from_array(mask, chunks=5), "zyx")
    table, labels = bigbia.measure.objects(
        stack, hyperstack(da.from_array(values, chunks=4), "zyx"), return_labels=True
    )
    bigbia.save(tmp_path / "o.zarr", labels={"n": labels}, tables={"n": table})
    expected = bigbia.measure.label(mask)
    np.testing.assert_array_equal(zarr.open(tmp_path / "o.zarr/labels/n/0"), expected)
    saved = pd.read_parquet(tmp_path / "o.zarr/tables/n.parquet")
    pd.testing.assert_frame_equal(saved, bigbia.measure.regionprops_table(expected, values), check_exact=True)


def test_a_table_and_the_labels_it_filters_are_measured_once(tmp_path, monkeypatch):
    from bigbia.graph.group import Group

    calls = []
    write_part = Group.write_part
    monkeypatch.setattr(Group, "write_part", lambda self, *args: (calls.append(1), write_part(self, *args)))
    labels = bigbia.measure.label(hyperstack(da.from_array(VOXELS > 400, chunks=(11, 17, 12)), "zyx"))
    table = bigbia.measure.regionprops_table(labels)
    some = bigbia.segmentation.filter_labels(labels, table, "area > 2")
    bigbia.save(tmp_path / "o.zarr", labels={"all": labels, "some": some}, tables={"n": table})
    assert len(calls) == 2
    assert len(pd.read_parquet(tmp_path / "o.zarr/tables/n.parquet")) == int(labels.max())
    areas = bigbia.measure.regionprops_table(np.asarray(zarr.open(tmp_path / "o.zarr/labels/some/0")))["area"]
    assert areas.min() > 2
