"""Distances: SciPy's to the bit whatever the cut, from few reads; balls and grown labels equal to scikit-image's."""

from __future__ import annotations

import math
import pickle
import warnings
from fractions import Fraction

import dask
import dask.array as da
import numpy as np
import pytest
from cases import _edt
from scipy import ndimage as ndi
from skimage import segmentation
from strategies import KINDS, image, random_cuts
from test_contract import Array, forbidden

import bigbia
from bigbia.errors import BigbiaError, BigbiaWarning
from bigbia.graph.boxes import Grid
from bigbia.graph.dask import from_source
from bigbia.graph.regions import Literal
from bigbia.graph.stages import tasks
from bigbia.graph.sweep import MOST, Sweep, metric
from bigbia.graph.sweep_labels import LabelSweep
from bigbia.hyperstack import hyperstack
from bigbia.kernels import distance as kernels
from bigbia.run.execute import execute

edt = bigbia.morphology.distance_transform_edt
LONGEST = {1: 200, 2: 30, 3: 12, 4: 6}
DENSITIES = (0.0, 0.02, 0.3, 0.7, 0.97, 0.999, 1.0)


@pytest.fixture(autouse=True)
def in_one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def random_mask(rng):
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, LONGEST[ndim], ndim))
    kind = rng.integers(0, 4)
    if kind == 0:
        return image(str(rng.choice(KINDS)), shape, "bool", int(rng.integers(2**31)))
    if kind == 1:  # a single voxel of background
        mask = np.ones(shape, bool)
        mask.flat[rng.integers(mask.size)] = False
        return mask
    return rng.random(shape) < rng.choice(DENSITIES)


def random_grid(rng, shape):
    return Grid(tuple(random_cuts(rng, n) for n in shape))


def swept(array, grid, sampling=None, kind=Sweep):
    """Through the stage's own tasks, in one thread; some box of the result too."""
    stage = kind(Literal(array), grid, metric(sampling or (1.0,) * array.ndim, array.shape))
    for step, index in tasks(stage):
        stage.task(step, index)
    return stage.left("distance", tuple((0, n) for n in array.shape))


# ---- equal to SciPy ------------------------------------------------------------------------------------------------
def check_random_cases(cases, seed):
    rng = np.random.default_rng(seed)
    for _ in range(cases):
        mask = random_mask(rng)
        sampling = None if rng.random() < 0.5 else [int(n) for n in rng.integers(1, 400, mask.ndim)]
        expected = _edt(mask, sampling)
        np.testing.assert_array_equal(edt(mask, sampling), expected)
        np.testing.assert_array_equal(swept(mask, random_grid(rng, mask.shape), sampling), expected)


def test_random_cases():
    check_random_cases(60, 0)


@pytest.mark.slow
def test_two_thousand_random_cases():
    check_random_cases(2000, 1)


def test_sizes_that_are_no_whole_numbers_are_nearly_scipys_and_the_same_for_every_cut():
    rng = np.random.default_rng(2)
    for _ in range(30):
        mask = random_mask(rng)
        # decimals with a common part, and numbers with none, whose squares do not fit
        some = rng.choice([0.29, 0.26, 0.1625, 0.5, 2.0, 0.08600044, 1 / 3, math.pi], mask.ndim)
        sampling = [float(s) for s in some]
        whole = edt(mask, sampling)
        exact = metric(sampling, mask.shape).slack == 0
        np.testing.assert_allclose(whole, _edt(mask, sampling), rtol=1e-15 if exact else 1e-13)
        np.testing.assert_array_equal(swept(mask, random_grid(rng, mask.shape), sampling), whole)


def test_halves_and_quarters_are_exact():
    mask = image("dense", (20, 21), "bool", 0)
    np.testing.assert_array_equal(edt(mask, [0.75, 0.5]), ndi.distance_transform_edt(mask, [0.75, 0.5]))


@pytest.mark.parametrize("kind", ["checkerboard", "full", "empty", "corner"])
@pytest.mark.parametrize("sampling", [None, (400, 1, 1), (1, 1, 400)])
def test_adversaries(kind, sampling):
    array = image(kind, (13, 14, 15), "bool", 0)
    array = ~array if kind == "corner" else array  # background in a corner only: farther than many blocks
    for cut in (1, 5, (13, 2, 4)):
        if cut == 1:
            array = array[:4, :4, :9]
        grid = Grid.regular(array.shape, [cut] * 3 if isinstance(cut, int) else cut)
        np.testing.assert_array_equal(swept(array, grid, sampling), _edt(array, sampling))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_voxel_of_background_at_the_end_of_a_long_thin_array_in_blocks_of_one(axis):
    shape = [2, 2, 2]
    shape[axis] = 90
    array = np.ones(shape, bool)
    array[-1, -1, -1] = False
    grid = Grid.regular(shape, (1, 1, 1))
    np.testing.assert_array_equal(swept(array, grid, (3, 2, 1)), _edt(array, (3, 2, 1)))


def test_wide_numbers_give_the_same_as_narrow_ones():
    mask = image("dense", (40, 50, 70), "bool", 0)
    mask[5:35, 5:45, 3:60] = True
    for weights in ((1, 1, 1), (9, 4, 1)):
        narrow = kernels.squared(mask, weights, np.dtype("u4"), kernels.far_of(np.dtype("u4")))
        wide = kernels.squared(mask, weights, np.dtype("i8"), kernels.far_of(np.dtype("i8")))
        np.testing.assert_array_equal(narrow, wide)
        np.testing.assert_array_equal(np.sqrt(wide), _edt(mask, np.sqrt(weights)))
    # a squared diagonal past 2**31
    far = np.ones((3, 70000), bool)
    far[0, 0] = False
    np.testing.assert_array_equal(swept(far, Grid.regular(far.shape, (2, 30000))), _edt(far))


def test_steps_and_envelopes_give_the_same(monkeypatch):
    """Long distances, by the envelope of the lines; and the greatest weights that are let through."""
    mask = np.ones((300, 90), bool)
    mask[::97, ::31] = False
    np.testing.assert_array_equal(edt(mask), ndi.distance_transform_edt(mask))
    for sampling in ((1.0, 12345.678912), (98765.4321, 1.0)):
        how = metric(sampling, mask.shape)
        assert MOST // 8 < how.most < MOST
        np.testing.assert_allclose(edt(mask, sampling), ndi.distance_transform_edt(mask, sampling), rtol=1e-12)


def test_lengths_as_people_write_them_are_exact():
    how = metric((0.29, 0.26, 0.26), (100, 2000, 2000))
    assert (how.weights, how.slack) == ((29**2, 26**2, 26**2), 0.0)
    assert metric((0.5, 0.5), (9, 9)).weights == (1, 1)
    assert metric((7.0, 0.1), (1, 9)).weights[1] == 1  # an axis of one voxel has no say
    rounded = metric((0.5, 0.08600044, 0.08600044), (300, 2000, 2000))
    assert 0 < rounded.slack < 1e-11
    assert 0 < metric((1.234567890123, 0.345678901234, 0.246913578025), (2000,) * 3).slack < 1e-10
    a, b, c = (Fraction(w) for w in rounded.weights)
    assert b == c
    assert abs(float(a / b) / (0.5 / 0.08600044) ** 2 - 1) < 1e-10
    assert metric((1e12, 1.0), (2000, 2000)) is None


def test_a_limit_is_where_distances_pass_it():
    for sampling, limit in (((1.0, 1.0), math.sqrt(3)), ((0.1, 0.1), 0.3), ((0.1, 0.1), 0.7), ((3.0, 7.0), 20.0)):
        how = metric(sampling, (50, 50), limit)
        most = how.within(limit)
        assert how.length(most) <= limit < how.length(most + 1)
        assert most == round(limit**2 / (how.numerator / how.denominator)) or sampling == (3.0, 7.0)
    assert metric((1.0,), (9,), 0.0).within(0.0) == 0


# ---- to other labels -----------------------------------------------------------------------------------------------
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def random_labels(rng):
    """Labels that touch, labels in pieces, one label with a hole; the least and the greatest a type can hold."""
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, LONGEST[ndim], ndim))
    dtype = np.dtype(rng.choice(TYPES))
    some = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 2], dtype)
    values = rng.choice(some, int(rng.integers(1, 5)), False)
    kind = rng.integers(0, 4)
    if kind == 0:  # voxels at random
        return rng.choice(values, shape)
    if kind == 1:  # one label, and a voxel or none of another
        labels = np.full(shape, values[-1])
        labels.flat[rng.integers(labels.size)] = values[0]
        return labels
    if kind == 2:  # boxes
        labels = rng.choice(values, shape)
        for axis, n in enumerate(shape):
            labels = np.repeat(labels, int(rng.integers(1, n + 1)), axis).take(range(n), axis)
        return labels
    return np.where(rng.random(shape) < rng.choice(DENSITIES), rng.choice(values, shape[-1:]), values[0])


def check_random_labels(cases, seed):
    rng = np.random.default_rng(seed)
    for _ in range(cases):
        labels = random_labels(rng)
        sampling = None if rng.random() < 0.5 else [int(n) for n in rng.integers(1, 400, labels.ndim)]
        limit = float(rng.choice([1, 3.5, 40])) * max(sampling or [1])
        expected = _edt(labels, sampling, per_label=True)
        grid = random_grid(rng, labels.shape)
        np.testing.assert_array_equal(edt(labels, sampling, per_label=True), expected)
        np.testing.assert_array_equal(swept(labels, grid, sampling, LabelSweep), expected)
        clipped = edt(da.from_array(labels, grid.chunks), sampling, max_distance=limit, per_label=True)
        np.testing.assert_array_equal(clipped, np.minimum(expected, limit))


def test_random_labels():
    check_random_labels(60, 0)


@pytest.mark.slow
def test_five_hundred_random_labels():
    check_random_labels(500, 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("block", [1, 5, 40])
def test_a_label_through_many_blocks(axis, block):
    shape = [2, 2, 3]
    shape[axis] = 63
    labels = np.full(shape, 7, np.uint16)
    runs = np.moveaxis(labels, axis, 0)
    runs[57, 0, 1] = 9  # far from the one end; beyond the other is nothing
    runs[58:, 1] = 8
    grid = Grid.regular(shape, (block,) * 3)
    for sampling in (None, (3, 2, 1), (1, 50, 400)):
        expected = _edt(labels, sampling, per_label=True)
        np.testing.assert_array_equal(swept(labels, grid, sampling, LabelSweep), expected)
        np.testing.assert_array_equal(edt(labels, sampling, per_label=True), expected)


def test_sizes_of_labels_that_are_no_whole_numbers_and_wide_ones():
    rng = np.random.default_rng(6)
    for _ in range(30):
        labels = random_labels(rng)
        sampling = [float(s) for s in rng.choice([0.29, 0.26, 0.5, 2.0, 1 / 3, math.pi], labels.ndim)]
        whole = edt(labels, sampling, per_label=True)
        np.testing.assert_allclose(whole, _edt(labels, sampling, per_label=True), rtol=1e-12)
        np.testing.assert_array_equal(swept(labels, random_grid(rng, labels.shape), sampling, LabelSweep), whole)
    far = np.ones((3, 70000), np.int32)  # a squared diagonal past 2**31
    far[0, 0], far[2] = 2, 3
    expected = _edt(far, per_label=True)
    np.testing.assert_array_equal(swept(far, Grid.regular(far.shape, (2, 30000)), None, LabelSweep), expected)


def test_one_label_everywhere_and_masks():
    full = np.full((5, 6), 3, np.uint8)
    assert np.isinf(edt(full, per_label=True)).all()
    assert np.isinf(swept(full, Grid.regular(full.shape, (2, 5)), None, LabelSweep)).all()
    assert (edt(full, max_distance=4, per_label=True) == 4).all()
    assert not edt(full * 0, per_label=True).any()
    mask = image("dense", (20, 21), "bool", 0)
    for limit in (None, 2):
        for array in (mask, da.from_array(mask, chunks=6)):
            expected = edt(mask, max_distance=limit)
            np.testing.assert_array_equal(edt(array, max_distance=limit, per_label=True), expected)
            np.testing.assert_array_equal(edt(array.astype("u1"), max_distance=limit, per_label=True), expected)


def test_labels_are_read_once_and_only_near_blocks_looked_at(monkeypatch):
    counts = {"rows": 0, "reads": 0}

    def counted(name, function):
        def counting(*args):
            counts[name] += 1
            return function(*args)

        return counting

    monkeypatch.setattr(Sweep, "_rows", counted("rows", Sweep._rows))
    monkeypatch.setattr(Literal, "compute", counted("reads", Literal.compute))
    cells = np.arange(1, 65, dtype=np.int32).reshape(4, 4, 4)  # cubes of eight voxels, side by side
    labels = cells.repeat(8, 0).repeat(8, 1).repeat(8, 2)
    for block in (13, 8, 5):
        counts.update(rows=0, reads=0)
        grid = Grid.regular(labels.shape, (block,) * 3)
        np.testing.assert_array_equal(swept(labels, grid, None, LabelSweep), _edt(labels, per_label=True))
        assert counts["rows"] <= 2 * 2 * len(grid)  # on two axes the neighbours, and no others
        assert counts["reads"] == len(grid)


def test_labels_of_each_time_and_channel_in_units():
    array, lazy = stack("zyxct", dtype="int32", seed=7)
    array = array % 3
    lazy = lazy % 3
    got = edt(lazy, "um", per_label=True)
    clipped = edt(lazy, "um", max_distance="600 nm", per_label=True).transpose(*"tczyx").values
    assert got.attrs["units"] == "micrometer"
    got = got.transpose(*"tczyx").values
    for t in range(2):
        for c in range(2):
            expected = _edt(array[t, c], (0.5, 0.25, 0.25), per_label=True)
            np.testing.assert_array_equal(got[t, c], expected)
            np.testing.assert_array_equal(clipped[t, c], np.minimum(expected, 0.6))


def test_labels_on_threads_and_in_waves():
    array = image("blobs", (30, 31, 32), "int32", 1) % 4
    lazy = edt(da.from_array(array, chunks=(9, 8, 7)), per_label=True)
    expected = _edt(array, per_label=True)
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(lazy[3:17, 9, 30:5:-2], expected[3:17, 9, 30:5:-2])
        np.testing.assert_array_equal(lazy, expected)
    stage = LabelSweep(Literal(array), Grid.regular(array.shape, (9, 8, 7)), metric((1, 1, 1), array.shape))
    execute([pickle.loads(pickle.dumps(stage))], scheduler="threads")
    np.testing.assert_array_equal(stage.left("distance", ((0, 30), (2, 9), (0, 32))), expected[:, 2:9])


# ---- the graph -----------------------------------------------------------------------------------------------------
def test_only_the_blocks_that_distances_reach_are_read(monkeypatch):
    reads = {}
    rows = Sweep._rows

    def counted(self, axis, index, n, side):
        reads[axis] = reads.get(axis, 0) + 1
        return rows(self, axis, index, n, side)

    monkeypatch.setattr(Sweep, "_rows", counted)
    array = np.ones((60, 60, 60), bool)
    array[5::10, 5::10, 5::10] = False  # nothing farther than 5 voxels along an axis
    expected = _edt(array)
    assert expected.max() < 9
    for block in (27, 10):
        reads.clear()
        grid = Grid.regular(array.shape, (block,) * 3)
        np.testing.assert_array_equal(swept(array, grid), expected)
        assert max(reads.values()) <= 2 * len(grid)  # the neighbours, and no others
    # the others hold nothing that is near: the least distance in them says so
    reads.clear()
    array[:] = True
    array[0] = False
    array[:, 0] = False
    np.testing.assert_array_equal(swept(array, Grid.regular(array.shape, (10, 10, 60))), _edt(array))
    assert reads[0] <= 6 * 21
    reads.clear()
    swept(np.zeros((60, 60, 60), bool), Grid.regular(array.shape, (10,) * 3))
    swept(np.ones((60, 60, 60), bool), Grid.regular(array.shape, (10,) * 3))
    assert reads == {}


def test_parts_of_the_result_and_a_second_compute():
    source = Array(image("dense", (30, 31, 32), "uint8", 0))
    lazy = edt(from_source(source, 8))
    expected = _edt(source.array != 0)
    np.testing.assert_array_equal(lazy[3:17, 9, 30:5:-2], expected[3:17, 9, 30:5:-2])
    reads = source.reads
    np.testing.assert_array_equal(lazy, expected)
    assert source.reads == reads  # found done
    np.testing.assert_array_equal((lazy > 1) & (lazy < 3), (expected > 1) & (expected < 3))


def test_on_threads_in_waves_and_pickled():
    array = image("dense", (30, 31, 32), "bool", 1)
    stage = Sweep(Literal(array), Grid.regular(array.shape, (9, 8, 7)), metric((1, 1, 1), array.shape))
    execute([pickle.loads(pickle.dumps(stage))], scheduler="threads")
    assert stage.complete
    np.testing.assert_array_equal(stage.left("distance", ((0, 30), (2, 9), (0, 32))), _edt(array)[:, 2:9])
    assert "distance" in str(bigbia.explain(edt(da.from_array(array, chunks=9))))


def test_live_masks_and_chains():
    array = image("dense", (20, 21), "bool", 3)
    live = da.from_array(array, chunks=5).map_blocks(lambda b: b, dtype=bool)
    for scheduler in ("sync", "threads"):
        with dask.config.set(scheduler=scheduler):
            np.testing.assert_array_equal(edt(live), _edt(array))
    np.testing.assert_array_equal(edt(live, max_distance=2), _edt(array, None, 2))
    filled = bigbia.morphology.fill_holes(live)
    inner = edt(edt(filled) > 1)
    np.testing.assert_array_equal(inner, _edt(_edt(ndi.binary_fill_holes(array)) > 1))
    ball = bigbia.morphology.isotropic_erosion(filled, 1)
    np.testing.assert_array_equal(ball, _edt(ndi.binary_fill_holes(array)) > 1)


# ---- units ---------------------------------------------------------------------------------------------------------
def stack(dims="tczyx", seed=0, dtype="bool"):
    array = image("dense", (2, 2, 6, 13, 14), dtype, seed)
    array[:, :, :, 0] = 0
    lazy = hyperstack(da.from_array(array, chunks=(1, 2, 3, 5, 6)), "tczyx", voxel_size="0.5, 0.25, 0.25 um")
    return array, lazy.transpose(*dims)


@pytest.mark.parametrize("dims", ["tczyx", "zyxct", "xtzcy"])
def test_each_time_and_channel_in_units(dims):
    array, lazy = stack(dims)
    got = {
        "um": edt(lazy, "um"),
        "nm": edt(lazy, "nm"),
        "clipped": edt(lazy, "um", max_distance="600 nm"),
        "eroded": bigbia.morphology.isotropic_erosion(lazy, "0.5 um"),
        "opened": bigbia.morphology.isotropic_opening(lazy, 0.25, "um"),
        "dilated": bigbia.morphology.isotropic_dilation(lazy, "500 nm", "um"),
    }
    assert all(g.dims == tuple(dims) for g in got.values())
    assert got["um"].attrs["units"] == "micrometer"
    got = {k: g.transpose(*"tczyx").values for k, g in got.items()}
    for t in range(2):
        for c in range(2):
            mask = array[t, c]
            expected = _edt(mask, (0.5, 0.25, 0.25))
            np.testing.assert_array_equal(got["um"][t, c], expected)
            np.testing.assert_array_equal(got["nm"][t, c], _edt(mask, (500, 250, 250)))
            np.testing.assert_array_equal(got["clipped"][t, c], np.minimum(expected, 0.6))
            np.testing.assert_array_equal(got["eroded"][t, c], expected > 0.5)
            opened = _edt(expected <= 0.25, (0.5, 0.25, 0.25)) <= 0.25
            np.testing.assert_array_equal(got["opened"][t, c], opened)
            np.testing.assert_array_equal(got["dilated"][t, c], _edt(~mask, (0.5, 0.25, 0.25)) <= 0.5)


def test_labels_grow_in_units():
    array, lazy = stack(dtype="int32", seed=4)
    array = np.where(array % 9 == 1, array, 0)
    lazy = lazy.copy(data=da.from_array(array, chunks=lazy.data.chunks))
    got = bigbia.segmentation.expand_labels(lazy, "0.5 um").values
    for t in range(2):
        for c in range(2):
            expected = segmentation.expand_labels(array[t, c], 0.5, (0.5, 0.25, 0.25))
            np.testing.assert_array_equal(got[t, c], expected)


OPERATORS = {
    "edt": (edt, "sampling"),
    "erosion": (lambda a, **kw: bigbia.morphology.isotropic_erosion(a, 1, **kw), "spacing"),
    "labels": (lambda a, **kw: bigbia.segmentation.expand_labels(a.astype(int), 1, **kw), "spacing"),
}


@pytest.mark.parametrize(("operator", "name"), OPERATORS.values(), ids=OPERATORS)
def test_long_voxels_are_worth_a_warning(operator, name):
    _, lazy = stack()
    with pytest.warns(BigbiaWarning, match="2 times as long along z") as caught:
        operator(lazy)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        operator(lazy, **{name: "um"})
        operator(lazy, **{name: (1, 1, 1)})
        operator(lazy[:, :, 0])


def test_sizes_of_too_many_digits_are_worth_a_warning():
    lazy = da.ones((100, 10**7), chunks=(100, 10**6), dtype=bool)
    with pytest.warns(BigbiaWarning, match="right to"):
        edt(lazy, (math.pi, math.e))


# ---- labels that grow ----------------------------------------------------------------------------------------------
def test_labels_grow_as_in_scikit_image_ties_too():
    rng = np.random.default_rng(5)
    for _ in range(60):
        ndim = int(rng.integers(1, 5))
        shape = tuple(int(n) for n in rng.integers(1, LONGEST[ndim], ndim))
        labels = np.where(rng.random(shape) < rng.choice([0.02, 0.2]), rng.integers(1, 99, shape), 0)
        labels = labels.astype(rng.choice(["uint8", "int32", "uint64"]))
        distance = float(rng.choice([0, 1, 1.5, 3, 30]))
        spacing = 1 if rng.random() < 0.5 else [int(n) for n in rng.integers(1, 4, ndim)]
        whole = bigbia.segmentation.expand_labels(labels, distance, spacing)
        lazy = da.from_array(labels, chunks=tuple(random_cuts(rng, n) for n in shape))
        got = bigbia.segmentation.expand_labels(lazy, distance, spacing).compute()
        assert got.dtype == labels.dtype
        np.testing.assert_array_equal(got, whole)
        if labels.any():
            np.testing.assert_array_equal(whole, segmentation.expand_labels(labels, distance, spacing))
        else:
            assert not whole.any()


def test_no_background_and_no_foreground():
    full, empty = np.ones((5, 6), bool), np.zeros((5, 6), bool)
    assert np.isinf(edt(full)).all()
    assert (edt(full, max_distance=4) == 4).all()
    assert not edt(empty).any()
    for radius in (0, 2.5):
        assert bigbia.morphology.isotropic_erosion(full, radius).all()
        assert not bigbia.morphology.isotropic_dilation(empty, radius).any()


# ---- bad input -----------------------------------------------------------------------------------------------------
MASK = np.ones((6, 7), bool)
LABELS = np.ones((6, 7), np.uint8)
expand = bigbia.segmentation.expand_labels
erosion = bigbia.morphology.isotropic_erosion
REFUSED = {
    "a negative size": (lambda a: edt(a, -1), "sampling=-1"),
    "a size of zero": (lambda a: edt(a, (1, 0)), "sampling=(1, 0)"),
    "no number": (lambda a: edt(a, math.nan), "sampling=nan"),
    "no end": (lambda a: edt(a, math.inf), "sampling=inf"),
    "too many sizes": (lambda a: edt(a, (1, 1, 1)), "give 1 or 2"),
    "a truth": (lambda a: edt(a, True), "sampling=True"),
    "a unit without voxel size": (lambda a: edt(a, "um"), "no voxel size"),
    "an unknown unit": (lambda a: edt(a, "parrot"), "parrot"),
    "sizes too different": (lambda a: edt(a, (1e-12, 1e12)), "1e+24 times"),
    "a negative limit": (lambda a: edt(a, max_distance=-1), "max_distance=-1"),
    "a limit that is no number": (lambda a: edt(a, max_distance=math.nan), "max_distance=nan"),
    "a limit in units": (lambda a: edt(a, max_distance="2 um"), "sampling='micrometer'"),
    "floats": (lambda a: edt(a.astype("f4")), "float32"),
    "labels that are floats": (lambda a: edt(a.astype("f8"), per_label=True), "float64"),
    "labels of a negative size": (lambda a: edt(a.astype("u1"), -1, per_label=True), "sampling=-1"),
    "a negative radius": (lambda a: erosion(a, -1), "radius=-1"),
    "an endless radius": (lambda a: erosion(a, math.inf), "radius=inf"),
    "a radius in units": (lambda a: erosion(a, "2 um"), "radius='2 um': the image has no voxel size"),
    "a radius twice": (lambda a: erosion(a, "2 um", 3), "spacing=3"),
    "two radii": (lambda a: erosion(a, "1, 2 um", "um"), "no voxel size"),
    "a radius of another kind": (lambda a: erosion(a, [1]), "radius=[1]"),
    "floats eroded": (lambda a: erosion(a.astype("f8"), 1), "float64"),
    "a mask grown": (lambda a: expand(a), "bool"),
    "a negative distance": (lambda a: expand(a.astype("u1"), -0.5), "distance=-0.5"),
    "a negative spacing": (lambda a: expand(a.astype("u1"), 1, [1, -1]), "spacing=[1, -1]"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_anything_is_read(call):
    function, said = call
    source = Array(MASK)
    for array in (MASK, from_source(source, 3)):
        with pytest.raises(BigbiaError) as caught, dask.config.set(scheduler=forbidden):
            function(array)
        assert said in str(caught.value)
    assert source.reads == 0
