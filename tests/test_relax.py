"""Relaxation in rounds: the fixpoint whatever the order, few tasks at once, stopped and gone on with; reconstruction."""

from __future__ import annotations

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import dask
import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import morphology
from strategies import random_cuts
from test_contract import Array, check_refused

import bigbia
from bigbia.errors import BigbiaError, BigbiaWarning
from bigbia.graph import relax
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.stages import stages_of
from bigbia.hyperstack import hyperstack
from bigbia.io.synthetic import source
from bigbia.kernels import reconstruction as kernel
from bigbia.kernels.reconstruction import reconstructed
from bigbia.morphology.reconstruction import _rule as reconstruction_rule
from bigbia.run.execute import execute

RNG = np.random.default_rng(0)


def relaxations(array):
    return [s for s in stages_of([node_of(array)[0]]) if isinstance(s, relax.Relax)]


def random_images(rng):
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, {1: 40, 2: 15, 3: 8, 4: 5}[ndim], ndim))
    dtype = str(rng.choice(["uint8", "int16", "uint64", "float32", "float64"]))
    mask = (rng.random(shape) * rng.integers(2, 250)).astype(dtype)
    seed = np.minimum(mask, (rng.random(shape) * 250).astype(dtype))
    return np.where(rng.random(shape) < 0.3, seed, mask.min()).astype(dtype), mask, int(rng.integers(1, ndim + 1))


def cut(rng, array):
    return da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape))


def check_random_cases(count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        low, mask, connectivity = random_images(rng)
        footprint = ndi.generate_binary_structure(mask.ndim, connectivity)
        high = np.maximum(mask, mask.max() - low)
        for start, method in ((low, "dilation"), (high, "erosion")):
            expected = morphology.reconstruction(start.astype(float), mask.astype(float), method, footprint)
            words = {"method": method, "connectivity": connectivity}
            eager = bigbia.morphology.reconstruction(start, mask, **words)
            lazy = bigbia.morphology.reconstruction(cut(rng, start), cut(rng, mask), **words)
            np.testing.assert_array_equal(eager, expected)
            np.testing.assert_array_equal(lazy.compute(scheduler="sync"), eager)
            assert lazy.dtype == eager.dtype == mask.dtype


def test_random_cases():
    check_random_cases(25, 0)


@pytest.mark.slow
def test_many_random_cases():
    check_random_cases(1000, 1)


def test_a_way_through_many_blocks():
    """A corridor that winds through all blocks: the seed at its end reaches the other end."""
    volume = source("spiral", (65, 65))
    corridor = volume.read(((0, 65), (0, 65))).astype("u1") * 9
    start = np.zeros_like(corridor)
    first = tuple(np.argwhere(corridor)[0])
    start[first] = 7
    lazy = bigbia.morphology.reconstruction(da.from_array(start, chunks=8), from_source_of(corridor, 8), connectivity=1)
    expected = morphology.reconstruction(start, corridor, footprint=ndi.generate_binary_structure(2, 1))
    np.testing.assert_array_equal(lazy, expected)
    (stage,) = relaxations(lazy)
    assert len(stage.rounds) > 20
    assert stage.rounds[0] == 81
    assert max(stage.rounds[2:]) < 10  # only where something changed


def from_source_of(array, chunks):
    return from_source(Array(array, (chunks,) * array.ndim), chunks)


def test_h_extrema_are_those_of_scikit_image():
    rng = np.random.default_rng(3)
    for dtype in ("uint8", "int16", "float32"):
        array = (ndi.gaussian_filter(rng.random((30, 40)), 1) * 200).astype(dtype)
        for h in (1, 7.0, 2.5, 1000):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pairs = [(getattr(morphology, n)(array, h), n) for n in ("h_maxima", "h_minima")]
            for expected, name in pairs:
                got = getattr(bigbia.morphology, name)(da.from_array(array, chunks=(9, 11)), h)
                np.testing.assert_array_equal(got, expected.astype(bool), err_msg=f"{name} {dtype} {h}")


def test_h_extrema_of_the_whole_range_of_integers():
    array = np.array([[-128, 127, -128, 0, -128, 100, 90, 101]], np.int8)
    expected = morphology.h_maxima(array.astype(np.int32), 200)
    np.testing.assert_array_equal(bigbia.morphology.h_maxima(array, 200), expected)
    np.testing.assert_array_equal(bigbia.morphology.h_maxima(da.from_array(array, chunks=2), 200), expected)


def test_times_and_channels():
    array = RNG.integers(0, 99, (2, 3, 11, 12)).astype("u1")
    stack = hyperstack(da.from_array(array, chunks=(1, 2, 5, 5)), "tcyx")
    got = bigbia.morphology.reconstruction(stack // 2, stack)
    peaks = bigbia.morphology.h_maxima(stack, 30)
    for t in range(2):
        for c in range(3):
            np.testing.assert_array_equal(got[t, c], morphology.reconstruction(array[t, c] // 2, array[t, c]))
            np.testing.assert_array_equal(peaks[t, c], morphology.h_maxima(array[t, c], 30))


def test_live_images():
    array = RNG.integers(0, 99, (20, 21)).astype("u1")
    live = da.from_array(array, chunks=6).map_blocks(lambda b: b, dtype="u1")
    got = bigbia.morphology.reconstruction(live // 2, live)
    np.testing.assert_array_equal(got, morphology.reconstruction(array // 2, array))


def test_a_block_that_is_offered_something_rises_as_if_worked_out_again():
    rng = np.random.default_rng(8)
    for few in (1, 8, 10**9):  # by scans alone, by the queue as far as it goes, by both
        for _ in range(60):
            low, mask, connectivity = random_images(rng)
            if rng.random() < 0.2:
                low, mask = low > low.mean(), mask > 0
                low &= mask
            lowest = rule_of(mask, connectivity).outside
            state = reconstructed(np.pad(low, 1, constant_values=lowest), mask, connectivity)
            at = rng.integers(0, mask.shape, (int(rng.integers(1, 9)), mask.ndim))
            values = rng.permutation(mask.reshape(-1))[:1].repeat(len(at)) if rng.random() < 0.5 else mask[tuple(at.T)]
            offered = state.copy()
            np.maximum.at(offered, tuple(at.T), values)
            expected = reconstructed(np.pad(offered, 1, constant_values=lowest), mask, connectivity)
            with mock.patch.object(kernel, "FEW", few):
                np.testing.assert_array_equal(kernel.raised(state, mask, at, values, connectivity), expected)


def rule_of(image, connectivity):
    return reconstruction_rule(image.dtype, connectivity, False, "here")


# ---- the driver ------------------------------------------------------------------------------------------------------
def smooth(seed, shape=(48, 48)):
    return (ndi.gaussian_filter(np.random.default_rng(seed).random(shape), 2) * 1000).astype("u2")


def test_two_drivers_share_one_limit(monkeypatch):
    at_once, most, lock = [0], [0], threading.Lock()
    step = relax.Relax.step

    def counted(self, index):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.002)
        try:
            return step(self, index)
        finally:
            with lock:
                at_once[0] -= 1

    monkeypatch.setattr(relax.Relax, "step", counted)
    one, two = (da.from_array(smooth(k), chunks=8) for k in (1, 2))
    total = bigbia.morphology.reconstruction(one - 30, one) + bigbia.morphology.reconstruction(two - 30, two)
    with dask.config.set({"bigbia.threads": 2}):
        got = total.compute(scheduler="threads", num_workers=6)
    expected = sum(morphology.reconstruction(smooth(k).astype(float) - 30, smooth(k).astype(float)) for k in (1, 2))
    np.testing.assert_array_equal(got, expected)
    assert 1 <= most[0] <= 2


def test_a_driver_that_fails_stops_and_the_next_goes_on(monkeypatch):
    array = smooth(5)
    lazy = bigbia.morphology.reconstruction(da.from_array(array - 200, chunks=6), da.from_array(array, chunks=6))
    (stage,) = relaxations(lazy)
    steps, fail = [], [90]
    step = relax.Relax.step

    def failing(self, index):
        steps.append(index)
        if len(steps) == fail[0]:
            raise OSError("no luck")
        return step(self, index)

    monkeypatch.setattr(relax.Relax, "step", failing)
    with pytest.raises(BigbiaError, match="no luck"):
        execute([stage], scheduler="threads")
    after = len(steps)
    time.sleep(0.2)
    assert len(steps) == after  # nothing goes on in the background
    done = stage.rounds
    assert done[0] == 64
    steps.clear()
    fail[0] = 0
    execute([stage], scheduler="threads")
    assert stage.rounds[: len(done)] == done
    assert len(steps) == sum(stage.rounds[len(done) :])  # complete rounds were not done again
    np.testing.assert_array_equal(lazy, morphology.reconstruction(array - 200, array))


def test_a_stop_mark_ends_a_driver(monkeypatch):
    array = smooth(6)
    lazy = bigbia.morphology.reconstruction(da.from_array(array - 200, chunks=6), da.from_array(array, chunks=6))
    (stage,) = relaxations(lazy)
    written = []
    keep = relax.Relax._keep

    def kept(self, index, state, **how):
        keep(self, index, state, **how)
        written.append(index)
        if len(written) == 64 + 20:  # the start of every block, and some of the first round
            self.stop()

    monkeypatch.setattr(relax.Relax, "_keep", kept)
    with dask.config.set({"bigbia.threads": 1}), pytest.raises(BigbiaError, match="stopped"):
        execute([stage], scheduler="threads")
    assert len(written) == 84
    np.testing.assert_array_equal(lazy, morphology.reconstruction(array - 200, array))


def test_a_step_that_was_offered_nothing_reads_no_voxels(monkeypatch):
    array = smooth(9)
    read = []
    voxels = relax.Relax.voxels
    monkeypatch.setattr(relax.Relax, "voxels", lambda self, name, index: read.append(name) or voxels(self, name, index))
    lazy = bigbia.morphology.reconstruction(da.from_array(array - 9, chunks=12), da.from_array(array, chunks=12))
    lazy.compute()
    (stage,) = relaxations(lazy)
    assert 0 < len(read) < sum(stage.rounds)
    read.clear()
    same = bigbia.morphology.reconstruction(da.from_array(array, chunks=12), da.from_array(array, chunks=12))
    np.testing.assert_array_equal(same, array)
    assert read == []
    assert relaxations(same)[0].rounds == [16]


@pytest.mark.parametrize("cut_off", [2, 30, 70, 75, 80])
def test_a_step_that_was_done_but_not_recorded_is_still_told_to_the_neighbours(monkeypatch, cut_off):
    """A driver that is cut off with the borders written and its list of the next round not."""
    corridor = source("spiral", (65, 65)).read(((0, 65), (0, 65))).astype("u1") * 9
    start = np.zeros_like(corridor)
    start[tuple(np.argwhere(corridor)[0])] = 7
    lazy = bigbia.morphology.reconstruction(da.from_array(start, chunks=8), da.from_array(corridor, chunks=8))
    (stage,) = relaxations(lazy)
    step, steps = relax.Relax.step, [0]

    def dying(self, index):
        beside = step(self, index)
        steps[0] += bool(beside)
        if steps[0] == cut_off:
            steps[0] += 1
            raise OSError("no luck")
        return beside

    monkeypatch.setattr(relax.Relax, "step", dying)
    with pytest.raises(BigbiaError, match="no luck"):
        execute([stage], scheduler="threads")
    np.testing.assert_array_equal(lazy, morphology.reconstruction(start, corridor))


@pytest.mark.parametrize("patience", [1000.0, 1.0])
def test_one_image_computed_twice_at_once(monkeypatch, patience):
    """As from two threads of a user: the second waits, and finds what the first has done."""
    monkeypatch.setattr(relax, "PATIENCE", patience)
    array = smooth(9)
    steps, step = [], relax.Relax.step

    def counted(self, index):
        steps.append(index)
        time.sleep(0.002)
        return step(self, index)

    monkeypatch.setattr(relax.Relax, "step", counted)
    lazy = bigbia.morphology.reconstruction(da.from_array(array - 200, chunks=8), da.from_array(array, chunks=8))
    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(lazy.compute, scheduler="threads", num_workers=4) for _ in range(3)]
    for result in results:
        np.testing.assert_array_equal(result.result(), morphology.reconstruction(array - 200, array))
    (stage,) = relaxations(lazy)
    assert len(steps) == sum(stage.rounds) >= 36


def test_a_block_that_is_begun_again_undoes_nothing(monkeypatch):
    """A task that the scheduler thought lost, and that ends after the rounds."""
    array = smooth(9)
    lazy = bigbia.morphology.reconstruction(da.from_array(array - 200, chunks=8), da.from_array(array, chunks=8))
    (stage,) = relaxations(lazy)
    read, late = relax.Relax.read_inputs, [True]

    def slow(self, index, blocks=None):
        data = read(self, index, blocks)
        if late:
            late.clear()
            for block in stage.grid.indices():
                stage.start(block, None)
            stage.run("rounds", ())
        return data

    monkeypatch.setattr(relax.Relax, "read_inputs", slow)
    stage.start((3, 3), None)
    assert len(stage.rounds) > 2
    execute([stage], scheduler="threads")
    np.testing.assert_array_equal(lazy, morphology.reconstruction(array - 200, array))


def test_only_the_state_is_left():
    array = smooth(9)
    lazy = bigbia.morphology.reconstruction(da.from_array(array - 9, chunks=12), da.from_array(array, chunks=12))
    lazy.compute()
    (stage,) = relaxations(lazy)
    assert {p.name for p in stage.folder.path.iterdir()} == {"state", "driver.lock", "round", "rounds", "done"}
    rounds = stage.rounds
    for index in stage.grid.indices():  # as a task does that the scheduler thought lost
        stage.start(index, None)
        assert stage.step(index) == []
    stage.run("rounds", ())
    stage._drive()  # as one that was
    assert stage.rounds == rounds
    np.testing.assert_array_equal(lazy, morphology.reconstruction(array - 9, array))


@pytest.mark.cluster
def test_the_rounds_run_on_the_workers(tmp_path):
    from distributed import Client, LocalCluster

    array = smooth(7)
    expected = morphology.reconstruction(array - 200, array)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster),
    ):
        lazy = bigbia.morphology.reconstruction(da.from_array(array - 200, chunks=12), da.from_array(array, chunks=12))
        np.testing.assert_array_equal(lazy.compute(), expected)
        lazy = bigbia.morphology.reconstruction(da.from_array(array - 200, chunks=16), da.from_array(array, chunks=16))
        path = bigbia.save(tmp_path / "o.zarr", hyperstack(lazy, "yx"))
    np.testing.assert_array_equal(bigbia.open(path), expected)


# ---- bad input -------------------------------------------------------------------------------------------------------
A = np.zeros((6, 7), "u1")
REFUSED = {
    "another shape": (lambda a: bigbia.morphology.reconstruction(a, A[:3]), "(3, 7)"),
    "another dtype": (lambda a: bigbia.morphology.reconstruction(a, A.astype("i2")), "int16"),
    "a method": (lambda a: bigbia.morphology.reconstruction(a, a, "opening"), "opening"),
    "connectivity": (lambda a: bigbia.morphology.reconstruction(a, a, connectivity=3), "connectivity=3"),
    "half floats": (lambda a: bigbia.morphology.h_maxima(a.astype("f2"), 1), "float16"),
    "no height": (lambda a: bigbia.morphology.h_maxima(a, 0), "local_maxima"),
    "a mask": (lambda a: bigbia.morphology.h_minima(a > 0, 1), "bool"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_anything_is_read(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BigbiaWarning)
        check_refused(call, A)


def test_a_seed_above_the_mask_and_nan_are_named():
    array = np.zeros((6, 7))
    high = array.copy()
    high[4, 5] = 2
    with pytest.raises(BigbiaError, match=r"nowhere above .* 2.0 .* 0.0 at voxel \(4, 5\)"):
        bigbia.morphology.reconstruction(da.from_array(high, chunks=3), da.from_array(array, chunks=3)).compute()
    high[4, 5] = np.nan
    for image in (high, da.from_array(high, chunks=3)):
        with pytest.raises(BigbiaError, match=r"NaN at voxel \(4, 5\)"):
            np.asarray(bigbia.morphology.h_maxima(image, 1))
