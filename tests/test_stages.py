"""Barriers: run once, kept while something refers to them, never stale."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections import Counter

import dask
import dask.array as da
import numpy as np
import pytest
from test_contract import Array

import bigbia
from bigbia.graph import merge, rank, reduce, scratch
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack

RNG = np.random.default_rng(0)
IMAGE = RNG.random((24, 30, 28)).astype("f4")


@pytest.fixture
def counted(monkeypatch):
    """How many times each kernel ran."""
    count = Counter()

    def counting(name, function):
        def wrapper(*args, **kwargs):
            count[name] += 1
            return function(*args, **kwargs)

        return wrapper

    monkeypatch.setattr(merge, "components", counting("components", merge.components))
    import bigbia.exposure.counting as counting_module
    import bigbia.kernels.measurements as measurements

    monkeypatch.setattr(counting_module.histograms, "counts", counting("counts", counting_module.histograms.counts))
    monkeypatch.setattr(measurements, "geometry", counting("geometry", measurements.geometry))
    count.kernel = counting("smooth", smooth)
    return count


def smooth(block):
    from bigbia.kernels.gaussian import gaussian

    return gaussian(block, sigma=(2, 2, 2))


def job(count, chunks=10):
    x = from_source(Array(IMAGE, (8, 8, 8)), chunks)
    g = bigbia.window(count.kernel, x, halo=8, cost=30)
    labels = bigbia.measure.label(g > bigbia.filters.threshold_otsu(g))
    table = bigbia.measure.regionprops_table(labels, x)
    return labels, table


def test_two_slices_then_the_table_label_once(counted):
    labels, table = job(counted)
    blocks = labels.npartitions
    labels[3].compute()
    assert counted == {"smooth": blocks, "counts": blocks, "components": blocks}
    labels[20, 5:].compute()
    frame = table.compute()
    table.compute()
    assert counted == {"smooth": blocks, "counts": blocks, "components": blocks, "geometry": blocks}
    assert frame.equals(bigbia.measure.regionprops_table(labels.compute(), IMAGE))


def test_saving_then_the_table_runs_each_kernel_once_a_block(counted, tmp_path):
    labels, table = job(counted)
    blocks = labels.npartitions
    bigbia.save(tmp_path / "a.zarr", labels={"nuclei": labels})
    table.compute()
    assert counted == {"smooth": blocks, "counts": blocks, "components": blocks, "geometry": blocks}


def test_saving_both_runs_each_kernel_once_a_block(counted, tmp_path):
    labels, table = job(counted)
    blocks = labels.npartitions
    bigbia.save(tmp_path / "a.zarr", labels={"nuclei": labels}, tables={"nuclei": table}, chunks=10)
    assert counted == {"smooth": blocks, "counts": blocks, "components": blocks, "geometry": blocks}


def test_an_integer_threshold_keeps_what_it_had_to_compute(counted):
    x = from_source(Array((IMAGE * 1000).astype("u2")), 10)
    calls = []

    def slow(block):
        calls.append(1)
        return np.sort(np.stack([block, block]), axis=0)[0]

    y = bigbia.window(slow, x, cost=300)
    (y > bigbia.filters.threshold_otsu(y)).sum()
    labels = bigbia.measure.label(y > bigbia.filters.threshold_otsu(y))
    labels.compute()
    assert len(calls) == x.npartitions


def test_an_input_overwritten_between_two_opens_is_read_again(tmp_path):
    path = tmp_path / "a.zarr"
    found = []
    for value in (1, 2):
        bigbia.save(path, hyperstack(np.pad(np.full((4, 4, 4), value, "u1"), 3), "zyx"), overwrite=True)
        image = bigbia.open(path)
        labels = bigbia.measure.label(image)
        found.append(bigbia.measure.regionprops_table(labels, image).compute().intensity_mean[0])
    assert found == [1, 2]


def test_a_dask_array_of_an_overwritten_store_is_read_again(tmp_path):
    import zarr

    kept = []
    for value in (1, 2):
        zarr.create_array(tmp_path / "a.zarr", data=np.full((6, 6), value, "u1"), overwrite=True)
        kept.append(bigbia.filters.threshold_otsu(da.from_zarr(tmp_path / "a.zarr", chunks=3)))
        assert int(kept[-1].compute()) == value


def test_scratch_goes_with_the_last_reference():
    labels = bigbia.measure.label(from_source(Array(IMAGE > 0.5), 10))
    labels.compute()
    folder = scratch.session().path
    assert len([f for f in folder.iterdir() if f.is_dir()]) == 2  # the components and their numbers
    derived = labels + 1
    del labels
    gc.collect()
    assert derived.max().compute() > 1
    del derived
    gc.collect()
    assert not [f for f in folder.iterdir() if f.is_dir()]


def test_scratch_of_a_killed_process_is_swept(tmp_path):
    code = (
        "import os, signal, numpy as np, dask.array as da, bigbia\n"
        "x = bigbia.measure.label(da.from_array(np.ones((9, 9), bool), chunks=3)); x.compute()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "BIGBIA_SCRATCH": str(tmp_path / "s")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert list((tmp_path / "s").glob("session-*/*"))
    with dask.config.set({"bigbia.scratch": str(tmp_path / "s")}):
        mine = scratch.session().path
        assert list((tmp_path / "s").glob("session-*")) == [mine]


def test_a_removed_scratch_file_is_an_error_and_never_zeros():
    labels = bigbia.measure.label(from_source(Array(IMAGE > 0.5), 10))
    labels[0].compute()
    next(scratch.session().path.rglob("runs/*")).unlink()
    with pytest.raises(bigbia.errors.StorageError, match="missing"):
        labels.compute()


def test_nan_stops_otsu_naming_the_block_and_publishes_nothing(tmp_path):
    bad = IMAGE.copy()
    bad[13, 22, 5] = np.nan
    x = from_source(Array(bad), 10)
    labels = bigbia.measure.label(x > bigbia.filters.threshold_otsu(x))
    with pytest.raises(
        bigbia.errors.BlockError, match=r"nan at voxel \(13, 22, 5\), in the block z=10..19, y=20..29, x=0..9"
    ):
        labels.compute()
    with pytest.raises(bigbia.errors.BlockError, match="nan at voxel"):
        bigbia.save(tmp_path / "a.zarr", labels={"nuclei": labels})
    assert not (tmp_path / "a.zarr").exists()
    smooth = bigbia.filters.gaussian(x, 1).compute()
    np.testing.assert_array_equal(smooth, bigbia.filters.gaussian(bad, 1))
    assert np.isnan(smooth).any()


def test_a_failing_kernel_is_reported_with_its_block_and_can_be_retried(tmp_path):
    broken = [True]

    def kernel(block):
        if broken and block.shape[0] < 10:
            raise ZeroDivisionError("no luck")
        return block

    x = bigbia.window(kernel, from_source(Array(IMAGE), 10))
    labels = bigbia.measure.label(x > 0.5)
    with pytest.raises(bigbia.errors.BlockError, match=r"label, leaf at z=20..23.*no luck"):
        bigbia.save(tmp_path / "a.zarr", labels={"nuclei": labels})
    broken.clear()
    np.testing.assert_array_equal(labels.compute(), bigbia.measure.label(IMAGE > 0.5))


def test_nothing_below_a_finished_stage_is_computed_again():
    calls = []

    def block(b):
        calls.append(1)
        return b

    live = da.from_array(IMAGE, chunks=8).map_blocks(block, dtype=IMAGE.dtype)
    labels = bigbia.measure.label(live > bigbia.filters.threshold_otsu(live))
    labels.compute()
    count = len(calls)
    labels.compute()
    assert len(calls) == count


def test_the_graph_of_a_finished_stage_is_small():
    labels = bigbia.measure.label(from_source(Array(IMAGE > 0.5), 4))
    before = len(dask.optimize(labels)[0].__dask_graph__())
    labels[0].compute()
    assert len(dask.optimize(labels)[0].__dask_graph__()) <= labels.npartitions + 2 < before


def test_tasks_in_any_order_and_twice_give_the_same():
    grid = bigbia.graph.boxes.Grid(((7, 7, 10), (30,), (9, 9, 10)))
    objects = merge.Components(bigbia.graph.regions.Literal(IMAGE > 0.6), grid, merge.Rule(3))
    stage = rank.Ranks(objects, np.dtype("u4"))
    for one in (objects, stage):
        for step in one.steps:
            for index in RNG.permutation(np.array([*one.indices(step), None], object)[:-1]).tolist() * 2:
                one.run(step, tuple(index))
    got = stage.left("labels", tuple((0, n) for n in IMAGE.shape))
    np.testing.assert_array_equal(got, bigbia.measure.label(IMAGE > 0.6))


def test_live_arrays_are_computed_once_in_a_run(tmp_path):
    calls = []

    def own(block):
        calls.append(1)
        return block - block.min()

    live = da.from_array(IMAGE, chunks=10).map_blocks(own, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    smooth = bigbia.filters.median(live)
    labels = bigbia.measure.label(smooth > bigbia.filters.threshold_otsu(smooth))
    expected = labels.compute()
    calls.clear()
    bigbia.save(tmp_path / "a.zarr", labels={"n": bigbia.measure.label(smooth > 0.5)}, images={"live": live})
    assert len(calls) == live.npartitions
    assert expected.max() > 0
    np.testing.assert_array_equal(bigbia.open(tmp_path / "a.zarr/images/live").values, live.compute())


@pytest.mark.cluster
def test_client_that_drops_the_array_during_a_compute():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        x = bigbia.window(slow_copy, da.from_array(IMAGE, chunks=8), cost=100)
        labels = bigbia.measure.label(x > bigbia.filters.threshold_otsu(x))
        expected = bigbia.measure.label(bigbia.filters.threshold_otsu(IMAGE) < IMAGE)
        future = client.compute(labels)
        del labels, x
        gc.collect()
        other = bigbia.measure.label(da.from_array(IMAGE > 0.9, chunks=8))  # makes scratch look for what can go
        np.testing.assert_array_equal(future.result(), expected)
        np.testing.assert_array_equal(other.compute(), bigbia.measure.label(IMAGE > 0.9))


def slow_copy(block):
    time.sleep(0.05)
    return block.copy()


@pytest.mark.cluster
@pytest.mark.parametrize("scheduler", ["processes", "client"])
def test_saving_on_worker_processes(tmp_path, scheduler):
    bigbia.save(tmp_path / "in.zarr", hyperstack((IMAGE * 1000).astype("u2"), "zyx"), chunks=10)
    image = bigbia.open(tmp_path / "in.zarr")
    g = bigbia.filters.gaussian(image, 1)
    labels = bigbia.measure.label(g > bigbia.filters.threshold_otsu(g))
    table = bigbia.measure.regionprops_table(labels, image)
    expected = bigbia.save(tmp_path / "a.zarr", labels={"n": labels}, tables={"n": table})
    g = bigbia.filters.gaussian(image * 1, 1)
    labels = bigbia.measure.label(g > bigbia.filters.threshold_otsu(g))
    table = bigbia.measure.regionprops_table(labels, image)
    if scheduler == "client":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
            Client(cluster),
        ):
            bigbia.save(tmp_path / "b.zarr", labels={"n": labels}, tables={"n": table})
    else:
        bigbia.save(tmp_path / "b.zarr", labels={"n": labels}, tables={"n": table}, scheduler=scheduler)
    np.testing.assert_array_equal(
        bigbia.open(tmp_path / "b.zarr/labels/n").values, bigbia.open(expected / "labels/n").values
    )
    read = bigbia.io.tables.read_table
    assert read(tmp_path / "b.zarr/tables/n.parquet").equals(read(expected / "tables/n.parquet"))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_table_in_many_partitions(monkeypatch, tmp_path, sparse):
    from bigbia.graph import group

    monkeypatch.setattr(group, "VOXELS_A_PARTITION", 900)
    monkeypatch.setattr(group, "GATHER", 3)
    monkeypatch.setattr(group, "SAMPLES", 7)
    labels = bigbia.measure.label(IMAGE > 0.7, connectivity=1)
    if sparse:  # numbers far apart and uneven
        labels = labels.astype("u8") ** 3
    lazy = da.from_array(labels, chunks=9)
    table = bigbia.measure.regionprops_table(lazy, da.from_array(IMAGE, chunks=9))
    assert table.npartitions == -(-IMAGE.size // 900)
    expected = bigbia.measure.regionprops_table(labels, IMAGE)
    assert table.compute().reset_index(drop=True).equals(expected)
    sizes = table.map_partitions(len).compute()
    assert sizes.max() < 6 * len(expected) / table.npartitions
    bigbia.save(tmp_path / "a.zarr", labels={"n": lazy}, tables={"n": table})
    assert bigbia.io.tables.read_table(tmp_path / "a.zarr/tables/n.parquet").equals(expected)


def test_reduce_tree_of_many_blocks():
    array = RNG.integers(0, 1000, (300,)).astype("u2")
    assert len(reduce.tree_steps(300, 16)) == 3
    assert bigbia.filters.threshold_otsu(da.from_array(array, chunks=1)).compute() == bigbia.filters.threshold_otsu(
        array
    )
