"""Blobs: those of scikit-image, dropped by a rule that does not know of blocks; lengths with units; what is refused."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import feature
from skimage.feature.blob import _blob_overlap
from strategies import random_cuts
from test_contract import check_refused, computed

import bigbia
from bigbia.errors import BigbiaError, BlockError
from bigbia.filters import wide
from bigbia.graph.overlaps import InScales
from bigbia.graph.stages import stages_of
from bigbia.graph.table import table_graph
from bigbia.hyperstack import hyperstack
from bigbia.kernels.blobs import shared

blob_log, blob_dog = bigbia.feature.blob_log, bigbia.feature.blob_dog
LOG = {"min_sigma": 1, "max_sigma": 5, "num_sigma": 5}
DOG = {"min_sigma": 1, "max_sigma": 5}
PAIRS = [(blob_log, feature.blob_log, LOG), (blob_dog, feature.blob_dog, DOG)]


def spots(shape, places, dtype):
    """Gaussians of height 100: (place, sigma), ..."""
    index = np.indices(shape).astype(float)
    total = np.zeros(shape)
    for place, sigma in places:
        total += 100 * np.exp(-sum((i - p) ** 2 for i, p in zip(index, place)) / (2 * sigma**2))
    return total.astype(dtype)


def lazily(array, chunks, function, **words):
    return function(da.from_array(array, chunks=chunks), **words).compute(scheduler="sync")


def rows(table):
    """The rows of a table as the array that is made at once."""
    return table.drop(columns="response").to_numpy(float)


# ---- scikit-image ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ours", "theirs", "words"), PAIRS, ids=["log", "dog"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_isolated_spots_are_those_of_scikit_image(ours, theirs, words, dtype):
    flat = [((20, 20), 2), ((21, 61), 3), ((60, 22), 4), ((60, 60), 2)]
    solid = [((12, 11, 13), 2), ((12, 12, 36), 3), ((13, 36, 13), 1.5), ((36, 36, 36), 2.5)]
    for shape, places in (((80, 83), flat), ((48, 48, 50), solid)):
        image = spots(shape, places, dtype)
        floats = image if image.dtype.kind == "f" else image.astype(np.float32)
        expected = theirs(floats, **words, threshold=15)
        got = ours(image, **words, threshold=15)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got.astype(expected.dtype), expected)
        assert len(got) == len(places)
        np.testing.assert_array_equal(rows(lazily(image, 19, ours, **words, threshold=15)), got)


def test_noise_agrees_mostly_with_scikit_image():
    image = np.random.default_rng(0).normal(0, 10, (150, 150))
    for ours, theirs, words in PAIRS:
        a = {tuple(r) for r in ours(image, **words, threshold=2)}
        b = {tuple(r) for r in theirs(image, **words, threshold=2)}
        assert len(a & b) > 0.9 * max(len(a), len(b)) > 100


def test_borders_and_thresholds_are_those_of_scikit_image():
    rng = np.random.default_rng(1)
    image = ndi.gaussian_filter(rng.random((30, 31)), 1) * 100
    for more in (
        {"threshold": None},
        {"threshold": None, "threshold_rel": 0.4},
        {"threshold": 1, "threshold_rel": 0.1, "exclude_border": (3, 0)},
        {"threshold": 0.5, "exclude_border": 2},
        {"threshold": 1e9},
    ):
        for ours, theirs, words in PAIRS:
            given = words | {"overlap": 1.0} | more
            got = ours(image, **given)
            np.testing.assert_array_equal(got, theirs(image, **given), err_msg=str(more))
            np.testing.assert_array_equal(rows(lazily(image, (7, 12), ours, **given)), got)


def test_scales_in_equal_factors():
    image = spots((50, 51), [((20, 20), 2)], "float64")
    words = {"min_sigma": 1, "max_sigma": 8, "num_sigma": 7, "log_scale": True, "threshold": 10}
    np.testing.assert_array_equal(blob_log(image, **words), feature.blob_log(image, **words))


# ---- which blobs stay ------------------------------------------------------------------------------------------------
def pruned(found, ndim, overlap):
    """All pairs: blobs, the highest response first, of which the largest are taken first."""
    stay = []
    for i in sorted(range(len(found)), key=lambda i: (-found[i, -1], i)):
        if all(share(found[j], found[i], ndim) <= overlap + 1e-12 for j in stay):
            stay.append(i)
    return found[sorted(stay)]


def share(large, small, ndim):
    if ndim == 1:
        (a, r), (b, s) = large, small
        return min(1.0, max(0.0, min(a + r, b + s) - max(a - r, b - s)) / (2 * min(r, s)))
    return _blob_overlap(small, large, sigma_dim=len(large) - ndim)


@pytest.mark.parametrize("seed", range(24))
def test_a_blob_stays_if_it_overlaps_with_none_that_does(seed):
    rng = np.random.default_rng([7, seed])
    ndim = 1 + seed % 3
    shape = tuple(int(n) for n in rng.integers(1, {1: 400, 2: 50, 3: 22}[ndim], ndim))
    image = rng.normal(0, 10, shape)
    if seed % 4 == 0:
        image = (np.indices(shape).sum(0) % 6 < 1) * 40.0  # equal responses
    ours, _, words = PAIRS[seed // 3 % 2]
    overlap = float(rng.choice([0.0, 0.1, 0.5, 0.8]))
    words = words | {"threshold": 0.5}
    if seed % 5 == 0:
        words["max_sigma"] = [5.0, 4.0, 3.0][:ndim]
    every = ours(image, **words, overlap=1.0)
    expected = pruned(every, ndim, overlap)
    np.testing.assert_array_equal(ours(image, **words, overlap=overlap), expected)
    for _ in range(3):
        chunks = tuple(random_cuts(rng, n) for n in shape)
        if math.prod(map(len, chunks)) < 150:
            table = lazily(image, chunks, ours, **words, overlap=overlap)
            np.testing.assert_array_equal(rows(table), expected, err_msg=str(chunks))


def test_shares_are_those_of_scikit_image():
    rng = np.random.default_rng(3)
    for _ in range(2000):
        ndim = int(rng.integers(2, 4))
        one, other = (np.append(rng.random(ndim) * 9, rng.uniform(0.5, 4)) for _ in range(2))
        large, small = sorted((one, other), key=lambda b: -b[-1])
        d = np.linalg.norm(one[:ndim] - other[:ndim]) / (large[-1] * math.sqrt(ndim))
        expected = _blob_overlap(one, other)
        assert shared(d, small[-1] / large[-1], ndim) == pytest.approx(expected, abs=1e-9)


def test_chains_go_through_many_blocks():
    # each spot is a little weaker than the one before, and overlaps with it: whether it stays hangs on all before
    line = [((8, 6 + 4 * k), 1.0) for k in range(40)]
    image = sum(spots((16, 170), [s], "float64") * (0.98**k) for k, s in enumerate(line))
    words = {"min_sigma": 1.6, "max_sigma": 1.6, "num_sigma": 1, "threshold": 1, "overlap": 0.01}
    every = blob_log(image, **words | {"overlap": 1.0})
    expected = pruned(every, 2, 0.01)
    assert 2 * len(expected) <= len(every) + 1 > 30
    np.testing.assert_array_equal(blob_log(image, **words), expected)
    for chunks in ((16, 5), (3, 3), (5, 40)):
        table = blob_log(da.from_array(image, chunks=chunks), **words)
        graph = table_graph(table)
        np.testing.assert_array_equal(rows(table.compute(scheduler="threads")), expected)
        (stage,) = (p.stage.source for p in graph.parts)
        assert isinstance(stage, InScales)
        assert len(stage.rounds) > 1


def test_above_three_axes_all_stay():
    image = np.random.default_rng(5).normal(0, 10, (6, 7, 6, 5))
    words = {"min_sigma": 0.6, "max_sigma": 2, "num_sigma": 3, "threshold": 0.5}
    every = blob_log(image, **words, overlap=0)
    assert len(every) > 10
    np.testing.assert_array_equal(every, feature.blob_log(image, **words))
    np.testing.assert_array_equal(rows(lazily(image, 4, blob_log, **words, overlap=0)), every)


# ---- sigmas ----------------------------------------------------------------------------------------------------------
def test_sigmas_along_each_axis():
    image = spots((12, 40, 42), [((6, 20, 12), 2.0), ((6, 20, 32), 2.0)], "float32")
    for ours, theirs, words in PAIRS:
        given = words | {"min_sigma": (0.5, 1, 1), "max_sigma": (2, 4, 4), "threshold": 5}
        expected = theirs(image, **given)
        got = ours(image, **given)
        assert got.shape == (len(got), 6)
        assert len(got)
        np.testing.assert_array_equal(got.astype("f4"), expected)
        table = lazily(image, (5, 17, 20), ours, **given)
        assert list(table.columns) == [f"axis-{a}" for a in range(3)] + [f"sigma-{a}" for a in range(3)] + ["response"]
        np.testing.assert_array_equal(rows(table), got)


def test_sigmas_with_a_unit_and_times():
    image = spots((8, 40, 42), [((4, 20, 12), 2.0)], "uint16")
    both = np.stack([image, image[:, ::-1]])
    stack = hyperstack(
        da.from_array(both, chunks=(1, 5, 17, 20)), "tzyx", voxel_size={"z": 2.0, "y": 0.5, "x": 0.5}, unit="um"
    )
    table = blob_log(stack, "0.5 um", "2 um", 4, threshold=5).compute()
    assert list(table.t) == [0, 1]
    for t in range(2):
        words = {"min_sigma": (0.25, 1, 1), "max_sigma": (1, 4, 4), "num_sigma": 4, "threshold": 5}
        np.testing.assert_array_equal(rows(table[table.t == t].drop(columns="t")), blob_log(both[t], **words))


def test_wide_gaussians_are_taken_axis_by_axis(monkeypatch):
    image = np.random.default_rng(2).normal(0, 9, (30, 41)).astype("f4")
    words = {"min_sigma": 1, "max_sigma": 6, "threshold": 0.2}
    for ours in (blob_log, blob_dog):
        expected = ours(image, **words)
        with monkeypatch.context() as patch:
            patch.setattr(wide, "SHORTEST", 5)
            patch.setattr(wide, "MORE", 1.0)
            table = ours(da.from_array(image, chunks=(9, 10)), **words)
            stages = stages_of(table_graph(table).parts[0].stage.source.inputs)
        assert len(stages) > 1
        np.testing.assert_array_equal(rows(table.compute(scheduler="sync")), expected)


# ---- images without blobs --------------------------------------------------------------------------------------------
def test_images_without_blobs():
    for image in (np.zeros((9, 10)), np.full((9, 10), 7, np.uint8), np.zeros((1, 1)), np.zeros(5, np.float32)):
        for ours, _, words in PAIRS:
            for threshold in (0.1, None):
                assert ours(image, **words, threshold=threshold).shape[1] == image.ndim + 1
            assert len(ours(image, **words)) == len(lazily(image, 3, ours, **words)) == 0


@pytest.mark.filterwarnings("ignore:invalid value")  # inf less inf
def test_voxels_that_are_no_numbers_are_refused():
    for bad in (np.nan, np.inf):
        image = np.random.default_rng(0).random((20, 22))
        image[11, 3] = bad
        for ours, _, words in PAIRS:
            for more in ({}, {"threshold_rel": 0.2}):
                for array in (image, da.from_array(image, chunks=(7, 9))):
                    with pytest.raises(BlockError, match=rf"{ours.__name__}: {bad} at voxel \(11, 3\).*nan_to_num"):
                        computed(ours(array, **words | more))


# ---- what is refused -------------------------------------------------------------------------------------------------
def test_bad_arguments_are_refused():
    image = np.ones((9, 10), np.float32)
    for name, function in (("blob_log", blob_log), ("blob_dog", blob_dog)):
        for words, said in (
            ({"min_sigma": 0}, "min_sigma=0 must be above 0"),
            ({"min_sigma": -1}, "min_sigma=-1"),
            ({"min_sigma": 3, "max_sigma": 2}, "max_sigma=2 is below min_sigma=3"),
            ({"max_sigma": (3, 3, 3)}, "3 numbers for 2 spatial axes"),
            ({"max_sigma": math.inf}, "finite"),
            ({"max_sigma": "3 um"}, "voxel size"),
            ({"overlap": -0.1}, "overlap=-0.1 must be a number from 0 to 1"),
            ({"overlap": 1.5}, "overlap=1.5"),
            ({"threshold": "high"}, "threshold='high'"),
            ({"threshold": math.nan}, "threshold=nan"),
            ({"threshold_rel": True}, "threshold_rel=True"),
            ({"exclude_border": True}, "exclude_border=True"),
            ({"exclude_border": -1}, "exclude_border=-1"),
            ({"exclude_border": (1, 2, 3)}, "1 or 2"),
            ({"exclude_border": 1.5}, "exclude_border=1.5"),
        ):
            check_refused((lambda a, f=function, w=words: f(a, **w), f"{said}"), image)
        with pytest.raises(BigbiaError, match=rf"feature.{name}: .*complex"):
            function(image.astype(complex))
    for count in (0, -1, 2.5, True, 10**6):
        check_refused((lambda a, n=count: blob_log(a, num_sigma=n), f"num_sigma={count!r}"), image)
    for ratio in (1, 0.5, math.nan, "2", None):
        check_refused((lambda a, r=ratio: blob_dog(a, sigma_ratio=r), f"sigma_ratio={ratio!r}"), image)
    check_refused((lambda a: blob_dog(a, sigma_ratio=1.0001), "at most 1000"), image)
