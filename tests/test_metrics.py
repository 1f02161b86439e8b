"""Two label images compared: pairs and matches equal to NumPy's and scikit-image's, whatever the cut; real objects."""

from __future__ import annotations

import functools
import math

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage import metrics as skimage_metrics
from strategies import KINDS, image, random_cuts
from test_contract import Array, forbidden

import bigbia
from bigbia import metrics
from bigbia.errors import BigbiaError, BlockError
from bigbia.graph import group
from bigbia.graph.boxes import Grid
from bigbia.graph.dask import from_source
from bigbia.graph.regions import Literal
from bigbia.graph.stages import tasks
from bigbia.graph.values import add_counts
from bigbia.hyperstack import hyperstack
from bigbia.metrics.matching import Matched, scores
from bigbia.metrics.overlap import Overlaps, Shares, count_pairs

MOST = 2**32 - 1


def random_pair(rng):
    """Ground truth, and labels that are like it: objects moved, cut, lost, renamed."""
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, {1: 80, 2: 20, 3: 10, 4: 5}[ndim], ndim))
    size = int(rng.integers(1, 6))
    true = np.zeros(shape, np.int64)
    for axis in range(ndim):  # boxes of some size
        true = true * 50 + np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(ndim)]) // size + 1
    true[rng.random(shape) < 0.1] = 0
    true = true * (rng.random(true.max() + 1) < 0.8)[true]
    test = np.roll(true, rng.integers(0, 2, ndim), range(ndim))
    if rng.random() < 0.5:
        test = np.where(rng.random(shape) < 0.2, image(str(rng.choice(KINDS)), shape, "int16", 0), test)
    if rng.random() < 0.7:
        names = np.append(0, rng.choice(2**31 - 1, test.max(), replace=False) + 1) if test.max() else np.zeros(1, int)
        test = names[test]
    names, true = np.unique(true, return_inverse=True)
    true = true.reshape(shape) + (names[0] > 0)
    if rng.random() < 0.3:
        true = np.where(true > 0, MOST - true, 0)
    kinds = [str(rng.choice(["uint8", "uint16", "int32", "uint32", "int64", "uint64"])) for _ in range(2)]
    return tuple(a.astype(k if a.max() <= np.iinfo(k).max else "uint32") for a, k in zip((true, test), kinds))


def pairs_of(true, test, ignored=()):
    both, n = np.unique(np.stack([true.ravel(), test.ravel()]).astype(np.int64), axis=1, return_counts=True)
    keep = ~np.isin(both[0], ignored)
    return pd.DataFrame({"true": both[0][keep], "test": both[1][keep], "n": n[keep]})


def matches_of(true, test, threshold):
    """All objects with all, one by one."""
    objects = [[a == v for v in np.unique(a[a > 0])] for a in (true, test)]
    ious = [(t & p).sum() / (t | p).sum() for t in objects[0] for p in objects[1]]
    matched = [v for v in ious if v > threshold]
    n_true, n_test, tp = len(objects[0]), len(objects[1]), len(matched)
    return {
        "n_true": n_true,
        "n_test": n_test,
        "true_positives": tp,
        "false_positives": n_test - tp,
        "false_negatives": n_true - tp,
        "precision": tp / n_test if n_test else 0.0,
        "recall": tp / n_true if n_true else 0.0,
        "f1": tp / ((n_true + n_test) / 2) if n_true + n_test else 0.0,
        "mean_matched_iou": math.fsum(matched) / tp if tp else 0.0,
    }


def assert_matches(frame, expected):
    assert len(frame) == 1
    assert list(frame.columns) == list(expected)
    for name, value in expected.items():
        got = frame[name].iloc[0]
        assert frame[name].dtype == (np.int64 if isinstance(value, int) else np.float64)
        # fsum rounds the sum, and the division rounds again
        assert math.isclose(got, value, rel_tol=3e-16) if name == "mean_matched_iou" else got == value, name


def assert_frames(got, expected):
    pd.testing.assert_frame_equal(got.reset_index(drop=True), expected.reset_index(drop=True), check_exact=True)


def run(stage):
    """All tasks of a stage, in this thread: a hundred cases in seconds."""
    for s in (*stage.upstream(), stage):
        for step, index in tasks(s):
            s.task(step, index)
    return stage


def grouped(rng, true, test, ignored=()):
    """The grouping of the pairs, the images cut at random."""
    grid = Grid(tuple(random_cuts(rng, n) for n in true.shape))
    count = functools.partial(count_pairs, what="test", ignored=ignored)
    return group.Group("count pairs", [Literal(true), Literal(test)], [], grid, count, add_counts)


def rows_of(stage, frame):
    return pd.concat([frame(stage.partition(i)) for i in range(stage.partitions)])


# ---- contingency_table -----------------------------------------------------------------------------------------------
def test_contingency_random_cases(partitions):
    rng = np.random.default_rng(0)
    for _ in range(80):
        true, test = random_pair(rng)
        ignored = (
            tuple(rng.choice(np.append(np.unique(true), true.dtype.type(7)), 2).tolist()) if rng.random() < 0.4 else ()
        )
        expected = pairs_of(true, test, ignored)
        assert_frames(metrics.contingency_table(true, test, ignore_labels=ignored), expected)
        counted = run(grouped(rng, true, test, ignored))
        assert_frames(rows_of(counted, Overlaps(False)), expected)
        shares = metrics.contingency_table(true, test, ignore_labels=ignored, normalize=True)
        np.testing.assert_array_equal(shares.n, expected.n / max(1, expected.n.sum()))
        assert_frames(rows_of(run(Shares(counted)), Overlaps(True)), shares)


@pytest.mark.parametrize("ignored", [None, 0, [0, 3, 2**70]])
def test_contingency_is_that_of_scikit_image(ignored):
    true, test = image("noise", (9, 20, 21), "uint8", 0) % 9, image("dense", (9, 20, 21), "uint8", 1) % 7
    for normalize in (False, True):
        plain = [i for i in np.atleast_1d([] if ignored is None else ignored) if i < 2**32]
        expected = skimage_metrics.contingency_table(true, test, ignore_labels=plain, normalize=normalize).toarray()
        lazy = da.from_array(true, chunks=(4, 7, 21)), da.from_array(test, chunks=6)
        with dask.config.set(scheduler=forbidden):
            table = metrics.contingency_table(*lazy, ignore_labels=ignored, normalize=normalize)
        rows = table.compute()
        assert list(rows.dtypes) == list(table.dtypes) == [np.int64, np.int64, np.float64 if normalize else np.int64]
        got = np.zeros_like(expected)
        got[rows.true, rows.test] = rows.n
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=0)
        assert (rows.n > 0).all()
        eager = metrics.contingency_table(true, test, ignore_labels=ignored, normalize=normalize)
        assert_frames(rows, eager)


def test_nothing_left_to_count():
    array = np.full((4, 5), 3, np.uint8)
    for given in (array, da.from_array(array, chunks=2)):
        for normalize in (False, True):
            table = metrics.contingency_table(given, array, ignore_labels=3, normalize=normalize)
            rows = table if given is array else table.compute()
            assert len(rows) == 0
            assert list(rows.columns) == ["true", "test", "n"]


# ---- matching --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_matching_random_cases(partitions, threshold):
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(40):
        true, test = random_pair(rng)
        eager = metrics.matching(true, test, threshold)
        assert_matches(eager, matches_of(true, test, threshold))
        assert_frames(scores(run(Matched(grouped(rng, true, test), threshold)).partition(0)), eager)
        found += eager.true_positives[0]
    assert found > 100


def test_an_overlap_at_the_threshold_is_no_match():
    true, test = np.array([1, 1, 1, 1, 0, 2, 2, 2, 2, 2]), np.array([3, 3, 0, 0, 0, 8, 8, 8, 0, 0])
    assert metrics.matching(true, test).true_positives[0] == 1
    assert metrics.matching(true, test, 0.6).true_positives[0] == 0
    assert metrics.matching(true, test, np.nextafter(0.6, 0)).true_positives[0] == 1


def test_one_object_over_all_others(partitions):
    """Its pairs fill many partitions, and so do those of the background."""
    test = np.arange(1, 1201).reshape(30, 40)
    true = np.ones((30, 40), np.uint8)
    true[20:] = 0
    test[5:20] = 5000
    for a, b in ((true, test), (test, true)):
        expected = matches_of(a, b, 0.5)
        assert expected["true_positives"] == 1
        lazy = metrics.matching(da.from_array(a, chunks=(7, 8)), b)
        assert_matches(lazy.compute(scheduler="sync"), expected)


def test_without_objects():
    nothing, something = np.zeros((5, 6), np.uint8), np.eye(5, 6, dtype=np.uint8)
    for true, test in ((nothing, nothing), (something, nothing), (nothing, something)):
        eager = metrics.matching(true, test)
        assert_matches(eager, matches_of(true, test, 0.5))
        assert eager.iloc[0, 5:].tolist() == [0.0] * 4
        assert_frames(metrics.matching(da.from_array(true, chunks=2), test).compute(), eager)


def test_masks_are_one_object():
    a, b = np.zeros((2, 8, 9), bool)
    a[2:6, 2:6] = b[3:6, 2:6] = True
    row = metrics.matching(da.from_array(a, chunks=3), b).compute()
    assert_matches(row, matches_of(a, b, 0.5))
    assert row.mean_matched_iou.iloc[0] == 0.75


def test_the_images_are_read_once():
    """Once for the counting, and not again for another threshold or the sizes of objects."""
    true = image("noise", (12, 12, 12), "uint16", 0)
    sources = [Array(true), Array(np.roll(true, 1, 0))]
    lazy = [from_source(s, 4) for s in sources]
    with dask.config.set(scheduler=forbidden):
        table = metrics.matching(*lazy)
        again = metrics.matching(*lazy, 0.9)
    assert [s.reads for s in sources] == [0, 0]
    table.compute()
    assert [s.reads for s in sources] == [27, 27]
    again.compute()
    assert [s.reads for s in sources] == [27, 27]


# ---- both ------------------------------------------------------------------------------------------------------------
def test_hyperstacks(partitions):
    true = image("noise", (2, 2, 8, 9), "uint8", 0) % 5
    test = np.where(image("sparse", true.shape, "bool", 1), 0, true)
    one = hyperstack(da.from_array(true, chunks=(1, 1, 4, 4)), "tcyx", channels=["a", "b"])
    two = hyperstack(da.from_array(test, chunks=(2, 1, 3, 9)), "tcyx", channels=["a", "b"]).transpose(
        "c", "t", "x", "y"
    )
    with dask.config.set(scheduler=forbidden):
        tables = {
            metrics.matching: metrics.matching(one, two),
            metrics.contingency_table: metrics.contingency_table(one, two),
            functools.partial(metrics.contingency_table, normalize=True): metrics.contingency_table(
                one, two, normalize=True
            ),
        }
    for function, table in tables.items():
        rows = table.compute(scheduler="sync")
        assert list(rows.columns)[:2] == ["t", "c"]
        for t in range(2):
            for k, c in enumerate("ab"):
                mine = rows[(rows.t == t) & (rows.c == c)].drop(columns=["t", "c"])
                assert_frames(mine, function(true[t, k], test[t, k]))
    assert_frames(
        metrics.matching(da.from_array(true, chunks=4), hyperstack(test, "tcyx")).compute()[["n_true"]],
        metrics.matching(one, two).compute()[["n_true"]],
    )


def test_live_arrays_and_tables_that_are_saved(tmp_path):
    true = image("blobs", (9, 20, 21), "uint16", 0) % 40
    live = da.from_array(true, chunks=6).map_blocks(lambda b: b.copy(), dtype=true.dtype)
    labels = bigbia.measure.label(da.from_array(true, chunks=5))
    tables = {
        "pairs": metrics.contingency_table(live, labels),
        "shares": metrics.contingency_table(live, labels, normalize=True),
        "scores": metrics.matching(live, labels),
    }
    bigbia.save(tmp_path / "o.zarr", labels={"a": labels}, tables=tables, scheduler="threads")
    whole = labels.compute()
    expected = {
        "pairs": metrics.contingency_table(true, whole),
        "shares": metrics.contingency_table(true, whole, normalize=True),
        "scores": metrics.matching(true, whole),
    }
    for name, rows in expected.items():
        assert_frames(pd.read_parquet(tmp_path / f"o.zarr/tables/{name}.parquet"), rows)
        assert_frames(tables[name].compute(), rows)
        assert "count pairs of labels" in str(bigbia.explain(tables[name]))


def test_real_objects(data):
    """Superpixels of electron microscopy, nuclei found by a threshold: against all objects with all."""
    nuclei = tifffile.imread(data / "stardist_dsb2018/img2d.tif")[:300, :300]
    found = bigbia.measure.label(bigbia.filters.gaussian(nuclei, 1) > 40)
    cases = {
        "gala": (
            tifffile.imread(data / "gala_fib_em/train-gt.tif")[:6],
            tifffile.imread(data / "gala_fib_em/train-ws.tif")[:6],
        ),
        "dsb2018": (tifffile.imread(data / "stardist_dsb2018/mask2d.tif")[:300, :300], found),
    }
    for name, (true, test) in cases.items():
        row = metrics.matching(da.from_array(true, chunks=19), da.from_array(test, chunks=31)).compute()
        assert_matches(row, matches_of(true, test, 0.5))
        rows = metrics.contingency_table(da.from_array(true, chunks=19), test).compute()
        assert_frames(rows, pairs_of(true, test))
        assert row.true_positives.iloc[0] > 5, name


# ---- what is refused -------------------------------------------------------------------------------------------------
IMAGE = np.ones((6, 8), np.int32)
CALLS = {
    "a low threshold": (
        lambda a: metrics.matching(a, a, 0.3),
        "threshold=0.3: below 0.5 an object can overlap several",
    ),
    "a threshold of all": (lambda a: metrics.matching(a, a, 1), "threshold=1: no overlap is above 1"),
    "a threshold of NaN": (lambda a: metrics.matching(a, a, float("nan")), "threshold=nan"),
    "a threshold of text": (lambda a: metrics.matching(a, a, "0.5"), "threshold='0.5': must be a number"),
    "float labels": (lambda a: metrics.matching(a, a * 0.5), "metrics.matching: im_test: floating-point"),
    "other shapes": (lambda a: metrics.matching(a, a[1:]), "im_true is (6, 8), im_test is (5, 8)"),
    "float pairs": (lambda a: metrics.contingency_table(a * 0.5, a), "contingency_table: im_true: floating-point"),
    "shapes of pairs": (lambda a: metrics.contingency_table(a[1:], a), "im_true is (5, 8), im_test is (6, 8)"),
    "other axes": (
        lambda a: metrics.matching(hyperstack(a, "yx"), hyperstack(a, "tx")),
        "im_true has axes ('y', 'x'), im_test ('t', 'x')",
    ),
    "a label of text": (
        lambda a: metrics.contingency_table(a, a, ignore_labels="0"),
        "ignore_labels='0': '0' is no label",
    ),
    "a label below 0": (lambda a: metrics.contingency_table(a, a, ignore_labels=[0, -1]), "-1 is no label"),
    "normalize": (lambda a: metrics.contingency_table(a, a, normalize="yes"), "normalize='yes': must be True or False"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_refused(name):
    call, said = CALLS[name]
    for given in (IMAGE, da.from_array(IMAGE, chunks=4)):
        with dask.config.set(scheduler=forbidden), pytest.raises(BigbiaError) as caught:
            call(given)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("function", [metrics.matching, metrics.contingency_table])
def test_labels_that_cannot_be_are_named(function, lazily):
    for label, said in (
        (-3, r"im_test: label -3 in the block "),
        (2**32, r"label 4294967296 .*relabel_sequential\(im_test\)"),
    ):
        array = IMAGE.astype(np.int64)
        array[5, 6] = label
        given = da.from_array(array, chunks=4) if lazily else array
        with pytest.raises(BlockError, match=f"metrics.{function.__name__}: .*{said}"):
            len(function(IMAGE, given))  # of a lazy table: computes it
