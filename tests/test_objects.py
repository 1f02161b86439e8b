"""Objects removed, holes filled, borders cleared, tables made in the merge: equal to scikit-image, SciPy and ourselves."""

from __future__ import annotations

import warnings

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage as ndi
from skimage import measure, morphology, segmentation
from strategies import KINDS, image, random_cuts
from test_contract import check_refused

import bigbia
from bigbia.errors import BigbiaError
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.merge import Components
from bigbia.graph.stages import stages_of
from bigbia.hyperstack import hyperstack
from bigbia.io.synthetic import source

LONGEST = {1: 60, 2: 18, 3: 9, 4: 5}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings(), dask.config.set(scheduler="sync"):
        warnings.simplefilter("ignore")  # scikit-image's, of images with a single label
        yield


def random_case(rng, dtype="bool", most=4):
    """An image, and the same in random blocks; a connectivity and a size."""
    ndim = int(rng.integers(1, most + 1))
    shape = tuple(int(n) for n in rng.integers(1, LONGEST[ndim], ndim))
    array = image(str(rng.choice(KINDS)), shape, dtype, int(rng.integers(2**31)))
    if dtype != "bool":
        array = array % 4
    return array, cut(rng, array), int(rng.integers(1, ndim + 1)), int(rng.integers(0, 6))


def cut(rng, array):
    return da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape))


def same(lazy, eager, expected, what=""):
    got = lazy.compute()
    assert got.dtype == eager.dtype
    np.testing.assert_array_equal(got, eager, err_msg=what)
    np.testing.assert_array_equal(got, expected, err_msg=what)


def check_masks(rng):
    array, lazy, c, k = random_case(rng)
    structure = ndi.generate_binary_structure(array.ndim, c)
    buffer = min(k, min(array.shape) - 1)
    for name, ours, expected in (
        (
            "small",
            lambda x: bigbia.morphology.remove_small_objects(x, k, c),
            morphology.remove_small_objects(array, max_size=k, connectivity=c),
        ),
        (
            "holes",
            lambda x: bigbia.morphology.remove_small_holes(x, k, c),
            morphology.remove_small_holes(array, max_size=k, connectivity=c),
        ),
        ("fill", lambda x: bigbia.morphology.fill_holes(x, c), ndi.binary_fill_holes(array, structure)),
        ("largest", lambda x: bigbia.morphology.keep_largest(x, k + 1, c), largest(array, structure, k + 1)),
        ("border", lambda x: bigbia.segmentation.clear_border(x, buffer), segmentation.clear_border(array, buffer)),
    ):
        same(ours(lazy), ours(array), expected, name)


def largest(array, structure, n):
    labels = ndi.label(array, structure)[0]
    return np.isin(labels, np.argsort(-np.bincount(labels.ravel())[1:], kind="stable")[:n] + 1)


def check_one_merge(rng):
    """A chain of conditions, then numbers: one stage of components, and what scikit-image gives step by step."""
    array, lazy, c, k = random_case(rng)

    def ours(x):
        some = bigbia.morphology.remove_small_objects(x, k, c)
        some = bigbia.morphology.remove_large_objects(some, 9, c)
        if c == array.ndim:
            some = bigbia.segmentation.clear_border(some)
        return bigbia.measure.label(some, connectivity=c)

    some = morphology.remove_small_objects(array, max_size=k, connectivity=c)
    some &= ~morphology.remove_small_objects(some, max_size=8, connectivity=c)
    some = segmentation.clear_border(some) if c == array.ndim else some
    result = ours(lazy)
    same(result, ours(array), measure.label(some, connectivity=c))
    assert sum(isinstance(s, Components) for s in stages_of([node_of(result)[0]])) == 1


def check_border_of_labels(rng):
    array, lazy, _, k = random_case(rng, "int32", most=3)
    mask = rng.random(array.shape) < 0.8
    background = k % 3
    inner = np.zeros(array.shape, bool)
    inner[(slice(1, -1),) * array.ndim] = True
    # scikit-image gives the background `bgval` if any of it lies at the border, we always
    if (array[~inner] == 0).any():
        expected = segmentation.clear_border(array, 0, background)
        clear = bigbia.segmentation.clear_border
        same(clear(lazy, 0, background), clear(array, 0, background), expected)
    if (array[~mask] == 0).any():
        expected = segmentation.clear_border(array, 0, background, mask)
        same(
            bigbia.segmentation.clear_border(lazy, 0, background, cut(rng, mask)),
            bigbia.segmentation.clear_border(array, 0, background, mask),
            expected,
        )


def check_tables(rng):
    array, lazy, c, k = random_case(rng, str(rng.choice(["bool", "int32"])), most=3)
    intensity = [None, rng.normal(0, 1, array.shape), rng.integers(0, 99, array.shape)][k % 3]
    other = None if intensity is None else cut(rng, intensity)
    expected = bigbia.measure.regionprops_table(bigbia.measure.label(array, connectivity=c), intensity)
    table, labels = bigbia.measure.objects(lazy, other, connectivity=c, return_labels=True)
    pd.testing.assert_frame_equal(table.compute().reset_index(drop=True), expected, check_exact=True)
    np.testing.assert_array_equal(labels, bigbia.measure.label(array, connectivity=c))
    pd.testing.assert_frame_equal(bigbia.measure.objects(array, intensity, connectivity=c), expected, check_exact=True)
    if array.dtype == bool:
        kept = bigbia.morphology.remove_small_objects(lazy, k, c)
        table = bigbia.measure.objects(kept, other, connectivity=c)
        some = bigbia.measure.label(morphology.remove_small_objects(array, max_size=k, connectivity=c), connectivity=c)
        expected = bigbia.measure.regionprops_table(some, intensity)
        pd.testing.assert_frame_equal(table.compute().reset_index(drop=True), expected, check_exact=True)


CHECKS = [check_masks, check_one_merge, check_border_of_labels, check_tables]
every_check = pytest.mark.parametrize("check", CHECKS, ids=[c.__name__ for c in CHECKS])


@every_check
def test_random_cases(check):
    rng = np.random.default_rng(0)
    for _ in range(12):
        check(rng)


@pytest.mark.slow
@every_check
def test_many_random_cases(check):
    rng = np.random.default_rng(1)
    for _ in range(200):
        check(rng)


# ---- holes ---------------------------------------------------------------------------------------------------------
def wall(shape):
    out = np.ones(shape, bool)
    out[(slice(1, -1),) * len(shape)] = False
    return out


def test_a_hole_across_ten_blocks_and_the_same_with_a_way_out():
    closed = np.zeros((12, 12, 100), bool)
    closed[1:-1, 1:-1, 1:-1] = wall((10, 10, 98))
    lazy = da.from_array(closed, chunks=(4, 5, 9))
    expected = ndi.binary_fill_holes(closed)
    assert expected.sum() == 10 * 10 * 98
    np.testing.assert_array_equal(bigbia.morphology.fill_holes(lazy), expected)
    opened = closed.copy()
    opened[5, 5, 98] = False  # one voxel, in the last block
    lazy = da.from_array(opened, chunks=(4, 5, 9))
    np.testing.assert_array_equal(bigbia.morphology.fill_holes(lazy), opened)


def test_a_hole_that_is_open_through_a_diagonal_only():
    array = wall((30, 30))
    array[0, 0] = array[1, 1] = False
    array[0, 1] = array[1, 0] = True
    for connectivity in (1, 2):
        expected = ndi.binary_fill_holes(array, ndi.generate_binary_structure(2, connectivity))
        got = bigbia.morphology.fill_holes(da.from_array(array, chunks=4), connectivity)
        np.testing.assert_array_equal(got, expected)
    assert not expected[10, 10]


@pytest.mark.parametrize("kind", ["shells", "spiral", "percolation", "checkerboard"])
def test_adversaries(kind):
    volume = source(kind, (33, 34, 40))
    array = volume.read(tuple((0, n) for n in volume.shape))
    lazy = from_source(volume, (7, 9, 13))
    np.testing.assert_array_equal(bigbia.morphology.fill_holes(lazy), ndi.binary_fill_holes(array))
    np.testing.assert_array_equal(
        bigbia.morphology.remove_small_objects(lazy, 50), morphology.remove_small_objects(array, max_size=50)
    )
    np.testing.assert_array_equal(bigbia.segmentation.clear_border(lazy), segmentation.clear_border(array))
    structure = ndi.generate_binary_structure(3, 3)
    np.testing.assert_array_equal(bigbia.morphology.keep_largest(lazy, 3), largest(array, structure, 3))


# ---- one merge -----------------------------------------------------------------------------------------------------
def test_a_mask_is_read_once_for_all_that_is_asked_of_its_objects(monkeypatch):
    calls = []
    leaf = Components._leaf
    monkeypatch.setattr(Components, "_leaf", lambda self, *args: (calls.append(args[0]), leaf(self, *args)))
    mask = da.from_array(image("blobs", (20, 24, 28), "bool", 0), chunks=(10, 12, 14))
    some = bigbia.morphology.remove_small_objects(mask, 3, connectivity=3)
    labels, count = bigbia.measure.label(some, return_num=True)
    table, same_labels = bigbia.measure.objects(some, return_labels=True)
    labels.compute(), count.compute(), some.compute()
    assert len(calls) == 8
    table.compute(), same_labels.compute()
    assert len(calls) == 16  # the same objects, measured: another merge


def test_other_objects_are_another_merge():
    array = image("noise", (20, 21), "bool", 3)
    some = bigbia.morphology.remove_small_objects(da.from_array(array, chunks=5), 2, connectivity=1)
    expected = morphology.remove_small_objects(array, max_size=2, connectivity=1)
    np.testing.assert_array_equal(bigbia.measure.label(some), measure.label(expected))
    filled = bigbia.morphology.fill_holes(some)
    np.testing.assert_array_equal(filled, ndi.binary_fill_holes(expected))
    np.testing.assert_array_equal(bigbia.measure.label(filled), measure.label(ndi.binary_fill_holes(expected)))
    biggest = bigbia.morphology.keep_largest(some, 2, connectivity=1)
    again = bigbia.segmentation.clear_border(bigbia.morphology.remove_large_objects(biggest, 1000))
    structure = ndi.generate_binary_structure(2, 1)
    np.testing.assert_array_equal(again, segmentation.clear_border(largest(expected, structure, 2)))


def test_each_time_and_channel_is_one_merge():
    array = image("noise", (2, 3, 12, 13), "bool", 4)
    stack = hyperstack(da.from_array(array, chunks=(1, 2, 5, 6)), "tcyx")
    some = bigbia.morphology.remove_small_objects(stack, 3, connectivity=2)
    labels = bigbia.measure.label(some)
    assert sum(isinstance(s, Components) for s in stages_of([node_of(labels.data)[0]])) == 6
    for t in range(2):
        for c in range(3):
            expected = morphology.remove_small_objects(array[t, c], max_size=3, connectivity=2)
            np.testing.assert_array_equal(some[t, c], expected)
            np.testing.assert_array_equal(labels[t, c], measure.label(expected))


def test_a_border_mask_for_all_times_or_each():
    array = image("noise", (2, 12, 13), "bool", 4)
    stack = hyperstack(da.from_array(array, chunks=(1, 5, 6)), "tyx")
    masks = image("dense", (2, 12, 13), "bool", 5)
    each = bigbia.segmentation.clear_border(stack, mask=hyperstack(da.from_array(masks, chunks=4), "tyx"))
    every = bigbia.segmentation.clear_border(stack, mask=masks[0])
    for t in range(2):
        np.testing.assert_array_equal(each[t], segmentation.clear_border(array[t], mask=masks[t]))
        np.testing.assert_array_equal(every[t], segmentation.clear_border(array[t], mask=masks[0]))


def test_live_masks():
    array = image("noise", (20, 21), "bool", 3)
    live = da.from_array(array, chunks=5).map_blocks(lambda b: b, dtype=bool)
    some = bigbia.morphology.remove_small_objects(live, 2)
    np.testing.assert_array_equal(some, morphology.remove_small_objects(array, max_size=2))
    border = bigbia.segmentation.clear_border(some, mask=live.map_blocks(np.logical_not, dtype=bool))
    expected = segmentation.clear_border(morphology.remove_small_objects(array, max_size=2), mask=~array)
    np.testing.assert_array_equal(border, expected)


# ---- bad input -----------------------------------------------------------------------------------------------------
MASK = np.zeros((6, 7), bool)
REFUSED = {
    "a negative size": (lambda a: bigbia.morphology.remove_small_objects(a, -1), "max_size=-1"),
    "a fraction": (lambda a: bigbia.morphology.remove_small_holes(a, 2.5), "max_size=2.5"),
    "no objects": (lambda a: bigbia.morphology.keep_largest(a, 0), "n=0"),
    "large: nothing": (lambda a: bigbia.morphology.remove_large_objects(a, 0), "min_size=0"),
    "connectivity": (lambda a: bigbia.morphology.fill_holes(a, 3), "connectivity=3: 1 to 2"),
    "connectivity of label": (lambda a: bigbia.measure.label(a, connectivity=0), "connectivity=0"),
    "holes of labels": (lambda a: bigbia.morphology.fill_holes(a.astype("u1")), "uint8"),
    "floats": (lambda a: bigbia.morphology.remove_small_objects(a.astype("f4")), "float32"),
    "complex": (lambda a: bigbia.measure.objects(a.astype("c8")), "complex64"),
    "a buffer": (lambda a: bigbia.segmentation.clear_border(a, 6), "buffer_size=6"),
    "a background": (lambda a: bigbia.segmentation.clear_border(a.astype("u1"), 0, 256), "bgval=256"),
    "another mask": (lambda a: bigbia.segmentation.clear_border(a, mask=MASK[:3]), "(3, 7)"),
    "a mask of numbers": (lambda a: bigbia.segmentation.clear_border(a, mask=MASK.astype("u1")), "mask"),
    "intensities elsewhere": (lambda a: bigbia.measure.objects(a, MASK[:3]), "(3, 7)"),
    "an unknown property": (lambda a: bigbia.measure.objects(a, properties=["size"]), "size"),
    "dtype": (lambda a: bigbia.measure.objects(a, dtype="int32"), "int32"),
    "a background of label": (lambda a: bigbia.measure.label(a, background=2), "background=2"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_anything_is_read(call):
    check_refused(call, MASK)


def test_negative_labels():
    labels = da.from_array(np.array([0, 3, 3, -2, 0, 5]), chunks=2)
    with pytest.raises(BigbiaError, match=r"-2"):
        bigbia.morphology.remove_small_objects(labels, 1).compute()
