"""Peaks: those of scikit-image in its order, however the image is cut; rounds between blocks; what is refused."""

from __future__ import annotations

import math
import time
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from strategies import random_cuts
from test_contract import Array, check_refused

import bigbia
from bigbia.errors import BigbiaError, BigbiaWarning
from bigbia.graph import greedy
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.stages import stages_of
from bigbia.graph.table import table_graph
from bigbia.hyperstack import hyperstack
from bigbia.run.execute import execute

RNG = np.random.default_rng(0)
peaks = bigbia.feature.peak_local_max


def places(table):
    """The places of a table, an array as scikit-image's."""
    return table[[c for c in table.columns if c.startswith("axis-")]].to_numpy()


def cut(rng, array):
    return da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape))


def rounds_of(array):
    return [s for s in stages_of([node_of(array)[0]]) if isinstance(s, greedy.Greedy)]


# ---- scikit-image ----------------------------------------------------------------------------------------------------
def random_image(rng):
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, {1: 60, 2: 22, 3: 10, 4: 6}[ndim], ndim))
    kind = rng.integers(0, 4)
    if kind == 0:
        image = rng.integers(0, 4, shape)
    elif kind == 1:
        image = rng.random(shape) * 200
    elif kind == 2:
        image = (ndi.gaussian_filter(rng.random(shape), 1) * 30).round()
    else:
        image = np.where(rng.random(shape) < 0.1, 5, rng.integers(0, 3))
    dtype = np.dtype(str(rng.choice(["uint8", "int16", "int32", "uint64", "float32", "float64"])))
    image = image.astype(dtype)
    return image if dtype.kind == "u" else image - dtype.type(20)


def random_arguments(rng, image):
    ndim, some = image.ndim, rng.random(5) < 0.3
    words = {"min_distance": int(rng.integers(1, 5)), "p_norm": float(rng.choice([1, 2, np.inf]))}
    widths = rng.integers(0, 3, ndim).tolist()
    words["exclude_border"] = [True, False, widths[0], tuple(widths)][rng.integers(0, 4)]
    if some[0]:
        words["threshold_abs"] = rng.choice([3, 0.5, 10, 2 if image.dtype.kind == "u" else -30]).item()
    if some[1]:
        words["threshold_rel"] = float(rng.choice([0.1, 0.5, 0.9]))
    if some[2]:
        words["num_peaks"] = int(rng.integers(0, 6))
    if some[3]:
        words["footprint"] = rng.random(rng.integers(1, 6, ndim)) < 0.6
        words["footprint"].flat[0] |= not words["footprint"].any()
    return words


def labelled_arguments(rng, image, words):
    labels = rng.integers(0, 4, image.shape)
    if rng.random() < 0.5:
        labels = (ndi.gaussian_filter(rng.random(image.shape), 1.5) * 40).astype(int) % 5
    words["labels"] = labels > 0 if rng.random() < 0.2 else labels.astype(rng.choice(["uint8", "int32"]))
    if rng.random() < 0.5:
        words["num_peaks_per_label"] = int(rng.integers(0, 4))
    if "footprint" in words:  # one without gaps
        ball = ndi.generate_binary_structure(image.ndim, int(rng.integers(1, image.ndim + 1)))
        words["footprint"] = ball if rng.random() < 0.6 else np.ones(rng.integers(1, 5, image.ndim), bool)
    return words


def check_random_cases(count, seed):
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        image = random_image(rng)
        words = random_arguments(rng, image)
        if k % 2:
            words = labelled_arguments(rng, image, words)
        expected = peak_local_max(image, **words).reshape(-1, image.ndim)
        said = f"{image.shape} {image.dtype} {words}"
        eager = peaks(image, **words)
        np.testing.assert_array_equal(eager, expected, err_msg=said)
        assert eager.dtype == np.int64
        markers = peaks(image, **words, output="markers")
        lazy = dict(words)
        if "labels" in words and rng.random() < 0.7:
            lazy["labels"] = cut(rng, words["labels"])
        blocks = cut(rng, image)
        table = peaks(blocks, **lazy).compute(scheduler="sync")
        np.testing.assert_array_equal(places(table), expected, err_msg=f"{said} {blocks.chunks}")
        np.testing.assert_array_equal(table.intensity, image[tuple(expected.T)])
        assert table.intensity.dtype == image.dtype
        got = peaks(blocks, **lazy, output="markers")
        assert got.dtype == markers.dtype == np.uint32
        np.testing.assert_array_equal(got.compute(scheduler="sync"), markers, err_msg=f"{said} {blocks.chunks}")
        np.testing.assert_array_equal(markers[tuple(expected.T)], table.label)
        np.testing.assert_array_equal(markers[markers > 0], np.arange(1, len(table) + 1))  # in raster order


quietly = pytest.mark.filterwarnings("ignore")  # of footprints of one voxel, which scikit-image warns of too


@quietly
def test_random_cases():
    check_random_cases(15, 0)


@quietly
def test_random_cases_in_partitions(partitions):
    check_random_cases(6, 1)


@quietly
@pytest.mark.slow
def test_many_random_cases():
    check_random_cases(3000, 2)


def test_many_peaks():
    """More than scikit-image thins out at once, it does so in batches."""
    image = RNG.integers(0, 9, (300, 290)).astype("u2")
    for words in ({"min_distance": 2}, {"min_distance": 3, "p_norm": 2}, {"min_distance": 2, "num_peaks": 2500}):
        expected = peak_local_max(image, **words)
        assert len(expected) >= 2500
        np.testing.assert_array_equal(peaks(image, **words), expected)
        np.testing.assert_array_equal(places(peaks(da.from_array(image, chunks=(70, 90)), **words).compute()), expected)


def test_equal_peaks_at_the_distance_stay_and_nearer_ones_go():
    """Over a corner of four blocks; 5 apart in x and y is nearer than 8 by the Euclidean distance, 6 is not."""
    for apart, words, both in ((4, {}, False), (5, {}, True), (5, {"p_norm": 2, "min_distance": 8}, False)):
        image = np.zeros((12, 13), "f4")
        image[3, 3] = image[3 + apart, 3 + apart] = 7
        words = {"min_distance": 5, "exclude_border": False, **words}
        for chunks in (13, 5, 3, 1):
            found = places(peaks(da.from_array(image, chunks=chunks), **words).compute())
            np.testing.assert_array_equal(found, peak_local_max(image, **words))
            assert len(found) == 1 + both


def test_distances_that_are_not_whole_numbers():
    image = np.zeros(40)
    image[[10, 12, 20, 23]] = 1
    assert peaks(image, 2.5).ravel().tolist() == [10, 20, 23]
    assert peaks(da.from_array(image, chunks=3), 3.01).compute()["axis-0"].tolist() == [10, 20]
    for p in (3, 1.5):  # by the p-norm itself, without the rounding of its root: 4 is not below 4
        image = np.zeros((20, 20))
        image[8, 8] = image[12, 8] = 1
        assert len(peaks(image, 4, p_norm=p)) == 2
        assert len(peaks(image, 4.1, p_norm=p)) == 1
    assert len(peaks(image, 4.1, p_norm=1e9)) == 1  # no overflow


# ---- images without peaks --------------------------------------------------------------------------------------------
def test_an_image_of_one_value_has_none():
    for image in (np.full((9, 8), 3, "u1"), np.zeros((9, 8), "f4")):
        for words in ({}, {"threshold_abs": -1}, {"threshold_abs": -1, "exclude_border": False, "min_distance": 3}):
            assert peaks(image, **words).shape == (0, 2)
            assert len(peaks(da.from_array(image, chunks=3), **words)) == 0
            assert not peaks(da.from_array(image, chunks=3), **words, output="markers").any().compute()
    for words in ({"threshold_abs": 2}, {}):  # one voxel: above the threshold or not
        one = np.array([[3]])
        assert len(peaks(one, exclude_border=False, **words)) == len(words)
        assert len(peaks(da.from_array(one), exclude_border=False, **words)) == len(words)


def test_labels_without_voxels():
    image = RNG.random((9, 8, 7))
    labels = np.zeros(image.shape, "u1")
    assert peaks(image, labels=labels).shape == (0, 3)
    assert len(peaks(da.from_array(image, chunks=4), labels=labels)) == 0


def test_the_lowest_value_of_a_dtype_comes_last():
    """Where scikit-image negates what has no negative, and puts it first."""
    image = np.array([0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0], "u1")
    found = peaks(image, 2, threshold_abs=-1, exclude_border=False).ravel()
    assert (
        found.tolist() == peak_local_max(image.astype(int), 2, threshold_abs=-1, exclude_border=False).ravel().tolist()
    )
    assert found[:2].tolist() == [7, 3]


def test_infinite_voxels():
    image = RNG.random((20, 20))
    image[5, 5], image[9, 12], image[0, 0] = np.inf, np.inf, -np.inf
    expected = peak_local_max(image, 2, threshold_abs=0.5)
    assert expected[0].tolist() == [5, 5]
    np.testing.assert_array_equal(peaks(image, 2, threshold_abs=0.5), expected)
    np.testing.assert_array_equal(
        places(peaks(da.from_array(image, chunks=6), 2, threshold_abs=0.5).compute()), expected
    )


# ---- physical lengths ------------------------------------------------------------------------------------------------
def stack_of(array, chunks=5, size="1, 0.25, 0.25 um"):
    return hyperstack(da.from_array(array, chunks=chunks), "zyx", voxel_size=size)


def greedy_by_hand(image, half, near):
    """Best first by definition: highest of a box, above the lowest, then those that nothing better is near."""
    box = ndi.maximum_filter(image, [2 * h + 1 for h in half], mode="nearest")
    at = np.argwhere((image == box) & (image > image.min()))
    inside = ((at >= half) & (at < np.array(image.shape) - half)).all(axis=1)
    at = at[inside]
    at = at[np.argsort(-image[tuple(at.T)], kind="stable")]
    out = []
    for p in at:
        if not any(near(np.abs(p - q)) for q in out):
            out.append(p)
    return np.array(out).reshape(-1, image.ndim)


@pytest.mark.parametrize("p_norm", [1, 2, np.inf])
def test_a_length_goes_by_the_voxel_size(p_norm):
    image = RNG.integers(0, 6, (9, 24, 22)).astype("u1")
    size = np.array([1, 0.25, 0.25])
    expected = greedy_by_hand(image, (1, 4, 4), lambda d: np.linalg.norm(d * size, p_norm) < 1)
    other = greedy_by_hand(image, (1, 5, 5), lambda d: np.linalg.norm(d * size, p_norm) < 1.3)
    assert len(expected) > 3
    stack = stack_of(image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for words in ({"min_distance": "1 um"}, {"min_distance": "1000 nm"}, {"min_distance": 1, "sampling": "um"}):
            np.testing.assert_array_equal(places(peaks(stack, p_norm=p_norm, **words).compute()), expected)
        np.testing.assert_array_equal(peaks(image, 1, p_norm=p_norm, sampling=size), expected)
        np.testing.assert_array_equal(places(peaks(stack, "1.3 um", p_norm=p_norm).compute()), other)


def test_decimal_sizes_do_what_they_say():
    """0.3 is three times 0.1, and no nearer."""
    image = np.zeros(30)
    image[[10, 13]] = 1
    assert len(peaks(image, 0.3, sampling=0.1)) == 2
    assert len(peaks(image, 0.301, sampling=0.1)) == 1
    assert peaks(image, 0.3, sampling=0.1, exclude_border=True).ravel().tolist() == peaks(image, 3).ravel().tolist()


def test_voxels_that_are_no_cubes_are_a_warning():
    stack = stack_of(RNG.random((4, 8, 8)))
    with pytest.warns(BigbiaWarning, match=r"4 times as long along z.*sampling"):
        peaks(stack, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peaks(stack, 2, sampling=1)
        peaks(stack, footprint=3)
        peaks(stack_of(RNG.random((4, 8, 8)), size="1 um"), 2)


def test_less_than_a_voxel_is_a_warning():
    image = RNG.random((6, 7))
    with pytest.warns(BigbiaWarning, match=r"min_distance=0 is less than a voxel"):
        found = peaks(image, 0, threshold_abs=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(found, peak_local_max(image, 0, threshold_abs=0.5))


# ---- lazily ----------------------------------------------------------------------------------------------------------
def smooth(seed, shape=(48, 48)):
    return (ndi.gaussian_filter(np.random.default_rng(seed).random(shape), 2) * 1000).astype("u2")


def test_a_table_and_markers_are_found_once(monkeypatch):
    started = []
    start = greedy.Greedy.start

    def counted(self, index, blocks):
        started.append(index)
        start(self, index, blocks)

    monkeypatch.setattr(greedy.Greedy, "start", counted)
    source = Array(smooth(1), (12, 12))
    image = from_source(source, 12)
    table, markers = peaks(image, 3), peaks(image, 3, output="markers")
    assert source.reads == 0
    np.testing.assert_array_equal(places(table.compute()), peak_local_max(source.array, 3))
    assert len(started) == 16
    assert (markers.compute() > 0).sum() == len(table)
    assert len(started) == 16


def test_times_and_channels():
    array = RNG.integers(0, 99, (2, 3, 11, 12)).astype("u1")
    stack = hyperstack(da.from_array(array, chunks=(1, 2, 5, 5)), "tcyx", channels=["a", "b", "d"])
    labels = hyperstack(da.from_array(array % 3, chunks=4), "tcyx").transpose("c", "y", "t", "x")
    for words in ({"num_peaks": 4}, {"labels": labels, "exclude_border": False}):
        table = peaks(stack, 2, **words).compute()
        markers = peaks(stack, 2, **words, output="markers")
        assert markers.dims == stack.dims
        assert list(markers.c.values) == ["a", "b", "d"]
        for t in range(2):
            for c, name in enumerate("abd"):
                plain = {**words, **({"labels": array[t, c] % 3} if "labels" in words else {})}
                mine = table[(table.t == t) & (table.c == name)]
                np.testing.assert_array_equal(places(mine), peak_local_max(array[t, c], 2, **plain))
                np.testing.assert_array_equal(markers[t, c], peaks(array[t, c], 2, **plain, output="markers"))


def test_an_image_that_is_computed_and_live_blocks():
    array = RNG.random((30, 31))
    lazy = bigbia.filters.gaussian(da.from_array(array, chunks=7), 2)
    np.testing.assert_array_equal(places(peaks(lazy, 2).compute()), peak_local_max(lazy.compute(), 2))
    live = da.from_array(array, chunks=6).map_blocks(lambda b: b * 2, dtype=float)
    np.testing.assert_array_equal(places(peaks(live, 2).compute()), peak_local_max(array * 2, 2))


def test_objects_apart_by_their_distance_peaks():
    """What markers are for."""
    y, x = np.indices((60, 70))
    mask = ((y - 30) ** 2 + (x - 22) ** 2 < 200) | ((y - 30) ** 2 + (x - 44) ** 2 < 200)
    lazy = da.from_array(mask, chunks=16)
    markers = peaks(bigbia.morphology.distance_transform_edt(lazy), 8, labels=lazy, output="markers").compute()
    assert markers.max() == 2
    expected = peak_local_max(ndi.distance_transform_edt(mask), 8, labels=mask)
    assert (markers[tuple(expected.T)] > 0).all()


def test_saved_and_in_a_pipeline(tmp_path):
    from bigbia.run.pipeline import Pipeline

    array = smooth(3, (20, 30, 31))
    stack = stack_of(array, 11, "0.5 um")
    steps = {
        "spots": {"op": "feature.peak_local_max", "image": "input", "min_distance": "1 um"},
        "seeds": {"op": "feature.peak_local_max", "image": "input", "min_distance": "1 um", "output": "markers"},
    }
    document = {"bigbia": 1, "steps": steps, "save": {"labels": {"seeds": "seeds"}, "tables": {"spots": "spots"}}}
    pipeline = Pipeline.of(document, "spots")
    outputs = pipeline.outputs(pipeline.build(stack))
    path = bigbia.save(tmp_path / "o.zarr", labels=outputs["labels"], tables=outputs["tables"])
    expected = peak_local_max(array, 2)
    import pandas as pd

    table = pd.read_parquet(tmp_path / "o.zarr" / "tables" / "spots.parquet")
    np.testing.assert_array_equal(places(table), expected)
    seeds = np.asarray(bigbia.open(f"{path}/labels/seeds"))
    np.testing.assert_array_equal(seeds[tuple(expected.T)], table.label)
    assert (seeds > 0).sum() == len(expected)


def test_explain():
    lines = str(bigbia.explain(peaks(da.from_array(smooth(4), chunks=16), 3)))
    assert "peaks" in lines
    assert "range" in lines


# ---- rounds ----------------------------------------------------------------------------------------------------------
def test_points_in_any_order_of_rounds_are_those_of_one_pass():
    """The stage itself: points of any value anywhere, of groups, in blocks smaller than the reach."""
    rng = np.random.default_rng(5)
    for p in (1, 2, math.inf):
        shape = (9, 10)
        values, groups = rng.integers(0, 5, shape), rng.integers(0, 2, shape)
        spacing = greedy.Spacing((1.0, 1.5), 4.0, p)
        image = np.stack([values, groups], axis=-1)
        want = spacing.spaced(_points([image], ((0, 9), (0, 10), (0, 2)), ())[0], shape)
        for chunks in (10, 4, 1):
            node, *_ = node_of(from_source(Array(values * 2 + groups), chunks))
            grid = greedy.Grid.regular(shape, (chunks, chunks))
            stage = greedy.Found("points", [node], [], grid, spacing, _points_of_sum)
            execute([stage], scheduler="threads")
            got = greedy.join([stage.points(i) for i in grid.indices()])
            assert sorted(got["place"].tolist()) == sorted(want["place"].tolist())


def _points_of_sum(blocks, box, values):
    return _points([np.stack([blocks[0] // 2, blocks[0] % 2], axis=-1)], box, values)


def _points(blocks, box, values):
    at = np.indices(blocks[0].shape[:2]).reshape(2, -1)
    place = (at[0] + box[0][0]) * 10 + at[1] + box[1][0]
    order = (9 - blocks[0][..., 0].ravel()).astype(np.uint64)
    return {"place": place, "order": order, "group": blocks[0][..., 1].ravel().astype(np.uint64)}, False, False


def plateau(length):
    image = np.zeros((3, length), "u1")
    image[1, 4:-4] = 9
    return image


ALL = {"min_distance": 4, "exclude_border": False, "footprint": np.ones((1, 1), bool)}  # all voxels above the lowest


def ramp(length):
    """Higher to the right: each block waits for the one after it, which blocks taken one after the other do not help."""
    image = np.zeros((3, length), "u2")
    image[1] = np.arange(length)
    return image


def test_a_plateau_through_many_blocks():
    image = plateau(300)
    lazy = peaks(da.from_array(image, chunks=(3, 5)), 4, exclude_border=False, output="markers")
    np.testing.assert_array_equal(np.argwhere(lazy.compute()), peak_local_max(image, 4, exclude_border=False))


def test_a_ramp_through_many_blocks():
    image = ramp(300)
    lazy = peaks(da.from_array(image, chunks=(3, 5)), **ALL, output="markers")
    expected = peak_local_max(image, **ALL)
    np.testing.assert_array_equal(np.argwhere(lazy.compute()), expected[::-1])
    (stage,) = rounds_of(lazy)
    assert len(stage.rounds) > 20
    assert stage.rounds[0] == 60
    assert max(stage.rounds[2:]) < 20  # only where something changed


def test_peaks_without_equals_take_no_rounds():
    image = ndi.gaussian_filter(RNG.random((40, 40)), 2)
    lazy = peaks(da.from_array(image, chunks=10), 3, output="markers")
    np.testing.assert_array_equal(np.argwhere(lazy.compute()), sorted(peak_local_max(image, 3).tolist()))
    (stage,) = rounds_of(lazy)
    assert stage.rounds == [16]


def test_a_driver_that_fails_stops_and_the_next_goes_on(monkeypatch):
    image = ramp(200)
    lazy = peaks(da.from_array(image, chunks=(3, 5)), **ALL, output="markers")
    (stage,) = rounds_of(lazy)
    steps, fail = [], [60]
    step = greedy.Greedy.step

    def failing(self, index):
        steps.append(index)
        out = step(self, index)
        if len(steps) == fail[0]:
            raise OSError("no luck")  # after it was done: what it said to others must not be lost
        return out

    monkeypatch.setattr(greedy.Greedy, "step", failing)
    for _ in range(3):
        with dask.config.set({"bigbia.threads": 1}), pytest.raises(BigbiaError, match="no luck"):
            execute([stage], scheduler="threads")
        fail[0] += 7
    done = stage.rounds
    assert done[0] == 40
    time.sleep(0.1)
    fail[0] = 0
    execute([stage], scheduler="threads")
    assert stage.rounds[: len(done)] == done  # complete rounds were not done again
    np.testing.assert_array_equal(np.argwhere(lazy.compute()), peak_local_max(image, **ALL)[::-1])


def test_a_stop_mark_ends_a_driver(monkeypatch):
    image = ramp(100)
    lazy = peaks(da.from_array(image, chunks=(3, 5)), **ALL, output="markers")
    (stage,) = rounds_of(lazy)
    step, steps = greedy.Greedy.step, []

    def counted(self, index):
        steps.append(index)
        if len(steps) == 25:
            self.stop()
        return step(self, index)

    monkeypatch.setattr(greedy.Greedy, "step", counted)
    with dask.config.set({"bigbia.threads": 1}), pytest.raises(BigbiaError, match="stopped"):
        execute([stage], scheduler="threads")
    assert len(steps) == 25
    np.testing.assert_array_equal(np.argwhere(lazy.compute()), peak_local_max(image, **ALL)[::-1])


@pytest.mark.cluster
def test_the_rounds_run_on_the_workers():
    from distributed import Client, LocalCluster

    image = ramp(60)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster),
    ):
        table = peaks(da.from_array(image, chunks=(3, 6)), **ALL).compute()
    np.testing.assert_array_equal(places(table), peak_local_max(image, **ALL))


# ---- bad input -------------------------------------------------------------------------------------------------------
A = np.zeros((6, 7), "u1")
REFUSED = {
    "a negative distance": (lambda a: peaks(a, -1), "min_distance=-1"),
    "no distance": (lambda a: peaks(a, True), "min_distance=True"),
    "any distance": (lambda a: peaks(a, np.inf), "num_peaks=1"),
    "no unit": (lambda a: peaks(a, "2"), "min_distance='2'"),
    "no voxel size": (lambda a: peaks(a, "2 um"), "min_distance='2 um': the image has no voxel size"),
    "two lengths": (lambda a: peaks(a, "2, 3 um", sampling="um"), "no voxel size"),
    "a length and a size": (lambda a: peaks(a, "2 um", sampling=2), "leave out sampling=2"),
    "sizes": (lambda a: peaks(a, 2, sampling=(1, 2, 3)), "sampling=(1, 2, 3)"),
    "a size of 0": (lambda a: peaks(a, 2, sampling=0), "sampling=0"),
    "a threshold": (lambda a: peaks(a, threshold_abs="high"), "threshold_abs='high'"),
    "not a number": (lambda a: peaks(a, threshold_abs=np.nan), "threshold_abs=nan"),
    "no fraction": (lambda a: peaks(a, threshold_rel=np.inf), "threshold_rel=inf"),
    "a lazy threshold": (lambda a: peaks(a, threshold_abs=da.zeros(())), "compute()"),
    "a border": (lambda a: peaks(a, exclude_border=-2), "exclude_border=-2"),
    "borders": (lambda a: peaks(a, exclude_border=(1, 2, 3)), "exclude_border=(1, 2, 3)"),
    "half a voxel": (lambda a: peaks(a, exclude_border=(1, 0.5)), "exclude_border=(1, 0.5)"),
    "a number": (lambda a: peaks(a, num_peaks=-1), "num_peaks=-1"),
    "half a peak": (lambda a: peaks(a, num_peaks_per_label=1.5), "num_peaks_per_label=1.5"),
    "an empty footprint": (lambda a: peaks(a, footprint=np.zeros((3, 3))), "empty"),
    "another rank": (lambda a: peaks(a, footprint=np.ones((3, 3, 3))), "3 axes"),
    "a footprint with gaps": (lambda a: peaks(a, footprint=[[1, 0, 1]], labels=A), "gaps"),
    "a norm": (lambda a: peaks(a, p_norm=0.5), "p_norm=0.5"),
    "an output": (lambda a: peaks(a, output="mask"), "output='mask'"),
    "other labels": (lambda a: peaks(a, labels=A[:3]), "(3, 7)"),
    "labels of floats": (lambda a: peaks(a, labels=A.astype("f4")), "labels: floating-point"),
    "no image": (lambda a: peaks(a > 0), "bool"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_anything_is_read(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BigbiaWarning)
        check_refused(call, A)


def test_nan_and_negative_labels_are_named():
    image = RNG.random((6, 7))
    labels = np.ones((6, 7), "i2")
    labels[4, 5] = -3
    for a, b in ((image, labels), (da.from_array(image, chunks=3), da.from_array(labels, chunks=3))):
        with pytest.raises(BigbiaError, match=r"label -3.*background"):
            np.asarray(peaks(a, labels=b, output="markers"))
    image[4, 5] = np.nan
    for array in (image, da.from_array(image, chunks=3)):
        for words in ({}, {"threshold_abs": 0.5}):
            with pytest.raises(BigbiaError, match=r"NaN at voxel \(4, 5\)"):
                np.asarray(peaks(array, output="markers", **words))


def test_the_table_is_one_of_bigbia():
    table = peaks(da.from_array(smooth(2), chunks=20), 3)
    assert table_graph(table) is not None
    assert list(table.columns) == ["label", "axis-0", "axis-1", "intensity"]
    assert [str(t) for t in table.dtypes] == ["int64", "int64", "int64", "uint16"]
    assert list(table.compute().dtypes) == list(table.dtypes)
