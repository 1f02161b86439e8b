"""Components of one block and what their runs tell: equal to SciPy and to plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from cases import canonical
from scipy import ndimage as ndi

from bigbia.kernels import measurements
from bigbia.kernels.components import Runs, components, paint
from bigbia.kernels.contacts import contacts
from bigbia.kernels.runs import geometry, sizes, touching, touching_mask

DTYPES = ("bool", "uint8", "int16", "uint16", "int32", "int64", "float32", "float64")
LONGEST = {1: 300, 2: 40, 3: 14, 4: 7, 5: 5}


def labelled(block, connectivity, background=0):
    structure = ndi.generate_binary_structure(block.ndim, connectivity)
    out = np.zeros(block.shape, np.int64)
    for value in np.unique(block[block != background]):
        part = ndi.label(block == value, structure)[0]
        out[part > 0] = part[part > 0] + out.max()
    return canonical(out)


def painted(runs: Runs) -> np.ndarray:
    return paint(runs, np.arange(runs.count + 1, dtype=np.uint32))


def random_block(rng, ndim=None, dtype=None, values=None):
    ndim = ndim or int(rng.integers(1, 6))
    shape = rng.integers(1, LONGEST[ndim] + 1, ndim)
    if rng.random() < 0.5:  # a line of several words
        shape[-1] = rng.choice([1, 2, 63, 64, 65, 127, 128, 129, 200])
        shape[:-1] = np.minimum(shape[:-1], {2: 20, 3: 7, 4: 4, 5: 3}.get(ndim, 1))
    dtype = np.dtype(dtype or rng.choice(DTYPES))
    values = 2 if dtype.kind == "b" else values or int(rng.integers(2, 5))
    block = np.where(rng.random(shape) < rng.random(), rng.integers(1, values, shape), 0)
    if rng.random() < 0.3:
        block = np.repeat(block, 3, axis=int(rng.integers(0, ndim)))
    return block.astype(dtype)


def random_runs(rng):
    block = random_block(rng)
    runs = components(block, int(rng.integers(1, block.ndim + 1)))
    return runs, painted(runs)


def check(block, connectivity, background=0):
    runs = components(block, connectivity, background)
    labels = painted(runs)
    expected = labelled(block, connectivity, background)
    np.testing.assert_array_equal(labels, expected)
    assert runs.count == expected.max(initial=0)
    first = np.unique(expected, return_index=True)[1][-runs.count or expected.size + 1 :]
    np.testing.assert_array_equal(runs.first, first)
    assert (runs.start < runs.stop).all()
    assert len(runs.start) == len(runs.stop) == len(runs.component) == runs.lines[-1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_blocks_of_every_dtype(dtype):
    rng = np.random.default_rng(DTYPES.index(dtype))
    for _ in range(60):
        block = random_block(rng, dtype=dtype)
        background = 0 if dtype == "bool" else int(rng.integers(0, 2))
        check(block, int(rng.integers(1, block.ndim + 1)), background)


@pytest.mark.parametrize(("ndim", "connectivity"), [(n, c) for n in range(1, 6) for c in range(1, n + 1)])
@pytest.mark.parametrize("values", [2, 4])
def test_every_connectivity_at_every_density(ndim, connectivity, values):
    rng = np.random.default_rng(ndim * 10 + connectivity)
    shape = (*{2: (12,), 3: (8, 7), 4: (4, 3, 5), 5: (3, 2, 3, 4)}.get(ndim, ()), 70)
    for p in (0.03, 0.1, 0.2, 0.31, 0.5, 0.8, 0.95, 1):
        check(((rng.random(shape) < p) * rng.integers(1, values, shape)).astype(np.uint8), connectivity)


def test_patterns_that_fill_words():
    for length in (1, 63, 64, 65, 128, 129):
        x = np.arange(length)
        for row in (x >= 0, x % 2 == 0, x % 2 == 1, x == 0, x == length - 1, (x > 60) & (x < 68), x % 64 == 63):
            for other in (row, ~row, np.roll(row, 1)):
                for connectivity in (1, 2):
                    check(np.stack([row, other, row]), connectivity)
                    check(np.stack([row, other, row]).astype(np.uint8) + 1, connectivity)


def test_views_and_byte_orders():
    block = random_block(np.random.default_rng(1), ndim=3, dtype="int32")
    for view in (block.T, block[::-1, :, ::-1], block[::2], block.astype(">i4"), np.asfortranarray(block)):
        check(view, 3)
    frozen = block.copy()
    frozen.flags.writeable = False
    check(frozen, 1)
    assert block.flags.writeable


def test_blocks_of_nothing():
    for shape in ((0,), (3, 0), (0, 3), (2, 0, 4), (4,), (3, 4, 5)):
        for block in (np.zeros(shape, bool), np.zeros(shape, np.uint16), np.broadcast_to(np.float32(0), shape)):
            runs = components(block, 1)
            assert runs.count == 0
            assert not painted(runs).any()
            assert painted(runs).shape == shape
            assert sizes(runs).shape == touching(runs, None, tuple((0, n) for n in shape), shape, 1).shape == (0,)
            assert geometry(runs, (0,) * len(shape))["sum"].shape == (0, len(shape))
            assert touching_mask(runs, np.ones(shape, bool)).shape == (0,)
    assert components(np.broadcast_to(np.uint8(7), (3, 4, 5)), 1).count == 1
    for ndim in range(1, 6):
        check(np.ones((1,) * ndim, bool), ndim)


def test_lines_beyond_16_bits():
    rng = np.random.default_rng(2)
    block = rng.random((3, 70000)) < 0.6
    block[:, 65000:66000] = True
    for connectivity in (1, 2):
        check(block, connectivity)
        check(block * rng.integers(1, 3, (3, 1), dtype=np.uint8), connectivity)
    assert sizes(components(np.ones(65536, bool), 1)) == 65536


def test_no_number_equals_a_nan():
    block = np.array([[1, np.nan, np.nan, 1], [1, 1, 0, 1]], np.float32)
    np.testing.assert_array_equal(painted(components(block, 1)), [[1, 2, 3, 4], [1, 1, 0, 4]])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "uint64", "float32", "float64"])
def test_painted_with_any_numbers_in_any_box(dtype):
    rng = np.random.default_rng(3)
    for _ in range(30):
        runs, labels = random_runs(rng)
        numbers = rng.integers(0, 100, runs.count + 1).astype(dtype)
        numbers[0] = rng.integers(0, 2)
        ends = [np.sort(rng.integers(0, n + 1, 2)) for n in runs.shape]
        box = tuple((int(a), int(b)) for a, b in ends)
        got = paint(runs, numbers, box)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, numbers[labels][tuple(slice(a, b) for a, b in box)])
        np.testing.assert_array_equal(paint(runs, numbers), numbers[labels])


def test_sizes_and_geometry():
    rng = np.random.default_rng(4)
    for _ in range(60):
        runs, labels = random_runs(rng)
        origin = tuple(int(n) for n in rng.integers(0, 2**33, labels.ndim))
        expected = measurements.geometry(labels, origin)
        got = geometry(runs, origin)
        np.testing.assert_array_equal(sizes(runs), np.bincount(labels.ravel(), minlength=1)[1:])
        for name in ("n", "sum", "low", "high"):
            assert got[name].dtype == np.int64
            np.testing.assert_array_equal(got[name], expected[name].reshape(got[name].shape))


def test_touching():
    rng = np.random.default_rng(5)
    for _ in range(60):
        runs, labels = random_runs(rng)
        before, after = rng.integers(0, 3, (2, labels.ndim))
        shape = tuple(int(n) for n in before + labels.shape + after)
        box = tuple((int(a), int(a + n)) for a, n in zip(before, labels.shape))
        buffer = int(rng.integers(0, 4))
        near = np.zeros(labels.shape, bool)
        for places, (a, _), n in zip(np.indices(labels.shape), box, shape):
            near |= (places + a <= buffer) | (places + a >= n - 1 - buffer)
        mask = rng.random(labels.shape) < 0.9
        everyone = np.arange(1, runs.count + 1)
        got = touching(runs, None, box, shape, buffer)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, np.isin(everyone, labels[near]))
        np.testing.assert_array_equal(touching_mask(runs, mask), np.isin(everyone, labels[~mask]))
        np.testing.assert_array_equal(touching(runs, mask, box, shape, buffer), np.isin(everyone, labels[~mask]))


def test_contacts():
    rng = np.random.default_rng(6)
    for _ in range(150):
        ndim = int(rng.integers(0, 5))
        shape = tuple(int(n) for n in rng.integers(1, {0: 1, 1: 300, 2: 90, 3: 12, 4: 6}[ndim], ndim))
        a, b = rng.integers(0, rng.choice([2, 5, 3000]), (2, *shape)).astype(np.uint32)
        a, b = a * (rng.random(shape) < 0.5), b * (rng.random(shape) < rng.random())
        budget = int(rng.integers(0, ndim + 1))
        expected = set()
        padded = np.pad(b, 1)
        for shift in np.ndindex((3,) * ndim):
            if sum(abs(s - 1) for s in shift) <= budget:
                other = padded[tuple(slice(s, s + n) for s, n in zip(shift, shape))]
                both = (a > 0) & (other > 0)
                expected |= set(zip(a[both].tolist(), other[both].tolist()))
        got = contacts(a, b, budget)
        assert got.dtype == np.int64
        assert got.tolist() == sorted(x << 32 | y for x, y in expected)
