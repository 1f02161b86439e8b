"""Labels renumbered, joined, outlined and filtered: equal to scikit-image and to NumPy's definitions, whatever the cut."""

from __future__ import annotations

import pickle
import re

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from skimage import segmentation as skimage_segmentation
from strategies import KINDS, image, random_cuts
from test_contract import forbidden

import bigbia
from bigbia import segmentation
from bigbia.errors import BigbiaError, BlockError, InputError, ParameterError, RunError
from bigbia.graph import values
from bigbia.graph.boxes import Grid
from bigbia.graph.conditions import Largest, Size
from bigbia.graph.dask import from_source
from bigbia.graph.regions import Literal
from bigbia.graph.stages import tasks
from bigbia.hyperstack import hyperstack
from bigbia.kernels import values as kernels
from bigbia.segmentation.condition import parse

measure_table = bigbia.measure.regionprops_table


def random_labels(rng, dtype=None):
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, {1: 80, 2: 20, 3: 10, 4: 5}[ndim], ndim))
    dtype = dtype or str(rng.choice(["uint8", "int16", "uint32", "int64", "uint64"]))
    array = image(str(rng.choice(KINDS)), shape, dtype, int(rng.integers(2**31)))
    if rng.random() < 0.3 and dtype == "uint64":
        array = np.where(array > 0, array + np.uint64(2**63 - 20), 0).astype(dtype)
    elif rng.random() < 0.3 and dtype in ("int64", "uint64"):
        array = array * array.dtype.type(2**40 + 1)
    return array


def run(stage):
    """All tasks of a stage, in this thread: hundreds of cases in seconds."""
    for s in (*stage.upstream(), stage):
        for step, index in tasks(s):
            s.task(step, index)


def by_stage(array, grid, conditions=(), offset=None, dtype=None):
    largest = [c for c in conditions if isinstance(c, Largest)]
    rest = tuple(c for c in conditions if not isinstance(c, Largest))
    node = Literal(array)
    seen = values.counted([node], grid)
    numbers = values.Numbers(np.dtype(dtype or array.dtype), offset)
    stage = values.Values(seen, seen, values.Meets(rest), numbers, largest[0] if largest else None)
    run(stage)
    box = tuple((0, n) for n in array.shape)
    return stage.renumbered(node).compute(box, ([array],))


def rank(array, offset=1):
    """The definition of relabel_sequential, for every dtype."""
    names = np.unique(array[array > 0])
    numbers = np.arange(len(names), dtype=np.uint64) + np.uint64(offset)
    return np.where(array > 0, np.append(numbers, np.uint64(0))[np.searchsorted(names, array)], 0).astype(array.dtype)


# ---- relabel_sequential ----------------------------------------------------------------------------------------------
def test_relabel_random_cases(partitions):
    rng = np.random.default_rng(0)
    for _ in range(150):
        array = random_labels(rng)
        offset = int(rng.integers(1, 20)) if array.dtype != np.uint8 else 1
        expected = rank(array, offset)
        if array.max() < 2**62 and array.dtype != np.uint8:
            np.testing.assert_array_equal(expected, skimage_segmentation.relabel_sequential(array, offset)[0])
        np.testing.assert_array_equal(segmentation.relabel_sequential(array, offset), expected)
        got = by_stage(array, Grid(tuple(random_cuts(rng, n) for n in array.shape)), offset=offset)
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == array.dtype


@pytest.mark.parametrize("top", [2**32 + 5, 2**53 + 3, 2**63 - 2, 2**64 - 9])
def test_labels_past_two_to_the_32_and_the_63(top, partitions):
    names = np.array([1, 2, 2**32, top - 1, top, top + 1, top + 2], np.uint64)
    names = names[:6] if top == 2**63 - 2 else names
    array = np.random.default_rng(1).choice(np.append(names, np.uint64(0)), (30, 31))
    lazy = da.from_array(array, chunks=(4, 7))
    np.testing.assert_array_equal(segmentation.relabel_sequential(lazy), rank(array))
    np.testing.assert_array_equal(segmentation.relabel_sequential(array), rank(array))
    table = measure_table(lazy)
    expected = np.where(array == names[-2], array, 0)
    wanted = f"label == {names[-2]}"
    np.testing.assert_array_equal(segmentation.filter_labels(lazy, table, wanted), expected)
    np.testing.assert_array_equal(segmentation.filter_labels(lazy, table.compute(), wanted), expected)


def test_pieces_of_one_value_in_blocks_far_apart(partitions):
    array = np.zeros((60, 64), np.int32)
    array[0, 0] = array[59, 63] = 70000
    array[0, 63] = array[30, 30] = array[59, 0] = 3
    lazy = da.from_array(array, chunks=(5, 4))
    got = segmentation.relabel_sequential(lazy)
    np.testing.assert_array_equal(got, np.where(array == 70000, 2, array // 3))
    assert int(got[59, 63].compute()) == 2
    kept = values.selected(lazy, "test", [Size(3)])
    np.testing.assert_array_equal(kept, np.where(array == 3, 3, 0))


def test_reading_a_part_and_other_chunks():
    array = image("noise", (40, 41), "int32", 0)
    got = segmentation.relabel_sequential(da.from_array(array, chunks=7))
    np.testing.assert_array_equal(got[3:29:2, 5], rank(array)[3:29:2, 5])
    np.testing.assert_array_equal(got.rechunk((9, 40)) + 1, rank(array) + 1)
    np.testing.assert_array_equal(segmentation.relabel_sequential(got), rank(array))
    np.testing.assert_array_equal(bigbia.filters.median(got), bigbia.filters.median(rank(array)))


def test_live_arrays_and_stages_as_input(tmp_path):
    array = image("blobs", (20, 22, 24), "uint8", 0)
    live = da.from_array(array, chunks=6).map_blocks(lambda b: b.copy(), dtype="u1")
    got = segmentation.relabel_sequential(live)
    np.testing.assert_array_equal(got.compute(scheduler="threads"), rank(array))
    bigbia.save(tmp_path / "o.zarr", labels={"a": got}, scheduler="threads")
    np.testing.assert_array_equal(bigbia.open(tmp_path / "o.zarr/labels/a").data, rank(array))
    labels = bigbia.measure.label(live > 100)
    expected = bigbia.measure.label(array > 100)
    outcome = segmentation.filter_labels(labels, measure_table(labels, live), "intensity_max > 250")
    rows = measure_table(expected, array)
    keep = rows.label[rows.intensity_max > 250]
    np.testing.assert_array_equal(outcome, np.where(np.isin(expected, keep), expected, 0))


def test_dear_labels_are_stored_the_first_time():
    source = from_source(Counted(image("blobs", (24, 24, 24), "uint8", 0)), 8)
    dear = bigbia.filters.median(source, 5)
    got = segmentation.relabel_sequential(dear)
    assert "keeps" in str(bigbia.explain(got))
    np.testing.assert_array_equal(got, rank(bigbia.filters.median(image("blobs", (24, 24, 24), "uint8", 0), 5)))


class Counted:
    """A NumPy array as a source."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, (8,) * array.ndim
        self.token = dask.base.tokenize(array)

    def read(self, box):
        return self.array[tuple(slice(a, b) for a, b in box)].copy()


def test_an_image_that_changes_between_two_reads_is_refused():
    changing = iter(range(1, 1000))
    live = da.zeros((8, 8), chunks=4, dtype="i4").map_blocks(lambda b: b + next(changing), dtype="i4")
    got = segmentation.relabel_sequential(live)
    got[:4].compute(scheduler="sync")  # the labels are counted here
    with pytest.raises(BlockError, match=r"was not there when the labels were counted.*save it first"):
        got.compute(scheduler="sync")


@pytest.mark.parametrize("kind", ["numpy", "dask", "hyperstack"])
def test_the_mapping(kind, partitions):
    array = image("noise", (2, 3, 9, 10), "uint16", 0)
    if kind == "hyperstack":
        stack = hyperstack(da.from_array(array, chunks=(1, 2, 4, 5)), "tcyx", channels=["a", "b", "d"])
        with dask.config.set(scheduler=forbidden):
            labels, mapping = segmentation.relabel_sequential(stack, 4, return_mapping=True)
        rows = mapping.compute()
        assert list(rows.columns) == ["t", "c", "label", "new_label"]
        for t in range(2):
            for k, c in enumerate("abd"):
                mine = rows[(rows.t == t) & (rows.c == c)]
                np.testing.assert_array_equal(labels[t, k], rank(array[t, k], 4))
                np.testing.assert_array_equal(mine.label, np.unique(array[t, k])[1:])
                np.testing.assert_array_equal(mine.new_label, np.arange(len(mine)) + 4)
        again = segmentation.filter_labels(stack, mapping, "t == 1 and new_label <= 6")
        np.testing.assert_array_equal(again, np.where((labels <= 6) & (labels.t == 1), array, 0))
        return
    given = array if kind == "numpy" else da.from_array(array, chunks=(1, 2, 4, 5))
    labels, mapping = segmentation.relabel_sequential(given, return_mapping=True)
    mapping = mapping if kind == "numpy" else mapping.compute()
    expected = pd.DataFrame({"label": np.unique(array)[1:].astype("i8")})
    expected["new_label"] = np.arange(1, len(expected) + 1)
    pd.testing.assert_frame_equal(mapping.reset_index(drop=True), expected)
    np.testing.assert_array_equal(labels, rank(array))


def test_the_mapping_can_be_saved_with_its_labels(tmp_path):
    array = image("noise", (9, 20, 21), "uint16", 0)
    labels, mapping = segmentation.relabel_sequential(da.from_array(array, chunks=6), return_mapping=True)
    bigbia.save(tmp_path / "o.zarr", labels={"a": labels}, tables={"a": mapping}, scheduler="threads")
    rows = pd.read_parquet(tmp_path / "o.zarr/tables/a.parquet")
    np.testing.assert_array_equal(rows.label, np.unique(array)[1:])


def test_numbers_that_do_not_fit_stop_before_any_voxel(tmp_path, monkeypatch):
    array = np.arange(200, dtype=np.uint8).reshape(10, 20)
    for given in (array, da.from_array(array, chunks=6)):
        with pytest.raises(
            RunError, match=r'199 labels from 100 on do not fit uint8 \(at most 255\).*astype\("uint32"\)'
        ):
            np.asarray(segmentation.relabel_sequential(given, 100))
    monkeypatch.setattr(values.Renumbered, "compute", forbidden)
    with pytest.raises(RunError, match="do not fit"):
        bigbia.save(
            tmp_path / "o.zarr", labels={"a": segmentation.relabel_sequential(da.from_array(array, chunks=6), 100)}
        )
    assert not (tmp_path / "o.zarr").exists()
    many = values.Numbers(np.dtype("u4"), 1, "join", 'pass dtype="uint64"')
    many.check(2**32 - 1)
    with pytest.raises(RunError, match=r'4294967296 labels .*pass dtype="uint64"$'):
        many.check(2**32)


# ---- join_segmentations ----------------------------------------------------------------------------------------------
def test_join_random_cases(partitions):
    rng = np.random.default_rng(2)
    for _ in range(25):
        a = random_labels(rng, str(rng.choice(["uint8", "int16", "uint32"])))
        b = rng.permutation(a.reshape(-1)).reshape(a.shape).astype(str(rng.choice(["bool", "uint8", "int64"])))
        expected = skimage_segmentation.join_segmentations(a.astype("i8"), b.astype("i8"))
        got = segmentation.join_segmentations(a, b)
        assert got.dtype == np.uint32
        np.testing.assert_array_equal(got, expected)
        one, two = (da.from_array(x, chunks=tuple(random_cuts(rng, n) for n in a.shape)) for x in (a, b))
        with dask.config.set(scheduler="sync"):
            np.testing.assert_array_equal(segmentation.join_segmentations(one, two), expected)
            np.testing.assert_array_equal(segmentation.join_segmentations(a, two, dtype="uint64"), expected)


def test_join_labels_at_the_edge_of_32_bits():
    a = np.array([[0, 2**32 - 1, 2**31, 5]], np.uint64)
    b = np.array([[2**32 - 1, 2**32 - 1, 0, 5]], np.uint64)
    expected = [[1, 4, 3, 2]]
    np.testing.assert_array_equal(segmentation.join_segmentations(a, b), expected)
    np.testing.assert_array_equal(segmentation.join_segmentations(da.from_array(a, chunks=1), b), expected)


def test_join_hyperstacks():
    a, b = image("noise", (2, 2, 8, 9), "uint8", 0), image("noise", (2, 2, 8, 9), "uint8", 1)
    one = hyperstack(da.from_array(a, chunks=(1, 1, 4, 4)), "tcyx", channels=["a", "b"])
    two = hyperstack(da.from_array(b, chunks=(2, 1, 3, 9)), "tcyx", channels=["a", "b"]).transpose("c", "t", "x", "y")
    got = segmentation.join_segmentations(one, two)
    assert got.dims == one.dims
    assert list(got.c.values) == ["a", "b"]
    for t in range(2):
        for c in range(2):
            np.testing.assert_array_equal(got[t, c], segmentation.join_segmentations(a[t, c], b[t, c]))
    plain = segmentation.join_segmentations(da.from_array(a, chunks=4), hyperstack(b, "tcyx"))
    np.testing.assert_array_equal(plain, got)


# ---- find_boundaries -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["thick", "inner", "outer"])
def test_boundaries_random_cases(mode):
    rng = np.random.default_rng(3)
    for case in range(60):
        array = random_labels(rng, str(rng.choice(["uint8", "int16", "uint32", "int64", "uint64"])))
        array = array % array.dtype.type(rng.integers(2, 6))
        # SciPy computes 64-bit images as float64, in which the largest int64 is none
        narrow = array.dtype if array.dtype.itemsize < 8 else np.dtype("i4")
        if case % 4 == 0:
            array = array > 0
        elif array.dtype.kind == "i" and case % 4 == 1:
            array = array - array.dtype.type(2)
        narrow = narrow if array.dtype != bool else array.dtype
        background = int(rng.choice(array.reshape(-1))) if array.dtype != bool else int(rng.integers(0, 2))
        for connectivity in range(1, array.ndim + 1):
            expected = skimage_segmentation.find_boundaries(array.astype(narrow), connectivity, mode, background)
            got = segmentation.find_boundaries(array, connectivity, mode, background)
            assert got.dtype == bool
            np.testing.assert_array_equal(got, expected)
            lazy = da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape))
            with dask.config.set(scheduler="sync"):
                np.testing.assert_array_equal(
                    segmentation.find_boundaries(lazy, connectivity, mode, background), expected
                )


def test_boundaries_where_time_is_not_first():
    array = image("noise", (6, 2, 7, 3), "uint8", 0)
    stack = hyperstack(da.from_array(array, chunks=3), "ytxc")
    got = segmentation.find_boundaries(stack, 2, "outer")
    for t in range(2):
        for c in range(3):
            np.testing.assert_array_equal(
                got[:, t, :, c], skimage_segmentation.find_boundaries(array[:, t, :, c], 2, "outer")
            )


# ---- filter_labels ---------------------------------------------------------------------------------------------------
CONDITION = "num_pixels > 2 and extent >= 0.3"


def filtered(array, condition=CONDITION):
    rows = measure_table(array)
    return np.where(np.isin(array, rows.label[rows.eval(condition)]), array, 0)


def test_filter_random_cases(partitions):
    rng = np.random.default_rng(4)
    for _ in range(25):
        array = random_labels(rng, str(rng.choice(["uint8", "int16", "uint32", "int64"])))
        expected = filtered(array)
        one, two = (da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape)) for _ in range(2))
        with dask.config.set(scheduler=forbidden):
            results = [
                segmentation.filter_labels(one, measure_table(one), CONDITION),
                segmentation.filter_labels(one, measure_table(two), CONDITION),
                segmentation.filter_labels(one, measure_table(array), CONDITION),
                segmentation.filter_labels(array, measure_table(one), CONDITION),
                # another node with the same voxels: the labels of its blocks are counted for it
                segmentation.filter_labels(one + array.dtype.type(0), measure_table(two), CONDITION),
            ]
        for result in results:
            assert isinstance(result, da.Array)
            assert result.dtype == array.dtype
            np.testing.assert_array_equal(result.compute(scheduler="sync"), expected)
        np.testing.assert_array_equal(segmentation.filter_labels(array, measure_table(array), CONDITION), expected)


def test_filter_by_the_table_of_another_image(partitions):
    """Labels of another dtype, and labels that one of the two lacks."""
    array = image("noise", (20, 21), "int32", 0)
    other = np.where(array % 3 == 0, array, array + 1).astype("uint64") * (array > 0)
    keep = np.unique(other[other > 0])
    expected = np.where(np.isin(array, keep), array, 0)
    lazy, there = da.from_array(array, chunks=6), da.from_array(other, chunks=(20, 4))
    for table in (measure_table(there), measure_table(other)):
        np.testing.assert_array_equal(segmentation.filter_labels(lazy, table), expected)
    small = segmentation.filter_labels(lazy.astype("uint8"), measure_table(other))
    np.testing.assert_array_equal(small, np.where(np.isin(array.astype("u1"), keep), array.astype("u1"), 0))


def test_the_measurement_is_done_once():
    source = from_source(Counted(image("blobs", (24, 24, 24), "uint8", 0)), 8)
    labels = bigbia.measure.label(source > 100)
    table = measure_table(labels, source)
    table.compute()
    got = segmentation.filter_labels(labels, table, "intensity_mean > 150")
    lines = {line.name: line.state for line in bigbia.explain(got).lines}
    assert [name for name, state in lines.items() if not state] == ["renumber", "read"]
    assert lines["regionprops_table"] == "done: read from scratch"


def test_filter_hyperstacks(partitions):
    array = image("noise", (2, 3, 8, 9), "uint8", 0) % 20
    intensity = image("noise", (2, 3, 8, 9), "uint16", 1)
    stack = hyperstack(da.from_array(array, chunks=(1, 2, 4, 3)), "tcyx", channels=["a", "b", "d"])
    signal = hyperstack(da.from_array(intensity, chunks=(1, 1, 8, 9)), "tcyx", channels=["a", "b", "d"])
    table = measure_table(stack, signal)
    condition = "intensity_mean > 100 and (t == 0 or area >= 2)"
    with dask.config.set(scheduler=forbidden):
        got = segmentation.filter_labels(stack, table, condition)
    assert got.dims == stack.dims
    rows = table.compute()
    eager = segmentation.filter_labels(stack, rows, condition)
    for t in range(2):
        for k, c in enumerate("abd"):
            mine = rows[
                (rows.t == t) & (rows.c == c) & (rows.intensity_mean > 100) & ((rows.t == 0) | (rows.area >= 2))
            ]
            expected = np.where(np.isin(array[t, k], mine.label), array[t, k], 0)
            np.testing.assert_array_equal(got[t, k], expected)
            np.testing.assert_array_equal(eager[t, k], expected)
    one = stack.isel(t=1, c=0)
    np.testing.assert_array_equal(
        segmentation.filter_labels(one, measure_table(one), "area > 1"), filtered(array[1, 0], "area > 1")
    )
    for given in (measure_table(one), measure_table(one).compute()):
        with pytest.raises(ParameterError, match="the table has no column 't'"):
            segmentation.filter_labels(stack, given)
    other = rows.assign(c="GFP")
    with pytest.raises(ParameterError, match="the table's c is GFP, the labels' is a, b, d"):
        segmentation.filter_labels(stack, other)
    with pytest.raises(ParameterError, match="no images of t=0, c=0"):
        segmentation.filter_labels(stack.drop_vars("c"), table)
    with pytest.raises(ParameterError, match="of 6 images"):
        segmentation.filter_labels(one, table)
    with pytest.raises(ParameterError, match=r"rows for label \d+: select"):
        segmentation.filter_labels(one, rows)


def test_filter_columns_of_other_makes():
    labels = np.arange(1, 6)
    rows = pd.DataFrame(
        {
            "label": pd.array([1, 2, 3, 4, 9], "Int64"),
            "whole": pd.array([1, None, 3, 4, 5], "Int64"),
            "real": [1.0, np.nan, -np.inf, 4, 5],
            "good": [True, False, True, True, True],
            "intensity_mean-DAPI": [1, 2, 3, 4, 5],
            "name": list("abcde"),
            "big": np.array([2**62, 2**62 + 1, 1, 1, 1]),
        },
        index=list("vwxyz"),
    )

    def kept(condition):
        return [int(v) for v in segmentation.filter_labels(labels, rows, condition) if v]

    assert kept("whole > 1") == [3, 4]
    assert kept("whole != 1") == [2, 3, 4]
    assert kept("real < 2") == [1, 3]
    assert kept("good") == [1, 3, 4]
    assert kept("not good or `intensity_mean-DAPI` ** 2 >= 16") == [2, 4]
    assert kept("1 < `intensity_mean-DAPI` <= 3 and ~(label == 2)") == [3]
    assert kept(f"big == {2**62 + 1}") == [2]
    assert kept("real / (whole - 1) > 1") == [1, 4]
    for bad, said in (("name == 1", "'name' holds no numbers"), ("whole and good", "'whole' is a number")):
        with pytest.raises(ParameterError, match=said):
            kept(bad)


def test_conditions_are_those_of_pandas():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"a": rng.random(50), "b": rng.integers(-5, 5, 50), "c": rng.random(50) * 10})
    columns = {k: frame[k].to_numpy() for k in frame}
    for text in (
        "a > 0.5",
        "a + b * c > 2 - -b",
        "-a ** 2 < b / c",
        "0.2 < a < 0.8 < c",
        "a > 0.5 and b < 0 or not c >= 5",
        "(a > 0.5) & (b < 0) | ~(c >= 5)",
        "2.0 ** b > c",
        "a != 1 and 1 <= c",
        "(a + 0.25) > (b)",
    ):
        np.testing.assert_array_equal(parse(text).evaluate(columns, 50), frame.eval(text), err_msg=text)
    condition = parse("`a b` > 0.5 and lambda_ > 2 and `in` < 3")
    assert condition.columns == ("a b", "lambda_", "in")
    assert pickle.loads(pickle.dumps(condition)) == condition
    assert dask.base.tokenize(condition) == dask.base.tokenize(parse("`a b` > 0.5 and lambda_ > 2 and `in` < 3"))


BAD = {
    "": "is empty",
    "area": "'area' is a number: compare",
    "area >": "cannot be read",
    "area > 5 &": "cannot be read",
    "area + 5": "it is no comparison",
    "5": "it is no comparison",
    "1 < 2": "names no column",
    "aera > 5": "no column 'aera'; did you mean 'area'",
    "centroid > 5": "did you mean `centroid-[01]`, in backquotes",
    "area > 5 & extent > 0.3": "bind more tightly",
    "area > label & label > 3": "bind more tightly",
    "(area > 5) + 1 > 2": "true and false are no numbers",
    "~area > 5": "true and false are no numbers",
    "area == True": "stands alone",
    "area == 'x'": "text cannot be compared",
    "area in (1, 2)": "'in' and 'is' do not work",
    "area is 5": "'in' and 'is' do not work",
    "__import__('os').system('x')": "functions cannot be called",
    "abs(area) > 3": "functions cannot be called",
    "area.x > 3": "a dot is not part",
    "area[0] > 3": "indexing",
    "area ^ 2 > 3": "a power is",
    "area // 2 > 3": "allowed are",
    "[area for area in label]": "allowed are",
    "lambda: area": "allowed are",
    "(x := area) > 3": "allowed are",
    "area > 3 if label else area": "allowed are",
    "f'{area}' > 3": "allowed are",
    "area > 9" + "9" * 30: "is that large",
    "`area > 5": "backquote",
    "`` > 5": "backquote",
    "area > 5j": "allowed are",
    "area > " + "(" * 300 + "5" + ")" * 300: "cannot be read",
    "not " * 240 + "area": "too many parts within each other",
    "area > " + "-" * 900 + "area": "too many parts within each other",
    "area > " + "area + " * 110 + "area": "too many parts within each other",
    "area > 5 and " * 100 + "area > 5": "longer than 1000",
    "area > 5; area": "cannot be read",
    "area = 5": "cannot be read",
    "area > 5\0": "cannot be read",
}


@pytest.mark.parametrize("text", BAD, ids=[k[:40] for k in BAD])
def test_conditions_refused(text):
    array = np.ones((4, 5), np.int32)
    for given in (array, da.from_array(array, chunks=2)):
        table = measure_table(given)
        with dask.config.set(scheduler=forbidden), pytest.raises(ParameterError) as caught:
            segmentation.filter_labels(given, table, text)
        assert "segmentation.filter_labels: condition" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert re.search(BAD[text], str(caught.value)), str(caught.value)


def test_towers_of_powers_cost_nothing():
    array = np.ones((4, 5), np.int32)
    got = segmentation.filter_labels(array, measure_table(array), "9 ** 9 ** 9 ** 9 > label ** 9 ** 9")
    np.testing.assert_array_equal(got, array)


# ---- selected: what morphology asks ----------------------------------------------------------------------------------
def plainly(array, conditions):
    names, n = np.unique(array[array > 0], return_counts=True)
    for c in conditions:
        if isinstance(c, Size):
            keep = (n >= c.least) & (n <= (c.most if c.most is not None else array.size))
        else:
            keep = np.isin(np.arange(len(n)), sorted(range(len(n)), key=lambda i: (-n[i], int(names[i])))[: c.n])
        names, n = names[keep], n[keep]
    return np.where(np.isin(array, names), array, 0)


@pytest.mark.parametrize(
    "conditions",
    [[], [Size(3)], [Size(2, 5)], [Size(most=2)], [Largest(1)], [Largest(3)], [Largest(500)], [Size(2, 4), Largest(2)]],
    ids=str,
)
def test_selected_random_cases(conditions, partitions):
    rng = np.random.default_rng(6)
    for _ in range(25):
        array = random_labels(rng)
        expected = plainly(array, conditions)
        np.testing.assert_array_equal(values.selected(array, "test", conditions), expected)
        got = by_stage(array, Grid(tuple(random_cuts(rng, n) for n in array.shape)), conditions)
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == array.dtype


def test_selected_keeps_the_kind():
    array = image("blobs", (2, 3, 8, 9), "int16", 0) % 7
    stack = hyperstack(da.from_array(array, chunks=(1, 2, 4, 3)), "tcyx", channels=["a", "b", "d"])
    with dask.config.set(scheduler=forbidden):
        got = values.selected(stack, "test", [Largest(1)])
    assert list(got.c.values) == ["a", "b", "d"]
    for t in range(2):
        for c in range(3):
            np.testing.assert_array_equal(got[t, c], plainly(array[t, c], [Largest(1)]))
    big = array.astype(">i4")
    assert values.selected(big, "test", [Size(3)]).dtype == big.dtype
    np.testing.assert_array_equal(values.selected(big, "test", [Size(3)]), plainly(array, [Size(3)]))
    lazily = values.selected(da.from_array(big, chunks=3), "test", [Size(3)])
    np.testing.assert_array_equal(lazily, plainly(array, [Size(3)]))
    assert not values.selected(array, "test", [Largest(0)]).any()
    assert not values.selected(da.from_array(array, chunks=3), "test", [Largest(0)]).any().compute()


def test_one_count_serves_all():
    source = from_source(Counted(image("blobs", (24, 24, 24), "uint8", 0)), 8)
    values.selected(source, "one", [Size(3)])
    first = values.selected(source, "one", [Size(3)])
    first.compute()
    states = [line.state for line in bigbia.explain(segmentation.relabel_sequential(source)).lines]
    assert states == ["done: read from scratch", "", ""]


# ---- the kernels ----------------------------------------------------------------------------------------------------
def test_counting_more_labels_than_the_table_holds():
    array = np.random.default_rng(0).permutation(100_000).astype(np.int64) - 1_000
    names, n = kernels.counts(np.repeat(array, 2))
    expected, times = np.unique(np.repeat(array, 2), return_counts=True)
    np.testing.assert_array_equal(names, expected[expected != 0])
    np.testing.assert_array_equal(n, times[expected != 0])


def test_replacing_says_where_a_label_is_missing():
    array = np.array([[0, 1], [2, 7]], np.int32)
    old = np.array([1, 2], np.int32)
    assert kernels.replaced(array, old, old)[1] == (1, 1)
    out, wrong = kernels.replaced(array, old, old.astype("u8") + np.uint64(5), strict=False)
    assert wrong is None
    np.testing.assert_array_equal(out, [[0, 6], [7, 0]])
    assert kernels.replaced(array - 7, old, old, strict=False)[1] == (0, 0)
    fortran = np.asfortranarray(np.random.default_rng(0).integers(0, 3, (7, 8, 9), "i4"))
    np.testing.assert_array_equal(kernels.replaced(fortran[::2, :, ::-1], old, old)[0], fortran[::2, :, ::-1])


# ---- what is refused ------------------------------------------------------------------------------------------------
IMAGE = np.ones((6, 8), np.int32)
TABLE = measure_table(IMAGE)
CALLS = {
    "offset 0": (lambda a: segmentation.relabel_sequential(a, 0), "offset=0"),
    "offset of text": (lambda a: segmentation.relabel_sequential(a, "1"), "offset='1'"),
    "offset of half": (lambda a: segmentation.relabel_sequential(a, 1.5), "offset=1.5"),
    "offset beyond the dtype": (lambda a: segmentation.relabel_sequential(a, 2**31), 'astype("uint64")'),
    "float labels": (lambda a: segmentation.relabel_sequential(a * 0.5), "floating-point"),
    "bool labels": (lambda a: segmentation.relabel_sequential(a > 0), "bool"),
    "float labels to join": (lambda a: segmentation.join_segmentations(a, a * 0.5), "s2: floating-point"),
    "shapes to join": (lambda a: segmentation.join_segmentations(a, a[1:]), "s1 is (6, 8), s2 is (5, 8)"),
    "a dtype to join": (lambda a: segmentation.join_segmentations(a, a, dtype="int32"), "dtype='int32'"),
    "float boundaries": (lambda a: segmentation.find_boundaries(a * 0.5), "floating-point"),
    "subpixel": (lambda a: segmentation.find_boundaries(a, mode="subpixel"), "another shape"),
    "a mode": (lambda a: segmentation.find_boundaries(a, mode="iner"), "did you mean 'inner'"),
    "connectivity": (lambda a: segmentation.find_boundaries(a, 3), "1 to 2"),
    "background": (lambda a: segmentation.find_boundaries(a, background=2**40), "is no value of int32"),
    "float labels to filter": (lambda a: segmentation.filter_labels(a * 0.5, TABLE), "floating-point"),
    "a table that is none": (lambda a: segmentation.filter_labels(a, [1, 2]), "table is a list, not a table"),
    "a table without labels": (lambda a: segmentation.filter_labels(a, TABLE[["area"]]), 'no column "label"'),
    "labels of floats": (
        lambda a: segmentation.filter_labels(a, TABLE.astype({"label": float})),
        'astype({"label": "int64"})',
    ),
    "rows without labels": (
        lambda a: segmentation.filter_labels(a, pd.DataFrame({"label": pd.array([1, None], "Int64")})),
        "1 rows of the table have no label",
    ),
    "two rows of a label": (
        lambda a: segmentation.filter_labels(a, pd.concat([TABLE, TABLE])),
        "2 rows for label 1",
    ),
    "two columns of a name": (
        lambda a: segmentation.filter_labels(a, pd.concat([TABLE, TABLE[["area"]]], axis=1), "area > 3"),
        "2 columns 'area'",
    ),
    "a condition that is a number": (lambda a: segmentation.filter_labels(a, TABLE, 5), "condition=5 is no text"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_refused(name):
    call, said = CALLS[name]
    for given in (IMAGE, da.from_array(IMAGE, chunks=4)):
        with dask.config.set(scheduler=forbidden), pytest.raises(BigbiaError) as caught:
            call(given)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_lazy_table_that_was_changed_is_refused():
    lazy = da.from_array(IMAGE, chunks=4)
    table = measure_table(lazy)
    for changed in (
        table[table.area > 1],
        table.assign(a=1),
        table.repartition(npartitions=1).persist(scheduler="sync"),
    ):
        with pytest.raises(ParameterError, match=r"call its \.compute\(\) first$"):
            segmentation.filter_labels(lazy, changed)


@pytest.mark.parametrize("lazily", [False, True])
def test_negative_labels_are_named(lazily):
    array = IMAGE.copy()
    array[5, 6] = -3
    given = da.from_array(array, chunks=4) if lazily else array
    place = "y=4..5, x=4..7" if lazily else "y=0..5, x=0..7"
    for call in (
        lambda: segmentation.relabel_sequential(given),
        lambda: segmentation.join_segmentations(IMAGE, given),
        lambda: segmentation.filter_labels(given, TABLE),
        lambda: values.selected(given, "test", [Size(3)]),
    ):
        with pytest.raises(BlockError, match=f"label -3 in the block {place}: .*labels \\* \\(labels > 0\\)"):
            np.asarray(call())


@pytest.mark.parametrize("lazily", [False, True])
def test_labels_too_wide_to_join_are_named(lazily):
    array = IMAGE.astype(np.uint64)
    array[5, 6] = 2**32
    given = da.from_array(array, chunks=4) if lazily else array
    with pytest.raises(BlockError, match=r"s2: label 4294967296 in the block .*relabel_sequential\(s2\)"):
        np.asarray(segmentation.join_segmentations(IMAGE, given))


def test_labels_in_the_table_that_are_missing_in_the_image_change_nothing():
    rows = pd.DataFrame({"label": [-5, 0, 1, 2**40]})
    np.testing.assert_array_equal(segmentation.filter_labels(IMAGE.astype("u1"), rows), IMAGE)
    assert isinstance(InputError("x"), BigbiaError)


# ---- pipelines ------------------------------------------------------------------------------------------------------
PIPELINE = """\
bigbia: 1
steps:
  nuclei: {op: measure.label, label_image: input}
  rows: {op: measure.regionprops_table, label_image: nuclei}
  large: {op: segmentation.filter_labels, label_image: nuclei, table: rows, condition: area > 5 and extent > 0.3}
save:
  labels: {large: large}
  tables: {rows: rows}
"""


@pytest.mark.parametrize("lazily", [False, True])
def test_a_table_is_handed_on_in_a_pipeline(lazily, tmp_path):
    from bigbia.run.pipeline import Pipeline

    array = image("blobs", (9, 20, 21), "bool", 0) & image("dense", (9, 20, 21), "bool", 0)
    pipeline = Pipeline.parse(PIPELINE)
    assert set(pipeline.steps["large"].names) == {"nuclei", "rows"}
    assert not pipeline.unused
    assert pipeline.text == PIPELINE
    results = pipeline.build(da.from_array(array, chunks=7) if lazily else array)
    labels = bigbia.measure.label(array)
    expected = filtered(labels, "area > 5 and extent > 0.3")
    np.testing.assert_array_equal(results["large"], expected)
    outputs = pipeline.outputs(results)
    bigbia.save(tmp_path / "o.zarr", **{k: v for k, v in outputs.items() if k != "source"}, scheduler="threads")
    np.testing.assert_array_equal(bigbia.open(tmp_path / "o.zarr/labels/large").data, expected)
    assert len(pd.read_parquet(tmp_path / "o.zarr/tables/rows.parquet")) == labels.max()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("table: rows", "table: nuclei", "'nuclei' is no table, a table is needed"),
        ("label_image: nuclei, table", "label_image: rows, table", "'rows' is a table, an image is needed"),
        ("table: rows", "table: rovs", "'rovs' is no step: did you mean 'rows'"),
        ("table: rows", "table: 5", "table is 5, but must be a step"),
        ("table: rows, ", "", "needs 'table': add table: a step"),
        ("area > 5", "aera > 5", "did you mean 'area'"),
        ("condition: area > 5 and extent > 0.3", "condition: 5", "condition is 5, but must be text"),
    ],
)
def test_pipelines_refused(old, new, said):
    from bigbia.run.pipeline import Pipeline

    assert old in PIPELINE
    with pytest.raises(BigbiaError, match=said):
        Pipeline.parse(PIPELINE.replace(old, new)).build(image("blobs", (9, 20, 21), "bool", 0))
